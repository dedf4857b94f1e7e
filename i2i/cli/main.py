"""The `i2i` command. Each of its commands is a file beside this one, imported only when it is used."""

import difflib
import importlib
import sys

from i2i import __version__
from i2i.cli.allocation import keep_freed_memory
from i2i.cli.entry import DEBUG, exit_code, parse

# A command's file holds a dataclass `Settings` and a function `main(settings) -> int | None`; its docstring is the
# text of `i2i COMMAND --help`.
COMMANDS = {
    "translate": "translate images and videos: a file, a folder or a pattern",
    "upscale": "enlarge images and videos with a super-resolution network",
    "draw": "draw images with a network trained to make them from noise",
    "evaluate": "say how good generated images or videos are",
    "inspect": "say what a weight file holds, and how that is known",
    "weights": "list well-known public weights, or download some by name",
    "profile": "measure what a generator costs: latency, memory, parameters, operations",
    "card": "fill a generator's model card: what was measured, data, use, limits",
    "export": "write a network as ONNX, and check that it computes the same",
    "blend": "mix the weights of two generators, for a result between theirs",
    "compare": "let people judge, blindly, which of two systems makes the better images",
    "drift": "say whether images that come in are still such as a model was made for",
    "degrade": "show what training for real photos does to images",
}

HELP = f"""\
usage: i2i COMMAND [OPTIONS]

Image-to-image translation: train it, trust it, resume it, import it.

commands:
{"".join(f"  {name:<11}{line}{chr(10)}" for name, line in COMMANDS.items())}
options:
  -h, --help show this help; `i2i COMMAND --help` shows that of a command
  --version  show the version
  {DEBUG}    show the traceback of an error"""


def main() -> None:
    """Run the command that the command line names, and exit as `i2i.cli.entry.exit_code` says."""
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    match arguments:
        case ["-h" | "--help", *_]:
            print(HELP)
        case ["--version", *_]:
            print(f"i2i {__version__}")
        case []:
            sys.exit(HELP)
        case [command, *rest] if command in COMMANDS:
            sys.exit(exit_code(lambda: _start(command, rest), debug=DEBUG in sys.argv[1:]))
        case [unknown, *_]:
            near = difflib.get_close_matches(unknown, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            print(f"i2i has no command {unknown!r}; {hint} See `i2i --help`.", file=sys.stderr)
            sys.exit(2)


def _start(command: str, arguments: list[str]) -> int | None:
    keep_freed_memory()
    module = importlib.import_module(f"i2i.cli.{command}")
    settings = parse(module.Settings, arguments, description=module.__doc__ or "", program=f"i2i {command}")
    return module.main(settings)
