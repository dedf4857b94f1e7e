"""Figures of two sets of image files, against the same figures of tensors, and what is said of doubtful sets."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.measure import block_reduce
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from i2i.errors import InputError
from i2i.evaluation import Describing, FeatureDescriber, Findings, ImageSet, SetSettings, set_findings, sets
from i2i.evaluation.sets import load_networks
from i2i.metrics import (
    Classifier,
    MissingWeights,
    inception_score,
    join_descriptors,
    kernel_distance,
    load_features,
    neighbour_scores,
    patch_descriptors,
    sliced_wasserstein,
)
from i2i.metrics.classifier import save_classifier
from i2i.metrics.meanings import MEANINGS, good_end


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


def write_set(folder: Path, count: int, *, size: int = 48, blur: float = 0.0, seed: int = 0) -> ImageSet:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for number in range(count):
        coarse = random.uniform(0, 255, (5, 5, 3)).astype(np.float32)
        pixels = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) + random.normal(0, 15, (size, size, 3))
        if blur:
            pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels.clip(0, 255).astype(np.uint8))
    return ImageSet.find(folder)


def compared(generated: ImageSet, real: ImageSet, *features: str, **named: int) -> Findings:
    settings = SetSettings(features=features, **named)
    return set_findings(generated, real, settings=settings, describing=Describing(threads=2))


def tensors(images: ImageSet) -> Tensor:
    return torch.stack([images.read(index) for index in range(len(images))])


def test_figures_of_files_are_those_of_their_pixels(tmp_path: Path) -> None:
    generated = write_set(tmp_path / "generated", 60, blur=1.0, seed=1)
    real = write_set(tmp_path / "real", 70)
    found = compared(generated, real, "pixels")
    assert not found.missing
    # Means of 3 × 3 blocks, channel by channel.
    fake_rows, true_rows = (
        torch.from_numpy(block_reduce(tensors(images).numpy(), (1, 1, 3, 3), np.mean)).flatten(1)
        for images in (generated, real)
    )
    figures = {name: figure.value for name, figure in found.figures.items()}
    statistics = [fid_features_to_statistics(rows.double()) for rows in (fake_rows, true_rows)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert figures["frechet_pixels"] == pytest.approx(expected, rel=1e-4)
    expected = kernel_distance(fake_rows, true_rows)[0]
    assert figures["kernel_pixels"] == pytest.approx(expected, rel=1e-3)
    for name, scores in neighbour_scores(fake_rows, true_rows).items():
        assert figures[f"{name}_pixels"] == pytest.approx(scores.mean().item())
    descriptors = [
        join_descriptors([patch_descriptors(image[None]) for image in tensors(images)]) for images in (real, generated)
    ]
    for name, value in sliced_wasserstein(*descriptors).items():
        assert figures[name] == pytest.approx(value, rel=1e-3)
    # Blurred images lack details, and little else.
    assert figures["swd_0"] > 5 * figures["swd_low"]
    assert figures["variety"] == pytest.approx(1, abs=0.1)


def test_figures_have_intervals_meanings_and_ends(tmp_path: Path) -> None:
    generated, real = write_set(tmp_path / "generated", 40, seed=1), write_set(tmp_path / "real", 30)
    found = compared(generated, real, "pixels")
    assert set(found.figures) == {
        *("variety", "swd", "swd_0", "swd_low", "frechet_pixels", "kernel_pixels"),
        *("precision_pixels", "recall_pixels", "density_pixels", "coverage_pixels"),
    }
    for name, figure in found.figures.items():
        assert figure.low is not None and figure.high is not None and figure.images == 40
        assert figure.low <= figure.value <= figure.high and figure.low < figure.high
        assert good_end(name) is not None and any(name.startswith(known) for known in MEANINGS)


def test_a_classifiers_logits_give_an_inception_score(tmp_path: Path) -> None:
    generated, real = write_set(tmp_path / "generated", 40, seed=1), write_set(tmp_path / "real", 30)
    classifier = Classifier(classes=5, width=4).eval()
    save_classifier(classifier, tmp_path / "judge.safetensors")
    found = compared(generated, real, str(tmp_path / "judge.safetensors"))
    expected = inception_score(classifier(tensors(generated)))[0]
    assert found.figures["inception_score_judge"].value == pytest.approx(expected, rel=1e-4)
    few = compared(generated.subset(range(15)), real, str(tmp_path / "judge.safetensors"))
    assert "at least 20 generated images, got 15" in few.missing["inception_score_judge"]
    assert "frechet_judge" in few.figures


def test_two_runs_find_the_same_to_the_last_bit(tmp_path: Path) -> None:
    generated, real = write_set(tmp_path / "generated", 40, seed=1), write_set(tmp_path / "real", 30)
    first = compared(generated, real, "pixels")
    assert compared(generated, real, "pixels") == first
    shutil.rmtree(tmp_path / "cache")
    again = set_findings(generated, real, settings=SetSettings(features=("pixels",)), describing=Describing(threads=1))
    assert again == first


def test_what_images_are_called_does_not_matter(tmp_path: Path) -> None:
    generated, real = write_set(tmp_path / "generated", 40, seed=1), write_set(tmp_path / "real", 30)
    (tmp_path / "renamed" / "below").mkdir(parents=True)
    for number, file in enumerate(generated.files):
        shutil.copy(file, tmp_path / "renamed" / ("below" if number % 3 else "") / f"{number * 17 % 40}.png")
    found, again = (compared(images, real, "pixels") for images in (generated, ImageSet.find(tmp_path / "renamed")))
    assert {name: figure.value for name, figure in again.figures.items()} == pytest.approx(
        {name: figure.value for name, figure in found.figures.items()}, rel=1e-6
    )


def test_varietys_error_is_the_jackknifes(tmp_path: Path) -> None:
    rows = [torch.randn(40, 12, dtype=torch.float64), 1.2 * torch.randn(30, 12, dtype=torch.float64)]
    mean = [torch.pdist(row).mean() for row in rows]
    without = [
        torch.stack([torch.pdist(row[torch.arange(len(row)) != image]).mean() for image in range(len(row))])
        for row in rows
    ]
    variance = sum(
        (len(part) - 1) ** 2 / len(part) * (part / whole).var() for part, whole in zip(without, mean, strict=True)
    )
    figure = sets._variety(*rows).figures["variety"]
    assert figure.value == pytest.approx((mean[0] / mean[1]).item())
    assert figure.high is not None
    assert figure.high - figure.value == pytest.approx(1.96 * figure.value * float(variance) ** 0.5, rel=0.05)
    assert sets._variety(rows[0][:9], rows[1]).figures["variety"].low is None


def test_doubtful_sets_are_warned_of(tmp_path: Path) -> None:
    real = write_set(tmp_path / "real", 12)
    generated = write_set(tmp_path / "generated", 10, seed=1, size=40)
    for number in (3, 5, 8):
        shutil.copy(real.files[number], tmp_path / "generated" / f"{number:03d}.png")
    warnings = compared(generated, real).warnings
    assert len(warnings) == 4
    few, counts, copies, sizes = warnings
    assert "10 generated and 12 real" in few and "fewer than 10,000" in few and "equally many" in few
    assert "differ in number" in counts
    assert copies.startswith("3 of the generated images are in the real set too")
    assert "40 x 40 px" in sizes and "48 x 48 px" in sizes


def test_good_sets_are_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "FEW_IMAGES", 10)
    generated, real = write_set(tmp_path / "generated", 12, seed=1), write_set(tmp_path / "real", 12)
    assert compared(generated, real).warnings == ()


def test_missing_weights_leave_the_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = write_set(tmp_path / "generated", 12, seed=1), write_set(tmp_path / "real", 12)

    def missing(name: str, **named: object) -> object:
        if name == "pixels":
            return load_features(name)
        raise MissingWeights(f"get the weights of {name} there", here=f"or put them at /home/{name}")

    monkeypatch.setattr(sets, "load_features", missing)
    found = compared(generated, real, "inception", "dinov2", "pixels")
    kinds = ("precision", "recall", "density", "coverage")
    assert {name for name, why in found.missing.items() if why == "get the weights of inception there"} == {
        *("fid", "kid", "inception_score"),
        *kinds,
    }
    assert {name for name, why in found.missing.items() if why == "get the weights of dinov2 there"} == {
        *("frechet_dinov2", "kernel_dinov2"),
        *(f"{kind}_dinov2" for kind in kinds),
    }
    assert found.hints == ("or put them at /home/inception", "or put them at /home/dinov2")
    assert {"swd", "variety", "frechet_pixels"} <= set(found.figures)


def test_weights_that_are_named_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a mistake ends the evaluation, before anything else is fetched."""

    def fetched(url: str, path: Path) -> None:
        raise AssertionError(url)

    monkeypatch.setattr("i2i.metrics.features.download", fetched)
    (tmp_path / "other.pth").write_bytes(b"other")
    for name, message in (
        ("mistyped.pth", r"mistyped\.pth: there is no such file"),
        ("other.pth", "is no weight file"),
    ):
        weights = (tmp_path / name,)
        with pytest.raises(InputError, match=message) as refused:
            load_networks(SetSettings(features=("resnet18",), feature_weights=weights))
        assert not isinstance(refused.value, MissingWeights)
    with pytest.raises(InputError, match=r"mistyped\.pth: there is no such file; expected the weights of resnet18"):
        load_networks(
            SetSettings(
                features=("pixels", "resnet18"), feature_weights=(tmp_path / "other.pth", tmp_path / "mistyped.pth")
            )
        )


