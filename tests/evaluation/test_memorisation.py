"""Copies that were planted are found, whatever was done to them, and sets without any pass."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import nn

from i2i.data.streets import make_scene
from i2i.errors import InputError
from i2i.evaluation import Describing, Findings, ImageSet
from i2i.evaluation.memorisation import (
    MemorisationSettings,
    _nearness,
    _Space,
    copy_threshold,
    memorisation_findings,
)
from i2i.evaluation.sets import FeatureDescriber
from i2i.metrics.features import FeatureExtractor

TRAINING, HELD_OUT, MADE = 60, 25, 30


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streets of 48 px: training/, held_out/, and others as an honest generator would make them, in made/."""
    root = tmp_path_factory.mktemp("streets")
    seed = 0
    for name, count in (("training", TRAINING), ("held_out", HELD_OUT), ("made", MADE)):
        (root / name).mkdir()
        for number in range(count):
            Image.fromarray(make_scene(seed, size=48).day).save(root / name / f"{number:03d}.png")
            seed += 1
    return root


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 8, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "exact": lambda image: image,
    "compressed": compressed,
    "mirrored": ImageOps.mirror,
    "smaller": lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC),
    "larger, of another shape": lambda image: image.resize((image.width * 2, image.height), Image.Resampling.BICUBIC),
    "noisy": noisy,
    "brighter": lambda image: Image.fromarray((np.asarray(image) + 25.0).clip(0, 255).astype(np.uint8)),
    "of less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down and compressed": lambda image: compressed(image.transpose(Image.Transpose.ROTATE_180)),
    "mirrored along the diagonal": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "a half": lambda image: image.crop((24, 0, 48, 48)),
    "a quarter, mirrored": lambda image: ImageOps.mirror(image.crop((0, 24, 24, 48))),
    "cut": lambda image: image.crop((2, 1, image.width - 1, image.height - 2)),
    "cut, mirrored and compressed": lambda image: compressed(
        ImageOps.mirror(image.crop((1, 0, image.width - 2, image.height - 1)))
    ),
}


def found(
    generated: Path, training: Path, held_out: Path | None, *, features: tuple[FeatureDescriber, ...] = ()
) -> Findings:
    return memorisation_findings(
        ImageSet.find(generated),
        ImageSet.find(training),
        None if held_out is None else ImageSet.find(held_out),
        settings=MemorisationSettings(replicates=100),
        describing=Describing(threads=2),
        features=features,
    )


@pytest.mark.parametrize("change", CHANGES)
def test_one_planted_copy_is_found(streets: Path, tmp_path: Path, change: str) -> None:
    made = Path(shutil.copytree(streets / "made", tmp_path / "made"))
    CHANGES[change](Image.open(streets / "training" / "017.png")).save(made / "planted.png")
    findings = found(made, streets / "training", streets / "held_out")
    copies = findings.figures["copies"]
    assert copies.value == pytest.approx(1 / (MADE + 1)) and copies.low is not None and copies.low > 0
    (listed,) = findings.details["memorisation"]["copies"]
    assert (listed["generated"], listed["training"]) == ("planted", "017")
    assert findings.warnings[0].startswith(f"memorised: 1 of {MADE + 1} generated images")
    assert "planted from 017" in findings.warnings[0]
    ((title, columns),) = findings.pictures.items()
    assert title == "Closest pairs, nearest first (the first is a copy)"
    assert columns["nearest training image"].shape == (24, 3, 48, 48)
    assert len(columns["generated"]) == MemorisationSettings().shown


@pytest.mark.parametrize("with_held_out", [True, False])
def test_streets_that_were_not_trained_on_are_no_copies(streets: Path, with_held_out: bool) -> None:
    findings = found(streets / "made", streets / "training", streets / "held_out" if with_held_out else None)
    assert findings.figures["copies"].value == 0 and findings.figures["copies"].low == pytest.approx(0)
    assert not [warning for warning in findings.warnings if "few images" not in warning]
    assert findings.details["memorisation"]["copies"] == []
    if with_held_out:
        ratio, area = findings.figures["nearest_ratio"], findings.figures["membership_auroc"]
        assert ratio.low is not None and ratio.high is not None and 0.9 < ratio.low < 1 + 0.05 and ratio.high > 0.97
        assert area.low is not None and area.high is not None and area.low < 0.5 < area.high
        assert area.images == TRAINING + HELD_OUT
    else:
        assert findings.missing.keys() == {"nearest_ratio", "membership_auroc"}


