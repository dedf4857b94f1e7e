"""The errors that speak to the person who runs i2i, as opposed to the one who wrote it."""


class InputError(ValueError):
    """What a person handed in cannot be used.

    The message says what was expected, what came and what to do; it names the file where there is one.
    The command line prints it without a traceback and exits with 2.
    """


class MissingWeights(InputError):
    """A network's weights, which nobody handed in, cannot be fetched.

    Attributes:
        reason: which they are, where they are published and how to hand them in: the same on every machine, so that
            reports can say it.
        here: why this machine could not get them, with its paths, for the person before it.
    """

    def __init__(self, reason: str, *, here: str = "") -> None:
        super().__init__(f"{reason}. {here}" if here else reason)
        self.reason = reason
        self.here = here


class RunStopped(RuntimeError):
    """A job gave up; the message says why, and what of it is saved.

    The command line prints it without a traceback and exits with 1.
    """
