"""How every command and recipe starts: typed settings from the command line, errors as sentences."""

import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from i2i.errors import InputError, RunStopped

Settings = TypeVar("Settings")


def run(main: Callable[[Settings], int | None], default: Settings, *, description: str) -> None:
    """Parse the command line over `default`'s fields, call `main` and exit.

    Exit codes: what `main` returns (None is 0); 2 for input that cannot be used or a file that cannot be written;
    1 for a run that had to stop; 130 when interrupted. Those are told in a sentence; `--debug` shows the traceback.

    Args:
        main: takes the settings.
        default: a dataclass instance; each field becomes an option.
        description: shown by `--help`.
    """
    import tyro

    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    settings = tyro.cli(
        type(default),
        default=default,
        args=arguments,
        description=f"{description}\n\n--debug shows the traceback of an error.",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        code = main(settings) or 0
    except (InputError, RunStopped, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            print(_sentence(error), file=sys.stderr)
        code = 1 if isinstance(error, RunStopped) else 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        code = 130
    sys.exit(code)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return (
            f"{error.strerror or error}: {error.filename or 'a file'}. Anything saved before is intact: put it right "
            "(free some space, or give another --out), and the same command goes on."
        )
    return str(error)
