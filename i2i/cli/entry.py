"""How every command and recipe starts: typed settings from the command line, errors as sentences."""

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import TypeVar

from i2i.errors import InputError, RunStopped

Settings = TypeVar("Settings")

DEBUG = "--debug"


def run(main: Callable[[Settings], int | None], default: Settings, *, description: str) -> None:
    """Parse a recipe's command line over `default`'s fields, call `main` and exit as `exit_code` says.

    Args:
        main: takes the settings.
        default: a dataclass instance; each field becomes an option.
        description: shown by `--help`.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]

    def start() -> int | None:
        return main(parse(type(default), arguments, default=default, description=description))

    sys.exit(exit_code(start, debug=DEBUG in sys.argv[1:]))


def parse(
    settings: type[Settings],
    arguments: Sequence[str],
    *,
    description: str,
    default: Settings | None = None,
    program: str | None = None,
) -> Settings:
    """Settings from command-line arguments; `--help` and unusable arguments end the process.

    Args:
        settings: a dataclass; each field becomes an option, or an argument where it is a `tyro.conf.Positional`.
        arguments: without the program's name.
        description: shown by `--help`.
        default: values of the fields that are not given; None: those of the dataclass.
        program: what `--help` calls the command; None: the script's name.
    """
    import tyro

    return tyro.cli(
        settings,
        default=tyro.MISSING_NONPROP if default is None else default,
        args=arguments,
        prog=program,
        description=f"{description.strip()}\n\n{DEBUG} shows the traceback of an error.",
        config=(tyro.conf.OmitArgPrefixes,),
    )


def refuse(settings: object, names: Iterable[str], *, why: str) -> None:
    """Raise InputError where such fields of a dataclass are not as by default, and would be without effect."""
    if given := _given(settings, names):
        are, them = ("is", "it") if len(given) == 1 else ("are", "them")
        raise InputError(f"{', '.join(given)} {are} {why}; leave {them} out")


def refuse_without(option: str, settings: object, names: Iterable[str]) -> None:
    """As `refuse`, where an option is not given that they go with."""
    if given := _given(settings, names):
        need, them = ("needs", "it") if len(given) == 1 else ("need", "them")
        raise InputError(f"{', '.join(given)} {need} {option}; give that, too, or leave {them} out")


def _given(settings: object, names: Iterable[str]) -> list[str]:
    defaults = {field.name: field.default for field in fields(settings)}  # type: ignore[arg-type]
    return [f"--{name.replace('_', '-')}" for name in names if getattr(settings, name) != defaults[name]]


def exit_code(start: Callable[[], int | None], *, debug: bool) -> int:
    """Call `start`, tell errors in a sentence, and return the code to exit with.

    What `start` returns (None is 0); 2 for input that cannot be used or a file that cannot be written; 1 for a run
    that had to stop; 130 when interrupted. With `debug`, errors show their traceback.
    """
    try:
        code = start() or 0
        sys.stdout.flush()  # here rather than at exit, where a closed pipe would be no error of ours any more
        return code
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its exit
        return 1
    except (InputError, RunStopped, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            print(_sentence(error), file=sys.stderr)
        return 1 if isinstance(error, RunStopped) else 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return (
            f"{error.strerror or error}: {error.filename or 'a file'}. Anything saved before is intact: put it right "
            "(free some space, or name another place), and the same command goes on."
        )
    return str(error)