def test_five_channels_have_the_figures_that_need_no_colours(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("generated", "real"):
        (tmp_path / name).mkdir()
        for number in range(8):
            np.save(tmp_path / name / f"{number}.npy", random.integers(0, 60000, (32, 32, 5), dtype=np.uint16))
    judge = tmp_path / "judge.safetensors"
    save_classifier(Classifier(classes=3, width=4), judge)
    found = compared(ImageSet.find(tmp_path / "generated"), ImageSet.find(tmp_path / "real"), "pixels", str(judge))
    assert {"swd", "variety", "frechet_pixels", "precision_pixels"} <= set(found.figures)
    assert "needs images of 3 channels, and these have 5" in found.missing["frechet_judge"]


@pytest.mark.parametrize(("count", "size", "missing"), [(1, 32, {"variety", "frechet_pixels"}), (8, 12, {"swd"})])
def test_what_few_or_tiny_images_cannot_say_is_missing(
    tmp_path: Path, count: int, size: int, missing: set[str]
) -> None:
    generated = write_set(tmp_path / "generated", count, size=size, seed=1)
    real = write_set(tmp_path / "real", count, size=size)
    found = compared(generated, real, "pixels")
    assert missing <= set(found.missing) and not missing & set(found.figures)
    assert ("swd" if count == 1 else "frechet_pixels") in found.figures


def test_large_sets_have_fewer_patches_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own number: what is known of real images is so, whatever is held against them."""
    monkeypatch.setattr(sets.wasserstein, "PATCHES", 64)
    asked = []
    original = patch_descriptors

    def noting(images: Tensor, **named: int) -> dict[str, Tensor]:
        asked.append(named["patches_per_image"])
        return original(images, **named)

    monkeypatch.setattr(sets.wasserstein, "patch_descriptors", noting)
    compared(write_set(tmp_path / "generated", 4, seed=1), write_set(tmp_path / "real", 9))
    assert set(asked) == {64 // 4, 64 // 9}
    kept = set((tmp_path / "cache" / "statistics").iterdir())
    compared(write_set(tmp_path / "more", 6, seed=1), ImageSet.find(tmp_path / "real"))
    assert set((tmp_path / "cache" / "statistics").iterdir()) == kept


def test_real_images_without_anything_in_them_measure_nothing(tmp_path: Path) -> None:
    """Instead of figures in the millions."""
    generated = write_set(tmp_path / "generated", 12, seed=1)
    (tmp_path / "flat").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "flat" / f"{number}.png"), np.full((48, 48, 3), 90, np.uint8))
    found = compared(generated, ImageSet.find(tmp_path / "flat"))
    assert found.figures == {} and "all alike" in found.missing["variety"]
    assert "nothing varies in a channel of the real images at level 0, low" in found.missing["swd"]
    # Uniform images of different colours lack details, and vary.
    for number in range(12):
        cv2.imwrite(str(tmp_path / "flat" / f"{number}.png"), np.full((48, 48, 3), 20 * number, np.uint8))
    found = compared(generated, ImageSet.find(tmp_path / "flat"))
    assert set(found.figures) == {"variety"} and "at level 0," in found.missing["swd_0"]
    assert {"swd", "variety"} <= set(compared(ImageSet.find(tmp_path / "flat"), generated).figures)


def test_equal_sets_are_surely_equal(tmp_path: Path) -> None:
    images = write_set(tmp_path / "images", 12)
    for name, figure in compared(images, images).figures.items():
        assert figure.value == (1 if name == "variety" else 0), name
        assert figure.low is not None and figure.high is not None
        if name != "variety":
            assert figure.low == figure.high == 0


def test_what_is_over_some_images_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "KEPT", 10)
    warnings = compared(write_set(tmp_path / "generated", 12, seed=1), write_set(tmp_path / "real", 9)).warnings
    assert "All figures of sets but Fréchet distances are over 10 of 12 generated images, evenly spread." in warnings


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images = write_set(tmp_path / "images", 3)
    for settings, said in (
        (SetSettings(features=("pixels",), feature_weights=(tmp_path, tmp_path)), "at most one --feature-weights"),
        (SetSettings(features=("a/judge.safetensors", "b/judge.safetensors")), "names judge twice"),
    ):
        with pytest.raises(InputError, match=said):
            set_findings(images, images, settings=settings, describing=Describing())


def test_a_describer_of_features_gives_them_in_order(tmp_path: Path) -> None:
    images = write_set(tmp_path / "images", 20)
    extractor = load_features("pixels")
    described = Describing(threads=2).of(images, FeatureDescriber(extractor), what="images")
    torch.testing.assert_close(described.rows["features"], extractor(tensors(images))["features"])
    assert described.moments["features"].mean.shape == (768,)


def test_images_of_different_channels_are_refused(tmp_path: Path) -> None:
    images = write_set(tmp_path / "images", 3)
    np.save(tmp_path / "images" / "five.npy", np.zeros((48, 48, 5), np.uint8))
    mixed = ImageSet.find(tmp_path / "images")
    with pytest.raises(InputError, match="numbers of channels"):
        compared(mixed, images)
    with pytest.raises(InputError, match="as many channels as load_features was told"):
        Describing().of(mixed, FeatureDescriber(load_features("pixels")), what="images")


@pytest.mark.data
def test_facades_against_label_maps_and_against_themselves(data_dir: Path, tmp_path: Path) -> None:
    """Photographs of two halves of the test set are near to each other; label maps are far from photographs."""
    photos = ImageSet.find(data_dir / "facades" / "test", half="left")
    labels = ImageSet.find(data_dir / "facades" / "test", half="right")
    halves = photos.subset(range(40)), photos.subset(range(40, 80))
    near = compared(*halves, "pixels").figures
    far = compared(labels.subset(range(40)), halves[1], "pixels").figures
    for name in ("swd", "frechet_pixels", "kernel_pixels"):
        assert near[name].high is not None and far[name].low is not None
        assert near[name].high < far[name].low
    kernel = near["kernel_pixels"]
    assert kernel.low is not None and kernel.high is not None and kernel.low < 0.05 and kernel.high > -0.05
    assert near["precision_pixels"].value > 0.5 > far["precision_pixels"].value
    assert near["variety"].value == pytest.approx(1, abs=0.2)
