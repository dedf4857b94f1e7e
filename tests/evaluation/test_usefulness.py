"""Networks trained on shapes as good as real, on noise and on wrongly named ones."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from i2i.data.shapes import CLASSES, draw_shape
from i2i.errors import InputError
from i2i.evaluation import Describing, Findings, ImageSet
from i2i.evaluation.usefulness import (
    LabelledSet,
    UsefulnessSettings,
    class_usefulness_findings,
    label_usefulness_findings,
)

FORMS = (0, 3, 5)  # disc, triangle, cross
SETTINGS = UsefulnessSettings(size_px=16, steps=80, replicates=200)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


def seeds(count: int, *, first: int) -> list[int]:
    """Of shapes of three forms in turn."""
    return [10 * (first + number) + FORMS[number % len(FORMS)] for number in range(count)]


def in_folders(root: Path, count: int, *, first: int) -> ImageSet:
    for number, seed in enumerate(seeds(count, first=first)):
        drawn = draw_shape(seed, size=24)
        folder = root / CLASSES[drawn.label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.image).save(folder / f"{number:04d}.png")
    return ImageSet.find(root)


def as_drawn(
    root: Path, count: int, *, first: int = 5000, noise: bool = False, named: Sequence[str] = CLASSES
) -> ImageSet:
    """As `i2i draw` writes them, with an overview."""
    root.mkdir()
    random = np.random.default_rng(0)
    for number, seed in enumerate(seeds(count, first=first)):
        drawn = draw_shape(seed, size=24)
        image = random.integers(0, 256, drawn.image.shape).astype(np.uint8) if noise else drawn.image
        ending = "_t0.5" if number % 2 else ""
        Image.fromarray(image).save(root / f"{number:06d}_{named[drawn.label]}{ending}.png")
    Image.new("RGB", (300, 200)).save(root / "overview.png")
    return ImageSet.find(root)


def of_classes(generated: ImageSet, training: ImageSet, test: ImageSet) -> Findings:
    return class_usefulness_findings(generated, training, test, settings=SETTINGS, describing=Describing(threads=2))


def test_good_images_are_as_good_as_real_ones_and_noise_is_good_for_nothing(tmp_path: Path) -> None:
    training, test = in_folders(tmp_path / "train", 330, first=0), in_folders(tmp_path / "test", 90, first=1000)
    good = of_classes(as_drawn(tmp_path / "good", 300), training, test)
    trained, real = good.figures["trained_accuracy"], good.figures["real_accuracy"]
    assert real.value > 0.8 and trained.value > real.value - 0.12
    assert trained.images == 90 and trained.low is not None and trained.high is not None
    assert trained.low < trained.value < trained.high or trained.value == 1
    section = good.details["usefulness"]
    assert section["trained_on_images"] == 300 and section["size_px"] == 16 and section["steps"] == 80
    assert section["share_of_real"] == pytest.approx(trained.value / real.value)
    by_class = section["by_class"]
    assert by_class.keys() == {"disc", "triangle", "cross"}
    assert np.mean([each["trained"] for each in by_class.values()]) == pytest.approx(trained.value)

    noise = of_classes(as_drawn(tmp_path / "noise", 300, noise=True), training, test)
    assert noise.figures["real_accuracy"] == real
    assert noise.figures["trained_accuracy"].value < 0.5
    turned = [CLASSES[{0: 3, 3: 5, 5: 0}.get(label, label)] for label in range(10)]
    wrong = of_classes(as_drawn(tmp_path / "wrong", 300, named=turned), training, test)
    assert wrong.figures["trained_accuracy"].value < 0.15
    assert not good.warnings and not noise.warnings


def test_as_many_images_of_each_class_on_both_sides(tmp_path: Path) -> None:
    """Cross is rare in the generated images: it is in the real ones then."""
    training, test = in_folders(tmp_path / "train", 90, first=0), in_folders(tmp_path / "test", 60, first=1000)
    generated = in_folders(tmp_path / "made", 120, first=3000)
    kept = [place for place, name in enumerate(generated.names) if "cross" not in name]
    crosses = [place for place, name in enumerate(generated.names) if "cross" in name][:4]
    findings = of_classes(generated.subset(sorted(kept + crosses)), training, test)
    assert findings.details["usefulness"]["trained_on_images"] == 30 + 30 + 4


def test_a_network_that_learns_nothing_from_real_images_is_no_judge(tmp_path: Path) -> None:
    noise = as_drawn(tmp_path / "noise", 60, noise=True)
    findings = of_classes(as_drawn(tmp_path / "made", 60), noise, in_folders(tmp_path / "test", 60, first=0))
    assert "hardly better than chance" in findings.warnings[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("lacking", "made: generated images lack classes that training images have .cross."),
        ("strange", "made: generated images have classes that training images do not have .star."),
        ("strange test", "test: test images have classes that training images do not have .heart."),
        ("one class", "train: expected images of two classes or more, got disc alone"),
        ("nameless", "photo.png does not say its class; expected a folder for each class"),
    ],
)
def test_classes_must_agree(tmp_path: Path, spoil: str, message: str) -> None:
    for name in ("made", "train", "test"):
        in_folders(tmp_path / name, 6, first=0)
    match spoil:
        case "lacking":
            shutil.rmtree(tmp_path / "made" / "cross")
        case "strange":
            (tmp_path / "made" / "cross").rename(tmp_path / "made" / "star")
            shutil.copytree(tmp_path / "train" / "cross", tmp_path / "made" / "cross")
        case "strange test":
            (tmp_path / "test" / "cross").rename(tmp_path / "test" / "heart")
        case "one class":
            shutil.rmtree(tmp_path / "train" / "cross")
            shutil.rmtree(tmp_path / "train" / "triangle")
        case "nameless":
            shutil.rmtree(tmp_path / "made")
            (tmp_path / "made").mkdir()
            Image.new("RGB", (24, 24)).save(tmp_path / "made" / "photo.png")
    sets = [ImageSet.find(tmp_path / name) for name in ("made", "train", "test")]
    with pytest.raises(InputError, match=message):
        of_classes(*sets)


def labelled(root: Path, count: int, *, first: int, noise: bool = False, first_id: int = 0) -> LabelledSet:
    """Shapes on their background, with label maps of twice the size, in which some pixels are of no class."""
    random = np.random.default_rng(0)
    for number, seed in enumerate(seeds(count, first=first)):
        drawn, large = draw_shape(seed, size=32), draw_shape(seed, size=64)
        ids = (large.coverage > 0.5).astype(np.uint8) * (1 + FORMS.index(drawn.label)) + first_id
        ids[:3] = 255
        for folder, image in (
            ("images", random.integers(0, 256, drawn.image.shape).astype(np.uint8) if noise else drawn.image),
            ("labels", ids),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / folder / f"{number:04d}.png")
    return LabelledSet(images=ImageSet.find(root / "images"), labels=ImageSet.find(root / "labels"), first_id=first_id)


def of_labels(generated: LabelledSet, training: LabelledSet, test: LabelledSet) -> Findings:
    return label_usefulness_findings(
        generated,
        training,
        test,
        settings=UsefulnessSettings(size_px=32, steps=240, replicates=200),
        describing=Describing(threads=2),
    )


def test_segmenters_learn_from_good_images_and_not_from_noise(tmp_path: Path) -> None:
    training, test = labelled(tmp_path / "train", 160, first=0), labelled(tmp_path / "test", 60, first=1000, first_id=1)
    good = of_labels(labelled(tmp_path / "good", 150, first=3000, first_id=2), training, test)
    trained, real = good.figures["trained_miou"], good.figures["real_miou"]
    assert real.value > 0.4 and trained.value > 0.8 * real.value
    assert trained.low is not None and trained.high is not None and trained.low < trained.value < trained.high
    section = good.details["usefulness"]
    assert section["trained_on_images"] == 150 and section["class_iou"].keys() == {"0", "1", "2", "3"}
    assert np.mean([each["real"] for each in section["class_iou"].values()]) == pytest.approx(real.value)
    noise = of_labels(labelled(tmp_path / "noise", 150, first=3000, noise=True), training, test)
    assert noise.figures["real_miou"] == real
    assert noise.figures["trained_miou"].value < 0.3
    assert not good.warnings


def test_label_maps_must_agree(tmp_path: Path) -> None:
    some, strange = labelled(tmp_path / "some", 6, first=0), labelled(tmp_path / "strange", 6, first=0, first_id=2)
    strange = LabelledSet(images=strange.images, labels=strange.labels)
    with pytest.raises(InputError, match="of generated images go up to class 5, and those of training images up to 3"):
        of_labels(strange, some, some)
    other = LabelledSet(
        images=in_folders(tmp_path / "other", 6, first=0), labels=ImageSet.find(tmp_path / "some" / "labels")
    )
    other = LabelledSet(images=other.images.subset([0]), labels=other.labels.subset([5]))
    with pytest.raises(InputError, match=r"no real image in .* is called like a label map"):
        of_labels(some, some, other)


@pytest.mark.parametrize(
    ("settings", "message"), [({"size_px": 4}, "at least 8 px"), ({"steps": 0}, "at least 1 step")]
)
def test_no_such_settings(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        UsefulnessSettings(**settings)  # type: ignore[arg-type]
