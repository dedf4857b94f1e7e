"""The sides and widths of maps."""

import ast
from pathlib import Path

import pytest

import i2i
from i2i.errors import InputError
from i2i.layers.sides import sides_up_to, width_at


def test_sides() -> None:
    assert sides_up_to(4) == [4]
    assert sides_up_to(64, least=16) == [4, 8, 16, 32, 64]
    for size, least in ((2, 4), (0, 4), (-8, 4), (12, 4), (8, 16)):
        with pytest.raises(InputError, match=f"expected size to be a power of two of at least {least} px, got {size}$"):
            sides_up_to(size, least=least)


def test_widths() -> None:
    assert [width_at(side, width=48, widest_px=8) for side in (4, 8, 16, 32)] == [48, 48, 24, 12]
    assert [width_at(side, width=3, widest_px=4) for side in (4, 8, 16)] == [3, 1, 1]
    for widest_px in (2, 0, 24):
        with pytest.raises(InputError, match=f"expected widest_px to be .* at least 4 px, got {widest_px}$"):
            width_at(8, width=4, widest_px=widest_px)


@pytest.mark.parametrize("name", ["dcgan", "progressive", "sngan", "stylegan"])
@pytest.mark.parametrize("folder", ["generators", "discriminators"])
def test_networks_that_draw_and_judge_drawings_count_alike(folder: str, name: str) -> None:
    tree = ast.parse((Path(i2i.__file__).parent / folder / f"{name}.py").read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "sides_up_to" in called
    assert not {"bit_count", "bit_length"} & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
