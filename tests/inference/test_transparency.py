"""What transparency hides, and how it is enlarged."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from i2i import Translator
from i2i.checkpoints.store import GeneratorSpec, ImageSide
from i2i.inference.transparency import confine, fill_hidden, visibility

UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))


class Blur(nn.Module):
    """Doubles the size after a 3 x 3 mean, so that neighbours bleed into each other as in any network."""

    in_channels = out_channels = 3
    size_multiple = 1
    scale = 2
    restores = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
        return nn.functional.interpolate(nn.functional.avg_pool2d(padded, 3, stride=1) * self.weight, scale_factor=2)


def disc(size: int) -> Tensor:
    """(1, 1, H, W): 1 in a disc, 0 around it, in between at its edge."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size + 5), indexing="ij")
    return (size / 4 + 0.5 - torch.hypot(y - size / 2, x - size / 2)).clamp(0, 1)[None, None]


def test_what_is_hidden_has_no_effect() -> None:
    visible = disc(37)
    visible[visible < 0.5] = 0  # edges whose own colours count would be mixed from both
    red = torch.tensor([0.8, 0.1, 0.2]).view(1, 3, 1, 1)
    for hidden in (torch.zeros(1, 3, 37, 42), torch.rand(1, 3, 37, 42)):
        filled = fill_hidden(torch.where(visible > 0, red, hidden), visible)
        torch.testing.assert_close(filled, red.expand_as(filled))


def test_hidden_pixels_take_the_colours_that_are_near() -> None:
    visible = torch.zeros(1, 1, 16, 64)
    visible[..., :8] = visible[..., 56:] = 1
    colours = torch.zeros(1, 3, 16, 64)
    colours[:, 0, :, :8] = 1
    colours[:, 2, :, 56:] = 1
    filled = fill_hidden(colours, visible)
    assert (filled[:, 0, :, 8:20] > 0.7).all()
    assert (filled[:, 2, :, 44:56] > 0.7).all()
    assert filled[:, 1].abs().max() == 0


def test_what_is_evenly_transparent_keeps_its_detail() -> None:
    glass = torch.rand(1, 3, 20, 31)
    assert fill_hidden(glass, torch.full((1, 1, 20, 31), 0.2)).equal(glass)
    assert fill_hidden(glass, torch.zeros(1, 1, 20, 31)).equal(glass)  # nothing to be seen: nothing to fill in


def test_mixed_edges_follow_the_inside() -> None:
    """A blue disc cut out of white keeps no white seam."""
    visible = disc(40)
    blue = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    white_mixed_in = blue.lerp(torch.ones(3).view(1, 3, 1, 1), 1 - visible)
    seen = visible > 0.02
    seam = lambda colours: ((colours[:, :1] * visible)[seen]).max().item()  # noqa: E731
    assert seam(white_mixed_in) > 0.2
    assert seam(fill_hidden(white_mixed_in, visible)) < 0.14


def test_enlarged_transparency_stays_within_its_neighbours() -> None:
    alpha = torch.randint(0, 256, (2, 1, 5, 7), dtype=torch.uint8)
    enlarged = torch.randint(0, 256, (2, 1, 15, 21), dtype=torch.uint8)
    confined = confine(enlarged, alpha)
    assert confined.dtype == torch.uint8
    for n, y, x in np.ndindex(2, 15, 21):
        near = alpha[n, 0, max(0, y // 3 - 1) : y // 3 + 2, max(0, x // 3 - 1) : x // 3 + 2].numpy()
        assert confined[n, 0, y, x] == np.clip(enlarged[n, 0, y, x].numpy(), near.min(), near.max())


@pytest.mark.parametrize(("dtype", "opaque"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1.0)])
def test_visibility(dtype: torch.dtype, opaque: float) -> None:
    assert visibility(torch.tensor([0, opaque], dtype=dtype)).tolist() == [0, 1]


@pytest.mark.parametrize("hidden", [0, 255])
def test_nothing_bleeds_out_of_hidden_pixels_when_a_network_restores(hidden: int) -> None:
    t = Translator(generator=Blur(), spec=GeneratorSpec(input=UINT8, output=UINT8))
    image = np.full((40, 45, 4), hidden, np.uint8)
    image[..., 3] = 0
    image[10:30, 12:33] = (180, 90, 30, 255)
    result = np.asarray(t(Image.fromarray(image)))
    visible = result[..., 3] > 0
    np.testing.assert_array_equal(result[visible][:, :3], np.full((visible.sum(), 3), (180, 90, 30)))
    assert (result[22:58, 26:64, 3] == 255).all()


def test_an_image_that_hides_nothing_is_untouched() -> None:
    t = Translator(generator=Blur(), spec=GeneratorSpec(input=UINT8, output=UINT8))
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 4), np.uint8)
    image[..., 3] = 255
    result = np.asarray(t(Image.fromarray(image)))
    np.testing.assert_array_equal(result[..., :3], t(image[..., :3]))
    assert (result[..., 3] == 255).all()