def test_a_generator_that_repeats_its_training_images_is_seen_by_all_figures(streets: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for number in range(0, TRAINING, 2):
        noisy(Image.open(streets / "training" / f"{number:03d}.png")).save(made / f"{number}.png")
    findings = found(made, streets / "training", streets / "held_out")
    assert findings.figures["copies"].value == 1
    assert "and 27 more" in findings.warnings[0]
    area = findings.figures["membership_auroc"]
    assert area.low is not None and area.value > 0.65 and area.low > 0.55
    assert any("membership_auroc" in warning for warning in findings.warnings)
    # Half of the training images have a copy, and they are more than the held-out ones.
    near = findings.figures["nearest_ratio"]
    assert near.high is not None and near.high < 0.3


@pytest.mark.parametrize(("training", "held_out"), [(100, 100), (60, 150), (150, 50)])
def test_nearest_ratio_compares_whatever_the_numbers_of_images(tmp_path: Path, training: int, held_out: int) -> None:
    random = np.random.default_rng(training)
    # Images of a kind: mixtures of a few forms.
    forms = random.uniform(-1, 1, (6, 4, 4, 3))
    made = np.tensordot(random.normal(size=(training + held_out + 100, 6)), forms, 1)
    pictures = (127.5 + 20 * made).clip(0, 255).astype(np.uint8)
    for folder, part in zip(
        ("training", "held_out", "made"), np.split(pictures, [training, training + held_out]), strict=True
    ):
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate(part):
            Image.fromarray(pixels).resize((32, 32)).save(tmp_path / folder / f"{number:04d}.png")
    honest = found(tmp_path / "made", tmp_path / "training", tmp_path / "held_out").figures["nearest_ratio"]
    assert honest.value == pytest.approx(1, abs=0.1)
    copied = found(tmp_path / "training", tmp_path / "training", tmp_path / "held_out").figures["nearest_ratio"]
    assert copied.value < 0.15


def test_two_runs_say_the_same(streets: Path) -> None:
    first, second = (found(streets / "made", streets / "training", streets / "held_out") for _ in range(2))
    assert first.figures == second.figures and first.details == second.details


def test_the_search_shows_how_far_it_is(streets: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    made, training, held_out = (ImageSet.find(streets / name) for name in ("made", "training", "held_out"))
    memorisation_findings(
        made,
        training,
        held_out,
        settings=MemorisationSettings(replicates=2),
        describing=Describing(progress=lambda what, done, total: told.setdefault(what, []).append((done, total))),
    )
    searches = {what: steps[-1] for what, steps in told.items() if what.endswith("beside training images")}
    assert searches == {
        "generated beside training images": (MADE, MADE),
        "training beside training images": (TRAINING, TRAINING),
        "real beside training images": (HELD_OUT, HELD_OUT),
    }


def test_training_images_may_repeat(streets: Path, tmp_path: Path) -> None:
    """Each is there three times: neither are the others no copies for that, nor is it a copy to be like all three."""
    training, made = tmp_path / "training", Path(shutil.copytree(streets / "made", tmp_path / "made"))
    training.mkdir()
    for file in sorted((streets / "training").glob("*.png")):
        for turn in range(3):
            shutil.copy(file, training / f"{file.stem}_{turn}.png")
    compressed(Image.open(streets / "training" / "017.png")).save(made / "planted.png")
    for held_out in (streets / "held_out", None):
        (listed,) = found(made, training, held_out).details["memorisation"]["copies"]
        assert listed["generated"] == "planted" and listed["training"].startswith("017_")


def test_held_out_images_that_were_trained_on_are_named(streets: Path, tmp_path: Path) -> None:
    held_out = Path(shutil.copytree(streets / "held_out", tmp_path / "held_out"))
    shutil.copy(streets / "training" / "003.png", held_out / "leaked.png")
    findings = found(streets / "made", streets / "training", held_out)
    assert any("1 of 26 held-out images are copies of training images" in warning for warning in findings.warnings)
    assert findings.figures["copies"].value == 0


def test_real_images_that_are_those_trained_on_tell_nothing(streets: Path) -> None:
    findings = found(streets / "training", streets / "training", streets / "training")
    assert any("copies cannot be told" in warning for warning in findings.warnings)


def test_generated_images_that_are_the_real_ones_have_a_figure(streets: Path, tmp_path: Path) -> None:
    findings = found(streets / "held_out", streets / "training", streets / "held_out")
    assert 2 < findings.figures["nearest_ratio"].value < 200
    (tmp_path / "one").mkdir()
    shutil.copy(streets / "held_out" / "000.png", tmp_path / "one")
    area = found(streets / "made", streets / "training", tmp_path / "one").figures["membership_auroc"]
    assert np.isfinite(area.value) and area.low is None and area.high is None


def test_side_by_side_halves_and_grey_images(streets: Path, tmp_path: Path) -> None:
    training, made = tmp_path / "training", tmp_path / "made"
    training.mkdir()
    made.mkdir()
    for file in sorted((streets / "training").glob("*.png")):
        photo = Image.open(file).convert("L")
        both = Image.new("L", (96, 48))
        both.paste(ImageOps.invert(ImageOps.flip(photo)), (0, 0))
        both.paste(photo, (48, 0))
        both.save(training / file.name)
    for file in sorted((streets / "made").glob("*.png")):
        Image.open(file).convert("L").save(made / file.name)
    shutil.copy(streets / "training" / "005.png", made / "planted.png")
    Image.open(made / "planted.png").convert("L").save(made / "planted.png")
    findings = memorisation_findings(
        ImageSet.find(made),
        ImageSet.find(training, half="right"),
        None,
        settings=MemorisationSettings(shown=2),
        describing=Describing(threads=2),
    )
    assert [(copy["generated"], copy["training"]) for copy in findings.details["memorisation"]["copies"]] == [
        ("planted", "005")
    ]


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ("turned", ([0, 0, 1, 1], False, 90)),
        ("mirrored along the diagonal", ([0, 0, 1, 1], True, 90)),
        ("a quarter, mirrored", ([0, 0.5, 0.5, 0.5], True, 0)),
    ],
)
def test_the_picture_shows_what_was_copied(
    streets: Path, tmp_path: Path, change: str, how: tuple[list[float], bool, int]
) -> None:
    (tmp_path / "made").mkdir()
    CHANGES[change](Image.open(streets / "training" / "017.png")).save(tmp_path / "made" / "planted.png")
    findings = found(tmp_path / "made", streets / "training", None)
    (listed,) = findings.details["memorisation"]["copies"]
    window, mirrored, degrees = how
    assert listed["left_top_width_height"] == pytest.approx(window, abs=0.05)
    assert (listed["mirrored"], listed["turned_degrees"]) == (mirrored, degrees)
    ((_, columns),) = findings.pictures.items()
    generated, original, alike = (columns[name][0] for name in columns)
    expected = torch.from_numpy(np.array(Image.open(streets / "training" / "017.png"))).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(original, expected, atol=1e-5, rtol=0)
    size = generated.shape[1:]
    shown = torch.nn.functional.interpolate(alike[None], size, mode="area")[0]
    assert (shown - generated).abs().mean() < 0.08


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_of_one_colour_end_in_figures(tmp_path: Path, count: int) -> None:
    for name in ("made", "training", "held_out"):
        (tmp_path / name).mkdir()
        for number in range(max(count, 5 if name == "training" else 1)):
            Image.new("L", (40, 30), 20 * number).save(tmp_path / name / f"{number}.png")
    findings = found(tmp_path / "made", tmp_path / "training", tmp_path / "held_out")
    assert {"copies", "nearest_ratio", "membership_auroc"} == findings.figures.keys()
    assert all(np.isfinite(figure.value) for figure in findings.figures.values())
    assert any("few images" in warning for warning in findings.warnings)


