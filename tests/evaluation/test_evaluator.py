"""Evaluation from Python: the parts come together, and mistakes are told at once."""

from pathlib import Path

import numpy as np
import pytest

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation import Describing, EvaluationSettings, Evaluator, ImageSet, SetSettings, set_findings
from i2i.evaluation.pairs import PairMeter, PairSettings, pair_findings

WITHOUT_LPIPS = PairSettings(lpips="off")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sets(tmp_path: Path) -> tuple[ImageSet, ImageSet]:
    random = np.random.default_rng(0)
    for folder in ("made", "real"):
        for number in range(8):
            write_image(tmp_path / folder / f"{number}.png", random.integers(0, 256, (20, 24, 3), np.uint8))
    return ImageSet.find(tmp_path / "made"), ImageSet.find(tmp_path / "real")


def test_one_evaluator_judges_several_sets_as_their_parts_do(sets: tuple[ImageSet, ImageSet]) -> None:
    made, real = sets
    settings = EvaluationSettings(features=("pixels",), pairing=WITHOUT_LPIPS, neighbours=2)
    evaluate = Evaluator(real, settings=settings)
    for generated in (made, real.subset(range(4))):
        found = evaluate(generated)
        parts = set_findings(
            generated, real, settings=SetSettings(features=("pixels",), neighbours=2), describing=Describing()
        ) | pair_findings(generated, real, meter=PairMeter(WITHOUT_LPIPS), describing=Describing())
        assert found.figures == parts.figures and found.missing == parts.missing
        assert set(parts.warnings) == set(found.warnings)
    assert {"psnr", "swd", "precision_pixels"} <= set(found.figures)
    assert "copies" in Evaluator(real, training=made, settings=settings)(made).figures


def test_pairs_can_be_switched_off(sets: tuple[ImageSet, ImageSet]) -> None:
    found = Evaluator(sets[1], settings=EvaluationSettings(features=("none",), pairs="off"))(sets[0])
    assert "psnr" not in found.figures and not found.missing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EvaluationSettings(features=("nothing",)), "nothing is no network"),
        (EvaluationSettings(neighbours=0, features=()), "--neighbours: expected at least 1, got 0"),
        (EvaluationSettings(replicates=1, features=()), "--replicates: expected at least 2, got 1"),
        (EvaluationSettings(usefulness="classes", features=()), "--usefulness needs --training"),
        (EvaluationSettings(groups=Path("none.csv"), features=()), "none.csv cannot be read"),
    ],
)
def test_settings_are_checked_when_it_is_made(
    settings: EvaluationSettings, message: str, sets: tuple[ImageSet, ImageSet]
) -> None:
    with pytest.raises(InputError, match=message):
        Evaluator(sets[1], settings=settings)
