"""Evaluation from Python: the parts come together, and mistakes are told at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_few_equal_names_are_no_pairs_unless_asked_for(sets: tuple[ImageSet, ImageSet]) -> None:
    made, real = sets
    settings = EvaluationSettings(features=("none",), pairing=WITHOUT_LPIPS)
    by_chance = Evaluator(real.subset(range(3)), settings=settings)(made)
    assert "psnr" not in by_chance.figures and "only 3 of 8 generated images" in by_chance.missing["pairs"]
    asked = Evaluator(real.subset(range(3)), settings=replace(settings, pairs="on"))(made)
    assert asked.figures["psnr"].images == 3
    assert Evaluator(real.subset(range(4)), settings=settings)(made).figures["psnr"].images == 4


def test_pairs_of_other_sizes_do_not_count(sets: tuple[ImageSet, ImageSet]) -> None:
    made, real = sets
    settings = EvaluationSettings(features=("none",), pairing=WITHOUT_LPIPS)
    for file in made.files[5:]:
        write_image(file, np.asarray(Image.open(file))[:-3])
    found = Evaluator(real, settings=settings)(ImageSet.find(made.root))
    assert found.figures["psnr"].images == 5
    (said,) = [warning for warning in found.warnings if "3 of 8 pairs differ in size" in warning]
    assert f"{made.files[5]} has 24 x 17 px, {real.files[5]} 24 x 20 px" in said
    for file in made.files[3:5]:
        write_image(file, np.asarray(Image.open(file))[:-3])
    few = Evaluator(real, settings=settings)(ImageSet.find(made.root))
    assert "psnr" not in few.figures and "5 of 8 pairs differ in size" in few.missing["pairs"]
    with pytest.raises(InputError, match="--pairs on: 5 of 8 pairs differ in size"):
        Evaluator(real, settings=replace(settings, pairs="on"))(ImageSet.find(made.root))


def test_real_images_are_fitted_to_the_generated(sets: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    made, real = sets
    for place, file in enumerate(real.files):
        pixels = np.asarray(Image.open(file))
        write_image(
            tmp_path / "large" / f"{place}.png", np.pad(pixels, ((4, 4), (0, 0), (0, 0))).repeat(2, 0).repeat(2, 1)
        )
    large = ImageSet.find(tmp_path / "large")
    settings = EvaluationSettings(features=("none",), pairing=WITHOUT_LPIPS)
    unfitted = Evaluator(large, settings=settings)(made)
    assert any("give --fit" in warning for warning in unfitted.warnings) and "psnr" not in unfitted.figures
    fitted = Evaluator(large, training=large, settings=replace(settings, fit=True))(made)
    plain = Evaluator(real, settings=settings)(made)
    assert not any("--fit" in warning for warning in fitted.warnings)
    assert fitted.figures["psnr"].value == pytest.approx(plain.figures["psnr"].value, abs=1)
    write_image(tmp_path / "made" / "odd.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"--fit needs generated images of one size; .* 24 x 20 px, .*odd.png 9 x 9 px"
    ):
        Evaluator(large, settings=replace(settings, fit=True))(ImageSet.find(tmp_path / "made"))


def test_copies_are_told_first_and_few_images_last(sets: tuple[ImageSet, ImageSet]) -> None:
    made, real = sets
    settings = EvaluationSettings(features=("none",), pairing=WITHOUT_LPIPS, replicates=10)
    warnings = Evaluator(real, training=made, settings=settings)(made).warnings
    assert warnings[0].startswith("memorised: 8 of 8") and "ew images" in warnings[-1] and len(warnings) >= 3


def test_grey_beside_colour_is_told(sets: tuple[ImageSet, ImageSet]) -> None:
    made, real = sets
    settings = EvaluationSettings(features=("none",), pairing=WITHOUT_LPIPS)
    assert not any("grey" in warning for warning in Evaluator(real, settings=settings)(made).warnings)
    for file in made.files[:3]:
        Image.open(file).convert("L").save(file)
    warnings = Evaluator(real, settings=settings)(made).warnings
    assert any(warning.startswith("3 of 8 generated and 0 of 8 real images are grey") for warning in warnings)


def test_pairs_can_be_switched_off(sets: tuple[ImageSet, ImageSet]) -> None:
    found = Evaluator(sets[1], settings=EvaluationSettings(features=("none",), pairs="off"))(sets[0])
    assert "psnr" not in found.figures and not found.missing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EvaluationSettings(features=("nothing",)), "nothing is no network .* pixels, none, a model"),
        (EvaluationSettings(features=("no/where.pth",)), "--features no/where.pth: there is no such file"),
        (EvaluationSettings(features=("pixels", "none")), "--features none stands alone"),
        (EvaluationSettings(fit=True, usefulness="labels", features=()), "--usefulness needs|--fit cuts photos"),
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
