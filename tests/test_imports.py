"""Who may import whom, and what `import i2i` may bring along."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A part may import those from which a path of arrows leads to it, and nothing else of i2i.
ARROWS = """
layers → generators, discriminators → checkpoints → inference → video → cli
layers → data
layers, losses, metrics, data → methods
methods, inference → training → cli
metrics, data, video → evaluation → training, cli
inference, losses, metrics → latents → cli
data.image_io → checkpoints
"""
FOR_ALL = {"errors", "files", "download", "state_dicts", "__version__"}
# What the package offers at its top, and the part that it comes from.
OFFERED = {"load": "inference", "Translator": "inference", "Sampler": "inference"}
OUTSIDE = {"recipes", "tools", "datasets", "tests"}
LIGHT = {"checkpoints", "inference", "latents", "video"}

HEAVY = [
    *("accelerate", "albumentations", "kornia", "timm", "torchmetrics", "matplotlib", "torchvision"),
    *("huggingface_hub", "onnx", "onnxruntime", "onnxscript", "rich", "tyro", "av", "lmdb"),
]


def importable_by_part() -> dict[str, set[str]]:
    """For each part, the parts that it may import: the transitive closure of the arrows."""
    direct: dict[str, set[str]] = {}
    for line in ARROWS.strip().splitlines():
        groups = [[part.strip() for part in group.split(",")] for group in line.split("→")]
        for sources, targets in pairwise(groups):
            for target in targets:
                direct.setdefault(target, set()).update(sources)
    closure: dict[str, set[str]] = {}
    for part in TopologicalSorter(direct).static_order():
        sources = direct.get(part, set())
        closure[part] = sources.union(*(closure[source] for source in sources))
    return closure


def imports(file: Path, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = [*package[: len(package) - level + 1]] if level else []
                base += [module] if module else []
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in names)


def part_of(path: Path) -> str:
    """The part that a file of i2i belongs to; files at the top speak for the package as a whole."""
    match path.parts:
        case ("__main__.py",):
            return "cli"
        case (name,):
            return name.removesuffix(".py")
        case (folder, *_):
            return folder
    raise AssertionError(path)


def fault(importer: str, name: str, allowed: dict[str, set[str]]) -> str | None:
    """What is wrong with `importer` importing the dotted `name`, if anything."""
    top, *rest = name.split(".")
    if top in OUTSIDE:
        return f"i2i never imports {top}"
    if top == "accelerate" and importer in LIGHT:
        return f"{importer} stays light: it never imports accelerate"
    if top != "i2i" or not rest or rest[0] in FOR_ALL:
        return None
    part = OFFERED.get(rest[0], rest[0])
    if importer == "__init__":
        return None if part in OFFERED.values() else f"the package offers only {', '.join(OFFERED)}"
    mine = allowed.get(importer, set())
    if part == importer or part in mine or ".".join(rest[:2]) in mine:
        return None
    return f"{importer} may not import {part}; only: {', '.join(sorted(mine)) or 'nothing'}"


def faults(package: Path) -> list[str]:
    allowed = importable_by_part()
    found = []
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package)
        parents = (package.name, *path.parent.parts)
        for line, name in imports(file, parents):
            wrong = fault(part_of(path), name, allowed)
            if wrong:
                found.append(f"{package.name}/{path.as_posix()}:{line}: import of {name}: {wrong}")
    return found


def test_nothing_imports_against_an_arrow() -> None:
    assert not faults(ROOT / "i2i")


def test_the_walk_sees_the_package() -> None:
    """An empty walk would pass for a clean one."""
    file = ROOT / "i2i" / "inference" / "loading.py"
    names = {name for _, name in imports(file, ("i2i", "inference"))}
    assert {"torch", "i2i.checkpoints.foreign.open_checkpoint", "i2i.inference.sampler.Sampler"} <= names


@pytest.mark.parametrize(
    ("path", "source", "line", "message"),
    [
        ("layers/norm.py", "import torch\nimport i2i.training.loop\n", 2, "layers may not import training"),
        ("generators/unet.py", "from i2i.losses import pixel\n", 1, "generators may not import losses"),
        ("generators/unet.py", "from i2i import load\n", 1, "generators may not import inference"),
        ("generators/unet.py", "from ..discriminators import patch\n", 1, "may not import discriminators"),
        ("checkpoints/store.py", "def f():\n    from i2i import methods\n", 2, "may not import methods"),
        ("checkpoints/store.py", "import i2i.inference\n", 1, "checkpoints may not import inference"),
        ("inference/translator.py", "from i2i.data.folders import find_pairs\n", 1, "may not import data"),
        ("inference/translator.py", "from ..data import folders\n", 1, "inference may not import data"),
        (
            "inference/translator.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from i2i.training import loop\n",
            3,
            "inference may not import training",
        ),
        ("latents/paths.py", "from i2i.training import report\n", 1, "latents may not import training"),
        ("latents/paths.py", "from i2i.methods import base\n", 1, "latents may not import methods"),
        ("inference/sampler.py", "from i2i.latents import slerp\n", 1, "inference may not import latents"),
        ("video/upscale.py", "def f():\n    import accelerate.utils\n", 2, "never imports accelerate"),
        ("methods/pix2pix.py", "from i2i.training import ema\n", 1, "methods may not import training"),
        ("training/loop.py", "from i2i.cli import main\n", 1, "training may not import cli"),
        ("training/loop.py", "from recipes.pix2pix import Settings\n", 1, "never imports recipes"),
        ("cli/train.py", "import tools.benchmark\n", 1, "never imports tools"),
        ("errors.py", "from i2i.layers import norm\n", 1, "errors may not import layers; only: nothing"),
        ("__init__.py", "from .training import loop\n", 1, "the package offers only load, Translator, Sampler"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, path: str, source: str, line: int, message: str) -> None:
    file = tmp_path / "i2i" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    (found,) = faults(tmp_path / "i2i")
    assert found.startswith(f"i2i/{path}:{line}: ")
    assert message in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("layers/norm.py", "import torch\nfrom i2i.errors import InputError\nfrom . import init\n"),
        ("checkpoints/store.py", "from i2i import __version__\nfrom i2i.layers.norm import Norm\n"),
        ("inference/translator.py", "from i2i.data.image_io import read_image\n"),
        ("inference/translator.py", "from i2i.data import image_io\n"),
        ("latents/paths.py", "from i2i.inference.sampler import Sampler\nfrom i2i.metrics import psnr\n"),
        ("training/loop.py", "import accelerate\nfrom i2i import load, losses, generators\n"),
        ("cli/train.py", "from i2i.training import loop\nfrom i2i.video import upscale\n"),
        ("__main__.py", "from i2i.cli import main\n"),
        ("__init__.py", "from i2i.inference.translator import load\n"),
    ],
)
def test_imports_along_the_arrows_are_fine(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "i2i" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    assert faults(tmp_path / "i2i") == []


def modules_after(statements: str) -> set[str]:
    """Names of the top-level modules that a fresh Python has after the statements."""
    code = f"{statements}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_i2i_brings_nothing_along() -> None:
    assert not modules_after("import i2i; i2i.__version__").intersection(["torch", "numpy", *HEAVY])


@pytest.mark.parametrize(
    "statements",
    [
        "import i2i; i2i.load",
        "import i2i; i2i.Translator",
        "import i2i; i2i.latents.project; i2i.latents.AnomalyScorer",
        "from i2i import checkpoints, discriminators, generators, inference, layers; import i2i.data.image_io",
    ],
)
def test_using_a_generator_brings_torch_and_nothing_heavy(statements: str) -> None:
    modules = modules_after(statements)
    assert "torch" in modules
    assert not modules.intersection(HEAVY)


def test_the_package_says_what_it_offers() -> None:
    import i2i

    assert {"load", "Translator", "__version__"} <= set(dir(i2i))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = i2i.nothing_of_the_kind


def test_parts_need_no_import_of_their_own() -> None:
    statements = "import i2i; assert i2i.metrics.psnr and i2i.generators.RRDBGenerator"
    assert "torch" in modules_after(statements)
    assert "torch" not in modules_after("import i2i; assert not hasattr(i2i, '__path') and not hasattr(i2i, 'nothing')")


def test_the_version_is_the_packages() -> None:
    import tomllib

    import i2i

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == i2i.__version__
