"""Figures of pairs against scikit-image and NumPy, read from files as a person has them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation import Describing, Findings, ImageSet
from i2i.evaluation.pairs import PairMeter, PairSettings, pair_findings
from i2i.metrics import ms_ssim
from i2i.metrics.perceptual import load_lpips

WITHOUT_LPIPS = PairSettings(lpips="off")
SCIKIT_IMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def write(folder: Path, images: dict[str, np.ndarray]) -> ImageSet:
    for name, image in images.items():
        write_image(folder / name, image)
    return ImageSet.find(folder)


def some(
    shape: tuple[int, ...], *, count: int = 3, dtype: type = np.uint8
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(0)
    highest = np.iinfo(dtype).max
    real = [random.integers(0, highest, shape).astype(dtype) for _ in range(count)]
    noise = [random.integers(-highest // 16, highest // 16, shape) for _ in range(count)]
    return [np.clip(image + one, 0, highest).astype(dtype) for image, one in zip(real, noise, strict=True)], real


def findings(tmp_path: Path, made: list[np.ndarray], real: list[np.ndarray], settings: PairSettings) -> Findings:
    return pair_findings(
        write(tmp_path / "made", {f"{place}.png": image for place, image in enumerate(made)}),
        write(tmp_path / "real", {f"{place}.tif": image for place, image in enumerate(real)}),
        meter=PairMeter(settings),
        describing=Describing(),
    )


@pytest.mark.parametrize("y_channel", [False, True])
@pytest.mark.parametrize("crop_border", [0, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_they_are_scikit_images_mean(dtype: type, crop_border: int, y_channel: bool, tmp_path: Path) -> None:
    made, real = some((30, 41, 3), dtype=dtype)
    settings = PairSettings(lpips="off", y_channel=y_channel, crop_border=crop_border)
    found = findings(tmp_path, made, real, settings)
    inner = slice(crop_border, -crop_border or None)
    expected = []
    for one, other in zip(made, real, strict=True):
        one, other = (image.astype(np.float64) / np.iinfo(dtype).max for image in (one, other))
        if y_channel:
            one, other = (rgb2ycbcr(image)[..., :1] / 255 for image in (one, other))
        one, other = one[inner, inner], other[inner, inner]
        expected.append(
            {
                "psnr": peak_signal_noise_ratio(other, one, data_range=1),
                "ssim": structural_similarity(one, other, channel_axis=2, data_range=1, **SCIKIT_IMAGE),
                "l1": np.abs(one - other).mean(),
            }
        )
    for name in ("psnr", "ssim", "l1"):
        values = [figures[name] for figures in expected]
        figure = found.figures[name]
        assert figure.value == pytest.approx(np.mean(values), rel=1e-5)
        assert figure.low is not None and figure.high is not None and figure.images == 3
        assert min(values) - 1e-4 <= figure.low <= figure.value <= figure.high <= max(values) + 1e-4
        images = found.details["pairs"]["images"]
        assert [images[str(place)][name] for place in range(3)] == pytest.approx(values, rel=1e-5)


def test_sixteen_bits_are_compared_at_their_depth(tmp_path: Path) -> None:
    real = np.random.default_rng(0).integers(0, 65535, (20, 20, 1)).astype(np.uint16)
    found = findings(tmp_path, [real + 1], [real], WITHOUT_LPIPS)
    assert found.figures["psnr"].value == pytest.approx(20 * np.log10(65535), abs=0.01)


def test_ms_ssim_and_sharpness(tmp_path: Path) -> None:
    made, real = some((176, 180, 3), count=2)
    found = findings(tmp_path, made, real, WITHOUT_LPIPS)
    batches = [torch.from_numpy(np.stack(images)).movedim(-1, 1).double() / 255 for images in (made, real)]
    assert found.figures["ms_ssim"].value == pytest.approx(ms_ssim(*batches).mean().item(), abs=1e-5)
    energies = [
        [np.square(4 * g[1:-1, 1:-1] - g[:-2, 1:-1] - g[2:, 1:-1] - g[1:-1, :-2] - g[1:-1, 2:]).mean() for g in greys]
        for greys in ([image.mean(axis=2) for image in images] for images in (made, real))
    ]
    expected = np.mean(np.divide(*energies))
    assert found.figures["sharpness"].value == pytest.approx(expected, rel=1e-4)


def test_small_images_and_missing_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("i2i.metrics.perceptual.download", _no_network)
    made, real = some((12, 12, 3))
    found = findings(tmp_path, made, real, PairSettings())
    assert set(found.figures) == {"psnr", "ssim", "l1", "sharpness"}
    assert "176 px" in found.missing["ms_ssim"]
    assert "alexnet-owt-7be5be79.pth" in found.missing["lpips"] and "--lpips-backbone" in found.missing["lpips"]
    assert "no network" not in found.missing["lpips"] and found.hints == ("there is no network",)
    assert findings(tmp_path, made, real, WITHOUT_LPIPS).missing["lpips"] == "switched off (--lpips off)"
    for named in (
        PairSettings(lpips_backbone=tmp_path / "nowhere.pth"),
        PairSettings(lpips_heads=tmp_path / "nowhere.pth"),
        PairSettings(lpips_backbone=tmp_path / "nowhere.pth", lpips_heads=tmp_path / "nowhere.pth"),
    ):
        with pytest.raises(InputError, match=r"nowhere\.pth cannot be read"):
            findings(tmp_path, made, real, named)


def _no_network(*_: object, **__: object) -> None:
    raise InputError("there is no network")


def test_lpips_is_that_of_the_weights_given(tmp_path: Path) -> None:
    from torchvision.models import alexnet

    backbone, heads = tmp_path / "backbone.pth", tmp_path / "heads.pth"
    torch.save(
        {f"features.{name}": tensor for name, tensor in alexnet(weights=None).features.state_dict().items()}, backbone
    )
    widths = (64, 192, 384, 256, 256)
    torch.save({f"lin{place}.model.1.weight": torch.rand(1, width, 1, 1) for place, width in enumerate(widths)}, heads)
    made, real = some((40, 40, 3))
    found = findings(tmp_path, made, real, PairSettings(lpips_backbone=backbone, lpips_heads=heads))
    network = load_lpips("alex", backbone_path=backbone, heads_path=heads)
    batches = [torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 127.5 - 1 for images in (made, real)]
    assert found.figures["lpips"].value == pytest.approx(network(*batches).mean().item(), rel=1e-4)
    (title,) = found.pictures
    assert title.startswith("All pairs by lpips: ")


def test_equal_images_are_counted_and_do_not_make_the_mean_infinite(tmp_path: Path) -> None:
    made, real = some((16, 16, 3))
    made[1] = real[1]
    found = findings(tmp_path, made, real, WITHOUT_LPIPS)
    psnr = [found.details["pairs"]["images"][name]["psnr"] for name in "012"]
    assert psnr[1] == float("inf")
    assert found.figures["psnr"].value == pytest.approx((psnr[0] + psnr[2]) / 2)
    assert found.figures["psnr"].images == 2 and found.details["pairs"]["equal"] == 1
    assert "1 of 3 pairs are equal to the last bit" in found.warnings[0]
    equal = findings(tmp_path / "equal", real, real, WITHOUT_LPIPS)
    assert equal.figures["psnr"].value == float("inf")
    assert equal.figures["ssim"].value == pytest.approx(1)
    assert equal.figures["ssim"].low == pytest.approx(1)


def test_flat_truths_have_no_sharpness(tmp_path: Path) -> None:
    made, real = some((16, 16, 3))
    real[0][:] = 7
    found = findings(tmp_path, made, real, WITHOUT_LPIPS)
    assert found.figures["sharpness"].images == 2
    assert found.figures["sharpness"].value < 10
    assert "sharpness is over 2 of 3 pairs" in found.warnings[0]
    assert "sharpness" not in found.details["pairs"]["images"]["0"]


def test_sets_that_match_in_part_and_sizes_that_differ(tmp_path: Path) -> None:
    image = np.zeros((12, 14, 3), np.uint8)
    made = write(tmp_path / "made", {"a.png": image + 1, "sub/b.png": image, "c.png": image})
    real = write(tmp_path / "real", {"a.png": image, "sub/b.tif": image, "d.png": image})
    found = pair_findings(made, real, meter=PairMeter(WITHOUT_LPIPS), describing=Describing())
    assert set(found.details["pairs"]["images"]) == {"a", "sub/b"}
    assert re.search(r"leave generated images out: 1 of 3 have none .*/real \(such as c\)", " ".join(found.warnings))
    with pytest.raises(
        InputError, match=r"no pairs .*: 1 of 1 .*/real \(equal names are needed, not such as x and a\)"
    ):
        pair_findings(
            write(tmp_path / "other", {"x.png": image}), real, meter=PairMeter(WITHOUT_LPIPS), describing=Describing()
        )
    wide = write(tmp_path / "wide", {"a.png": np.zeros((12, 15, 3), np.uint8)})
    with pytest.raises(InputError, match=r"wide/a.png has 15 x 12 px, .*real/a.png 14 x 12 px"):
        pair_findings(wide, real, meter=PairMeter(WITHOUT_LPIPS), describing=Describing())


def test_pairs_of_other_channels_are_refused(tmp_path: Path) -> None:
    made, real = some((12, 12, 5), count=1)
    images = write(tmp_path / "made", {"0.tif": made[0]}), write(tmp_path / "real", {"0.png": real[0][..., :3]})
    with pytest.raises(InputError, match=r"real/0\.png has 3 channels, and the generated image of its name 5"):
        pair_findings(*images, meter=PairMeter(WITHOUT_LPIPS), describing=Describing())


def test_any_number_of_channels_and_grey_beside_colour(tmp_path: Path) -> None:
    made, real = some((12, 12, 5))
    files = [f"{place}.tif" for place in range(3)]
    sets = (
        write(tmp_path / "made", dict(zip(files, made, strict=True))),
        write(tmp_path / "real", dict(zip(files, real, strict=True))),
    )
    found = pair_findings(*sets, meter=PairMeter(WITHOUT_LPIPS), describing=Describing())
    expected = np.mean([peak_signal_noise_ratio(b, a) for a, b in zip(made, real, strict=True)])
    assert found.figures["psnr"].value == pytest.approx(expected, rel=1e-5)
    grey = write(tmp_path / "grey", {"0.png": real[0][..., :1]})
    colour = write(tmp_path / "colour", {"0.png": real[0][..., [0, 0, 0]]})
    assert (
        pair_findings(grey, colour, meter=PairMeter(WITHOUT_LPIPS), describing=Describing()).details["pairs"]["equal"]
        == 1
    )


def test_the_worst_and_best_pairs_are_shown(tmp_path: Path) -> None:
    _, real = some((16, 16, 3), count=20)
    made = [np.clip(image.astype(int) + 3 * place, 0, 255).astype(np.uint8) for place, image in enumerate(real)]
    found = findings(tmp_path, made, real, WITHOUT_LPIPS)
    worst, median, best = found.pictures.values()
    assert [title.partition(":")[0] for title in found.pictures] == [
        "Worst pairs by ssim",
        "Median pairs by ssim",
        "Best pairs by ssim",
    ]
    assert "Worst pairs by ssim: 19, 18, 17, 16" in found.pictures
    for picture, places in ((worst, [19, 18, 17, 16]), (best, [0, 1, 2, 3])):
        for shown, place in zip(picture["real"], places, strict=True):
            np.testing.assert_allclose((shown.movedim(0, -1) + 1) * 127.5, real[place], atol=1e-3)
    *_, name = best
    assert name == "difference x16"  # of at most 9 levels of 255
    assert (best[name][0] == -1).all()
    np.testing.assert_allclose(best[name][3].max() + 1, 16 * 9 * 2 / 255, atol=1e-3)
    assert list(worst)[-1] == "difference x4"  # of 57 levels
    assert len(median["generated"]) == 4


def test_figures_say_how_they_were_measured(tmp_path: Path) -> None:
    made, real = some((24, 24, 3))
    found = findings(tmp_path, made, real, PairSettings(lpips="off", y_channel=True, crop_border=4))
    assert found.figures["psnr"].how == "of brightness; 4 px at each border left out"
    assert found.figures["sharpness"].how == "4 px at each border left out"
    assert not findings(tmp_path, made, real, WITHOUT_LPIPS).figures["psnr"].how
