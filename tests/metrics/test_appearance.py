"""What images look like in numbers: known images, and what each fault of a camera does to which number."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from i2i.errors import InputError
from i2i.metrics.appearance import COMPOSITION, STATISTICS, composition, measure_appearance


def scenes(count: int = 6) -> Tensor:
    """Smooth random patterns with edges, of medium brightness: (N, 3, 96, 128) in [-1, 1]."""
    coarse = torch.randn(count, 3, 11, 13)
    smooth = F.interpolate(coarse, size=(96, 128), mode="bicubic")
    return torch.tanh(0.4 * smooth + 0.3 * torch.sign(smooth[:, :1])).clamp(-0.9, 0.9)


def numbers(images: Tensor) -> dict[str, float]:
    return {name: values.mean().item() for name, values in measure_appearance(images).items()}


def jpeg(images: Tensor, *, quality: int) -> Tensor:
    compressed = []
    for image in ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        compressed.append(torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1))
    return torch.stack(compressed).float() / 127.5 - 1


def test_numbers_of_a_known_image() -> None:
    image = torch.full((1, 3, 20, 40), -1.0)
    image[:, :, :, 20:] = 1.0
    image[:, 0, :, 20:] = 0.0
    found = numbers(image)
    assert (found["height_px"], found["width_px"]) == (20, 40)
    assert found["channel_0"] == pytest.approx(0.25) and found["channel_1"] == pytest.approx(0.5)
    assert found["brightness"] == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert found["contrast"] == pytest.approx(5 / 12)  # half of the difference between black and 5/6
    assert found["saturation"] == pytest.approx(0.25)  # 0.5 in half of the image
    assert found["black"] == pytest.approx(0.5) and found["white"] == 0
    assert found["sharpness"] == pytest.approx((5 / 6 / 39**0.5) / (5 / 12), rel=1e-4)  # one step of 39 in each row


def test_noise_of_known_deviation_is_found() -> None:
    for deviation in (0.01, 0.03):
        noisy = torch.full((1, 1, 128, 128), 0.0) + 2 * deviation * torch.randn(1, 1, 128, 128)
        # Of the calmest blocks, which are a little calmer than the mean.
        assert numbers(noisy)["noise"] == pytest.approx(deviation, rel=0.12)


@pytest.mark.parametrize(
    ("name", "sign", "change"),
    [
        ("brightness", -1, lambda images: (images + 1) * 0.9 - 1),
        ("contrast", -1, lambda images: images * 0.8),
        ("saturation", -1, lambda images: 0.5 * images + 0.5 * images.mean(dim=1, keepdim=True)),
        ("sharpness", -1, lambda images: F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)),
        ("noise", 1, lambda images: images + 0.02 * torch.randn_like(images)),
        ("blockiness", 1, lambda images: jpeg(images, quality=40)),
        ("white", 1, lambda images: (2 * images).clamp(-1, 1)),
        ("black", 1, lambda images: (2 * images).clamp(-1, 1)),
        ("channel_2", -1, lambda images: images - torch.tensor([0, 0, 0.1])[:, None, None]),
        ("width_px", -1, lambda images: images[..., :100]),
    ],
)
def test_each_fault_moves_its_number(name: str, sign: int, change) -> None:
    images = scenes()
    before, after = numbers(images)[name], numbers(change(images))[name]
    assert sign * (after - before) > 0.02 * max(before, 0.1)


def test_darker_and_flatter_images_are_as_sharp() -> None:
    images = scenes()
    assert numbers(0.6 * images - 0.3)["sharpness"] == pytest.approx(numbers(images)["sharpness"], rel=1e-3)
    assert numbers(images)["blockiness"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 5, 17, 30), (1, 12, 40, 18), (1, 3, 1, 200)])
def test_any_shape(shape: tuple[int, int, int, int]) -> None:
    images = torch.rand(shape) * 2 - 1
    if min(shape[2:]) < 3:
        with pytest.raises(InputError, match="at least 3 by 3"):
            measure_appearance(images)
        return
    found = measure_appearance(images)
    assert set(found) <= set(STATISTICS)
    assert all(values.shape == shape[:1] and values.isfinite().all() for values in found.values())
    assert ("blockiness" in found) == (min(shape[2:]) >= 18)
    assert composition(images).shape == (shape[0], COMPOSITION)


def test_flat_images_give_numbers() -> None:
    assert all(values.isfinite().all() for values in measure_appearance(torch.zeros(1, 3, 32, 32)).values())
    assert composition(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_composition_is_blind_to_light_and_size_and_sees_what_is_where() -> None:
    images = scenes()
    own = composition(images)
    other = composition(scenes())
    distance = (own - other).norm(dim=1)
    for same in (0.7 * images - 0.2, F.interpolate(images, scale_factor=2)):
        assert ((composition(same) - own).norm(dim=1) < 0.1 * distance).all()
    assert ((composition(images.flip(3)) - own).norm(dim=1) > 0.5 * distance).all()


def test_composition_tells_upright_from_lying_stripes() -> None:
    stripes = torch.sin(torch.arange(64) / 3).expand(1, 1, 64, 64)
    upright, lying = composition(stripes), composition(stripes.mT)
    assert (upright[:, 64:96] - lying[:, 64:96]).abs().max() > 0.9