def test_the_correction_counts_as_uncertain() -> None:
    """Of 12 held-out images: intervals hold what honest images have, as often as they say."""
    held = 0
    for seed in range(60):
        rows = torch.randn(260, 6, generator=torch.Generator().manual_seed(seed))
        space = _Space(name="toy", pixels=False, generated=rows[:100], training=rows[100:245], held_out=rows[245:])
        figure = _nearness(space, settings=MemorisationSettings(replicates=200)).figures["nearest_ratio_toy"]
        assert figure.low is not None and figure.high is not None
        held += figure.low <= 1 <= figure.high
    assert held >= 54


def test_features_have_figures_of_their_own(streets: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    extractor = FeatureExtractor(
        slug="toy", key="toy", length=512, compute=lambda images: {"features": network(images)}
    )
    made = Path(shutil.copytree(streets / "made", tmp_path / "made"))
    shutil.copy(streets / "training" / "017.png", made / "planted.png")
    findings = found(made, streets / "training", streets / "held_out", features=(FeatureDescriber(extractor),))
    assert {"copies", "copies_toy", "nearest_ratio_toy", "membership_auroc_toy"} <= findings.figures.keys()
    (listed,) = findings.details["memorisation_toy"]["copies"]
    assert listed["generated"] == "planted" and listed["ratio"] < 0.1
    assert any(warning.startswith("memorised by features of toy: 1 of 31") for warning in findings.warnings)
    assert "Closest pairs by features of toy, nearest first (the first is a copy)" in findings.pictures


def test_few_training_images_tell_nothing(streets: Path, tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    for number in range(4):
        shutil.copy(streets / "training" / f"{number:03d}.png", tmp_path / "training")
    findings = found(streets / "made", tmp_path / "training", streets / "held_out")
    assert not findings.figures and "4 training images; at least 5" in findings.missing["copies"]


def test_channels_must_agree(streets: Path, tmp_path: Path) -> None:
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.zeros((48, 48, 5), np.uint8))
    with pytest.raises(InputError, match=r"has 5 channels, and .* has 3"):
        found(streets / "made", tmp_path, None)


def test_the_threshold_follows_real_images() -> None:
    """Spread widely, they allow less; as near as copies, nothing; and few of them, none."""
    near_one, wide = torch.linspace(0.8, 1.0, 200), torch.linspace(0.55, 1.0, 200)
    assert copy_threshold(among_training=near_one) == 0.45
    expected = torch.quantile(wide, 0.5) * (torch.quantile(wide, 0.05) / torch.quantile(wide, 0.5)) ** 4
    assert copy_threshold(among_training=wide) == pytest.approx(expected.item(), rel=1e-5)
    assert copy_threshold(among_training=torch.cat([near_one, torch.full((90,), 0.02)])) == 0.45
    frames = torch.linspace(0.05, 0.3, 50)
    assert copy_threshold(among_training=near_one, among_held_out=frames) < 0.05
    assert copy_threshold(among_training=near_one, among_held_out=frames[:9]) == 0.45
    # Too few of all to say how near honest images come.
    assert copy_threshold(among_training=near_one[:19], among_held_out=near_one[:19]) == 0.15


@pytest.mark.data
@pytest.mark.parametrize("seed", range(2))
def test_photographs(data_dir: Path, tmp_path: Path, seed: int) -> None:
    """One copy among real photographs of houses, which are like one another."""
    random = np.random.default_rng(seed)
    photos = [
        Image.open(file).convert("RGB").crop((0, 0, 256, 256)) for file in sorted(data_dir.glob("facades/*/*.jpg"))
    ]
    order = random.permutation(len(photos))
    for name, some in (("training", order[:80]), ("held_out", order[80:110]), ("made", order[110:140])):
        (tmp_path / name).mkdir()
        for place in some:
            photos[place].save(tmp_path / name / f"{place}.png")
    assert found(tmp_path / "made", tmp_path / "training", tmp_path / "held_out").figures["copies"].value == 0
    planted = photos[order[seed]].crop((3, 0, 256, 252))
    compressed(ImageOps.mirror(planted)).save(tmp_path / "made" / "planted.png")
    findings = found(tmp_path / "made", tmp_path / "training", tmp_path / "held_out")
    (listed,) = findings.details["memorisation"]["copies"]
    assert (listed["generated"], listed["training"]) == ("planted", str(order[seed]))
