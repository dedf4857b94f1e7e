"""The baselines without training against NumPy, written out image by image."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics import (
    ColourTransfer,
    MeanImage,
    paired_metrics,
    patch_descriptors,
    sliced_wasserstein,
    unpaired_baselines,
)


def images(*sizes: tuple[int, int], channels: int = 3, mean: float = 0.0) -> list[Tensor]:
    return [(mean + 0.2 * torch.randn(channels, *size)).clamp(-1, 1) for size in sizes]


def transferred(image: Tensor, of_b: list[Tensor]) -> np.ndarray:
    result = []
    for channel, values in enumerate(image.double().numpy()):
        mean = np.mean([other[channel].double().numpy().mean() for other in of_b])
        deviation = np.mean([other[channel].double().numpy().std() for other in of_b])
        result.append((values - values.mean()) / values.std() * deviation + mean)
    return np.clip(result, -1, 1)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colour_transfer_by_hand(channels: int) -> None:
    of_b = images((20, 30), (40, 17), (25, 25), channels=channels, mean=-0.6)
    transfer = ColourTransfer()
    for image in of_b:
        transfer.add(image)
    (image,) = images((31, 22), channels=channels, mean=0.5)
    output = transfer(image)
    assert output.dtype == torch.float32 and output.min() == -1
    np.testing.assert_allclose(output, transferred(image, of_b), atol=1e-5)


def test_a_flat_channel_becomes_bs_mean() -> None:
    """Flat but for rounding errors, which must not become its deviation."""
    (of_b,) = images((20, 20), mean=-0.4)
    transfer = ColourTransfer()
    transfer.add(of_b)
    output = transfer(0.3 + 1e-7 * torch.randn(3, 50, 50))
    torch.testing.assert_close(output, of_b.mean(dim=(1, 2), keepdim=True).expand_as(output), atol=1e-3, rtol=0)


def test_mean_image_and_sizes_that_have_none() -> None:
    of_b = images((20, 30), (20, 30), (20, 30))
    mean = MeanImage()
    assert mean.image is None
    for image in of_b:
        mean.add(image)
    np.testing.assert_allclose(mean.image, np.mean([image.numpy() for image in of_b], axis=0), atol=1e-6)
    mean.add(images((30, 20))[0])
    assert mean.image is None


def test_rows_are_means_over_images() -> None:
    """The iterables may be generators: each is gone through once."""
    side = (24, 33)
    training_b, held_out_b = images(side, side, side, mean=-0.5), images(side, side, mean=-0.5)
    held_out_a, truths = images(side, side, mean=0.4), images(side, side, mean=-0.5)

    def pairs() -> Iterator[tuple[Tensor, Tensor | None]]:
        yield held_out_a[0], None
        yield from zip(held_out_a, truths, strict=True)

    rows = unpaired_baselines(training_b=iter(training_b), held_out_a=pairs(), held_out_b=iter(held_out_b))
    mean_image = torch.stack(training_b).mean(0)
    outputs = {
        "do nothing": held_out_a,
        "colour transfer": [torch.tensor(transferred(image, training_b)).float() for image in held_out_a],
        "mean image": [mean_image, mean_image],
    }
    assert list(rows) == list(outputs)
    for name, of_row in outputs.items():
        expected = paired_metrics(torch.stack(of_row), torch.stack(truths))
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected, rel=1e-3)
        real, fake = (
            {level: torch.cat([patch_descriptors(image[None])[level] for image in set_]) for level in ("low",)}
            for set_ in (held_out_b, [of_row[0], *of_row])
        )
        assert rows[name]["swd"] == pytest.approx(sliced_wasserstein(real, fake)["swd"], rel=1e-3)
    assert rows["colour transfer"]["swd"] < rows["do nothing"]["swd"] / 5


def test_figures_are_the_callers_and_need_a_truth() -> None:
    side = (20, 20)
    of_a, of_b = images(side, side, mean=0.4), images(side, side, mean=-0.4)

    def figures(output: Tensor, truth: Tensor) -> dict[str, float]:
        return {"difference": (output - truth).mean().item()}

    paired = unpaired_baselines(training_b=of_b, held_out_a=[(of_a[0], of_b[0])], held_out_b=of_b, figures=figures)
    assert paired["do nothing"]["difference"] == pytest.approx((of_a[0] - of_b[0]).mean().item(), rel=1e-5)
    unpaired = unpaired_baselines(training_b=of_b, held_out_a=[(of_a[0], None)], held_out_b=of_b, figures=figures)
    assert {key for row in unpaired.values() for key in row} == {"swd", "swd_low"}
    assert all(row["swd"] == paired[name]["swd"] for name, row in unpaired.items())


def test_rows_that_cannot_be_are_left_out() -> None:
    def rows(of_a: list[Tensor], of_b: list[Tensor]) -> set[str]:
        pairs = [(image, None) for image in of_a]
        return set(unpaired_baselines(training_b=of_b, held_out_a=pairs, held_out_b=of_b))

    small, large = (20, 20), (40, 36)
    same, mean = {"do nothing", "colour transfer"}, {"mean image"}
    assert rows(images(small, small), images(small, small)) == same | mean
    assert rows(images(small, channels=1), images(small, small)) == mean
    assert rows(images(small, small), images(small, large)) == same
    assert rows(images(small, large), images(small, small)) == same
    assert rows(images(large, small, channels=4), images(large, small)) == set()


def test_what_cannot_be_used_is_refused() -> None:
    (image,) = images((20, 20))
    transfer = ColourTransfer()
    with pytest.raises(InputError, match=r"\(C, H, W\)"):
        transfer.add(image[None])
    transfer.add(image)
    with pytest.raises(InputError, match=r"\(3, H, W\)"):
        transfer(image[:1])
    with pytest.raises(InputError, match="images of B"):
        unpaired_baselines(training_b=[], held_out_a=[(image, None)], held_out_b=[image])
    with pytest.raises(InputError, match="levels"):
        unpaired_baselines(training_b=[image], held_out_a=[], held_out_b=[image])
