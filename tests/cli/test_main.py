"""The command as a person meets it: help, exit codes, and errors in a sentence."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import i2i
from i2i.cli import main as module
from i2i.cli.entry import exit_code
from i2i.cli.main import COMMANDS
from i2i.cli.overrides import parse_overrides
from i2i.errors import InputError, RunStopped


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "i2i", *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_lists_the_commands_at_once() -> None:
    code = "import sys; from i2i.cli.main import main; sys.argv = ['i2i', '--help']; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, modules = done.stdout.splitlines()
    for name, line in module.COMMANDS.items():
        assert f"  {name:<11}{line}" in text
    assert not {"torch", "tyro", "rich"} & set(modules.split())


@pytest.mark.parametrize("command", module.COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"usage: i2i {command}" in done.stdout
    assert "--debug" in done.stdout


def test_version() -> None:
    assert run("--version").stdout == f"i2i {i2i.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 1, "usage: i2i COMMAND"),
        (("insepct",), 2, "i2i has no command 'insepct'; did you mean inspect?"),
        (("frobnicate",), 2, f"there are {', '.join(COMMANDS)}"),
        (("inspect", "no.pth"), 2, "no.pth: there is no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    for arguments in (("--debug", "inspect", "no.pth"), ("inspect", "no.pth", "--debug")):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" in done.stderr


def test_a_command_file_that_is_broken_is_no_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> SimpleNamespace:
        raise ImportError("a fault of ours")

    monkeypatch.setattr(module.importlib, "import_module", broken)
    monkeypatch.setattr(sys, "argv", ["i2i", "weights"])
    with pytest.raises(ImportError, match="a fault of ours"):
        module.main()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("bad weights"), 2, "bad weights\n"),
        (RunStopped("no more"), 1, "no more\n"),
        (PermissionError(13, "Permission denied", "out.png"), 2, "Permission denied: out.png"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> None:
        raise error

    assert exit_code(start, debug=False) == code
    assert capsys.readouterr().err.startswith(message)


def test_an_interrupt_while_a_command_is_imported_is_told_in_a_word() -> None:
    code = """
import importlib, sys, time
from i2i.cli.main import main
def slow(name):
    print("importing", name, flush=True)
    time.sleep(60)
importlib.import_module, sys.argv = slow, ["i2i", "inspect", "x"]
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing i2i.cli.inspect\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == "Interrupted.\n"


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m i2i weights --json | true; exit ${{PIPESTATUS[0]}}"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=buffered)
    assert done.returncode == 1
    assert done.stderr == ""


def test_overrides_are_json_or_words() -> None:
    assignments = ["num_upsampling_layers=more", "dropout=false", "width=64", "range=[0, 255]", "norm=null", "name=a=b"]
    assert parse_overrides(assignments) == {
        "num_upsampling_layers": "more",
        "dropout": False,
        "width": 64,
        "range": [0, 255],
        "norm": None,
        "name": "a=b",
    }


@pytest.mark.parametrize("assignments", [["dropout"], ["=1"], ["width=1", "width=2"]])
def test_overrides_that_say_nothing_are_refused(assignments: list[str]) -> None:
    with pytest.raises(InputError, match="--set"):
        parse_overrides(assignments)
