"""The errors that speak to the person who runs i2i, as opposed to the one who wrote it."""


class InputError(ValueError):
    """What a person handed in cannot be used.

    The message says what was expected, what came and what to do; it names the file where there is one.
    The command line prints it without a traceback and exits with 2.
    """


class RunStopped(RuntimeError):
    """A job gave up; the message says why, and what of it is saved.

    The command line prints it without a traceback and exits with 1.
    """
