"""Recipes as a person starts them."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def run_recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs recipes/<name>.py with these arguments in this process; gives its exit code."""

    def call(name: str, *arguments: str | Path) -> int:
        recipe = str(RECIPES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [recipe, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(recipe, run_name="__main__")
        return ended.value.code

    return call
