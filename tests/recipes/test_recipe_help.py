"""Every recipe tells its options, among them how held-out images are measured and when to stop."""

from collections.abc import Callable
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.py")))
def test_help(name: str, run_recipe: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recipe(name, "--help") == 0
    printed = capsys.readouterr().out
    options = ("--metrics", "--features", "--measure-every-steps", "--best-metric", "--early-stop-after")
    assert [option for option in options if f" {option} " not in printed] == []
