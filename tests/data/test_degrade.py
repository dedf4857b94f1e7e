"""Degradations against OpenCV, SciPy and formulas written out; their draws against the probabilities they promise."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.data.degrade import Degradation, PairPool, degrade, gaussian_noise, poisson_noise, sharpen
from i2i.data.degrade_blur import blur, draw_kernels, draw_sinc_kernels, gaussian_kernels, pulse, sinc_kernels
from i2i.data.degrade_codecs import h264, jpeg
from i2i.data.image_io import read_image
from i2i.errors import InputError

PUBLISHED = Degradation()
NOTHING = Degradation(
    kernel_px=(1, 1),
    resize_weights=(0, 0, 1),
    gaussian_probability=1,
    gaussian_levels=(0, 0),
    jpeg_probability=0,
    second_resize_weights=(0, 0, 1),
    second_gaussian_levels=(0, 0),
)
# Kernels so narrow that they leave an image as it is, on 21 px.
SHARP: dict[str, Any] = {
    "kernel_px": (21, 21),
    "kernel_weights": (1, 0, 0, 0, 0, 0),
    "sinc_probability": 0.0,
    "sigma_px": (0.01, 0.01),
    "final_sinc_probability": 0.0,
}


def scene(height: int, width: int, *, channels: int = 3) -> Tensor:
    """A smooth random picture with a few hard edges: (1, C, H, W) in [0, 1]."""
    picture = F.interpolate(torch.rand(1, channels, 7, 7), size=(height, width), mode="bicubic").clamp(0, 1)
    picture[..., height // 3 : height // 2, width // 4 : width // 2] = torch.rand(1, channels, 1, 1)
    return picture


def as_uint8(image: Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1] → (H, W, C)."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def kernels_of(**arguments: Any) -> np.ndarray:
    plain = {
        "sizes_px": torch.tensor([21]),
        "largest_px": 21,
        "sigma_px": torch.tensor([[2.0, 2.0]]),
        "angle": torch.tensor([0.0]),
        "beta": torch.tensor([1.0]),
        "plateau": torch.tensor([False]),
    }
    return gaussian_kernels(**(plain | arguments))[0].numpy()


@pytest.mark.parametrize("size_px", [7, 13, 21])
@pytest.mark.parametrize("sigma_px", [0.2, 1.0, 3.0])
def test_round_gaussian_is_opencvs(size_px: int, sigma_px: float) -> None:
    line = cv2.getGaussianKernel(size_px, sigma_px)
    expected = np.pad(line @ line.T, (21 - size_px) // 2)
    kernel = kernels_of(sizes_px=torch.tensor([size_px]), sigma_px=torch.full((1, 2), sigma_px))
    np.testing.assert_allclose(kernel, expected, atol=1e-7)


@pytest.mark.parametrize("plateau", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0, 3.7])
def test_turned_kernels_follow_the_formula(beta: float, plateau: bool) -> None:
    """Σ = R diag(σ₁², σ₂²) Rᵀ, written out pixel by pixel."""
    angle, sigma_px = 0.6, (2.5, 0.7)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(np.square(sigma_px)) @ turn.T)
    expected = np.zeros((21, 21))
    for row in range(21):
        for column in range(21):
            place = np.array([column - 10, row - 10])
            power = (place @ inverse @ place) ** beta
            expected[row, column] = 1 / (1 + power) if plateau else math.exp(-power / 2)
    kernel = kernels_of(
        sigma_px=torch.tensor([sigma_px]),
        angle=torch.tensor([angle]),
        beta=torch.tensor([beta]),
        plateau=torch.tensor([plateau]),
    )
    np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("size_px", [7, 15, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.7, math.pi])
def test_sinc_follows_the_formula(size_px: int, cutoff: float) -> None:
    expected = np.zeros((21, 21))
    for row in range(-(size_px // 2), size_px // 2 + 1):
        for column in range(-(size_px // 2), size_px // 2 + 1):
            radius = math.hypot(row, column) or 1e-6  # J₁(x) / x → 1/2
            expected[10 + row, 10 + column] = cutoff * scipy.special.j1(cutoff * radius) / (2 * math.pi * radius)
    kernel = sinc_kernels(sizes_px=torch.tensor([size_px]), largest_px=21, cutoff=torch.tensor([cutoff]))[0]
    np.testing.assert_allclose(kernel.numpy(), expected / expected.sum(), atol=1e-6)


def test_kernels_are_drawn_as_often_as_said() -> None:
    count = 4000
    published = {name: getattr(PUBLISHED, name) for name in ("kernel_weights", "generalised_beta", "plateau_beta")}
    kernels = draw_kernels(count, kernel_px=(7, 21), sigma_px=(0.2, 3.0), **published)
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(count))
    # Turned by 90°, a round kernel is the same: the shapes of even number, 0.45 + 0.12 + 0.12.
    round_ones = (kernels - kernels.rot90(dims=(1, 2))).abs().amax(dim=(1, 2)) < 1e-5
    assert round_ones.float().mean().item() == pytest.approx(0.69, abs=0.03)
    # Plateaus alone, since their values never vanish, tell the size: 7, 9 … 21 are equally likely.
    plateaus = draw_kernels(
        count, kernel_weights=(0, 0, 0, 0, 1, 0), kernel_px=(7, 21), sigma_px=(1, 2), generalised_beta=(1, 1),
        plateau_beta=(1, 1),
    )  # fmt: skip
    sizes, times = (plateaus[:, 10] > 0).sum(dim=1).unique(return_counts=True)
    assert sizes.tolist() == [7, 9, 11, 13, 15, 17, 19, 21]
    assert (times / count - 1 / 8).abs().max() < 0.02


def test_small_sincs_cut_no_lower_than_a_third() -> None:
    """The centre of a kernel, before all is divided by the sum, grows with the cutoff."""

    def lowest_centre(size_px: int, long_from: float) -> float:
        kernels = draw_sinc_kernels(500, kernel_px=(size_px, size_px), long_from=long_from)
        return kernels[:, size_px // 2, size_px // 2].min().item()

    def centre(size_px: int, cutoff: float) -> float:
        arguments = {"sizes_px": torch.tensor([size_px]), "cutoff": torch.tensor([cutoff])}
        return sinc_kernels(largest_px=size_px, **arguments)[0, size_px // 2, size_px // 2].item()

    for size_px, long_from, expected in ((11, 0.6, math.pi / 3), (13, 0.6, 0.6), (21, 0.8, 0.8)):
        assert 1 <= lowest_centre(size_px, long_from) / centre(size_px, expected) < 1.05, (size_px, long_from)


@pytest.mark.parametrize(("height", "width"), [(33, 40), (5, 3), (1, 9)])
def test_blur_is_opencvs(height: int, width: int) -> None:
    """Each image with its own kernel, and images smaller than the kernel."""
    images, kernels = torch.rand(2, 3, height, width), torch.rand(2, 21, 21) / 200
    for image, kernel, ours in zip(images, kernels, blur(images, kernels), strict=True):
        expected = cv2.filter2D(image.permute(1, 2, 0).numpy(), -1, kernel.numpy(), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(blur(images, pulse(21).expand(2, -1, -1)), images)


@pytest.mark.data
@pytest.mark.parametrize("quality", [30, 49, 50, 75, 95])
def test_jpeg_is_libjpegs(data_dir: Path, quality: int) -> None:
    """Near to it, and no nearer to the original than it is: what JPEG destroys is gone."""
    photo = read_image(data_dir / "sr/Set14/HR/img_005.png")[:250, :243]
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    _, data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    theirs = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    ours = jpeg(image, quality=torch.tensor([float(quality)]))
    assert psnr(ours, theirs) > 44
    assert psnr(ours, image) == pytest.approx(psnr(theirs, image), abs=0.25)


@pytest.mark.parametrize("quality", [30, 80])
def test_grey_jpeg_is_libjpegs(quality: int) -> None:
    image = scene(61, 50, channels=1)
    _, data = cv2.imencode(".jpg", as_uint8(image[0]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    theirs = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))[None, None] / 255
    ours = jpeg(image, quality=torch.tensor([float(quality)]))
    assert ((ours - theirs).abs() * 255 < 1.5).float().mean() > 0.95
    five = jpeg(image.expand(1, 5, -1, -1), quality=torch.tensor([float(quality)]))
    torch.testing.assert_close(five, ours.expand(1, 5, -1, -1))


def test_each_image_has_its_own_jpeg_quality() -> None:
    image = scene(48, 48)
    both = jpeg(image.expand(2, -1, -1, -1), quality=torch.tensor([30.0, 95.0]))
    for ours, quality in zip(both, (30.0, 95.0), strict=True):
        torch.testing.assert_close(ours, jpeg(image, quality=torch.tensor([quality]))[0])
    assert psnr(both[:1], image) < psnr(both[1:], image) - 3


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47)])
def test_h264_gets_worse_with_its_factor_and_keeps_colours(height: int, width: int) -> None:
    soft = 0.3 + 0.4 * F.interpolate(torch.rand(1, 3, 6, 6), size=(height, width), mode="bilinear")
    coded = {crf: h264(soft, crf=torch.tensor([float(crf)])) for crf in (1, 25, 40)}
    likeness = [psnr(image, soft) for image in coded.values()]
    assert likeness[0] > 40 and likeness[0] > likeness[1] + 2 > likeness[2] + 4
    assert (coded[1] - soft).mean(dim=(0, 2, 3)).abs().max() * 255 < 0.5  # FFmpeg's default would be 1 level too dark
    two = h264(soft[:, :2], crf=torch.tensor([1.0]))
    assert two.shape == (1, 2, height, width)
    assert psnr(two, soft[:, :2]) > 40


def test_gaussian_noise_has_the_deviation_asked_for() -> None:
    image = torch.full((3, 200, 200), 0.5)
    for grey in (False, True):
        noise = gaussian_noise(image, levels=20, grey=grey)
        assert noise.std().item() * 255 == pytest.approx(20, rel=0.02)
        assert torch.equal(noise[0], noise[1]) == grey


def test_poisson_noise_grows_with_brightness() -> None:
    """Variance = scale² · brightness / photons; a ramp of 200 values makes 256 photons."""
    ramp = (torch.arange(200.0) / 255).expand(3, 4000, 200)
    for grey in (False, True):
        noise = poisson_noise(ramp, scale=1.5, grey=grey)
        assert torch.equal(noise[0], noise[1]) == grey
        expected = 1.5**2 * ramp[0, 0] / 256
        torch.testing.assert_close(noise[0].var(dim=0), expected, rtol=0.12, atol=1e-6)
        assert noise.mean().abs() < 1e-3
    two_values = torch.tensor([0.0, 0.5]).repeat(2000).view(1, 1, -1)
    assert poisson_noise(two_values, scale=1, grey=False).var().item() == pytest.approx(0.25 / 2, rel=0.15)


def test_without_anything_else_images_are_only_resized() -> None:
    """By "keep" the size stays, then it is that of the result; the way of resizing is drawn."""
    image, seen = scene(48, 64), set()
    ways = {
        mode: (F.interpolate(image, size=(12, 16), mode=mode) * 255).round().clamp(0, 255) / 255
        for mode in ("area", "bilinear", "bicubic")
    }
    for _ in range(20):
        ours = degrade(image, scale=4, settings=NOTHING)
        matching = [mode for mode, theirs in ways.items() if (ours - theirs).abs().max() < 1.01 / 255]
        assert len(matching) == 1
        seen.update(matching)
    assert seen == set(ways)


def test_sizes_are_drawn_as_often_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def recording(images: Tensor, *, size: tuple[int, int], mode: str) -> Tensor:
        sides.append(size[0])
        return torch.rand(1, 1, *size)

    monkeypatch.setattr("i2i.data.degrade.F.interpolate", recording)
    settings = replace(NOTHING, resize_weights=PUBLISHED.resize_weights, second_resize_weights=(0.3, 0.4, 0.3))
    for _ in range(1000):
        degrade(torch.rand(1, 1, 400, 4), scale=2, settings=settings)
    first, second, last = torch.tensor(sides).view(-1, 3).T
    assert last.unique().tolist() == [200]
    for drawn, whole, limits, weights in (
        (first, 400, (0.15, 1.5), (0.2, 0.7, 0.1)),
        (second, 200, (0.3, 1.2), (0.3, 0.4, 0.3)),
    ):
        factors = drawn / whole
        torch.testing.assert_close(torch.stack(torch.aminmax(factors)), torch.tensor(limits), rtol=0, atol=0.02)
        shares = [(factors > 1).float().mean(), (factors < 1).float().mean(), (factors == 1).float().mean()]
        torch.testing.assert_close(torch.stack(shares), torch.tensor(weights), rtol=0, atol=0.04)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("step", ["second_blur", "final_sinc"])
def test_steps_are_taken_as_often_as_said(step: str, probability: float) -> None:
    images = torch.cat([torch.full((50, 1, 32, 16), 0.3), torch.full((50, 1, 32, 16), 0.7)], dim=3)
    settings = replace(NOTHING, **SHARP, second_sigma_px=(3, 3), second_blur_probability=0)
    inputs = degrade(images, scale=1, settings=replace(settings, **{f"{step}_probability": probability}))
    changed = (inputs - images).abs().amax(dim=(1, 2, 3)) > 1 / 255
    assert changed.float().mean().item() == pytest.approx(probability, abs=0.2)
    if step == "final_sinc":  # it rings
        assert (inputs.max() > 0.73) == (probability > 0)


def test_last_jpeg_comes_before_or_after_the_last_sinc() -> None:
    """What JPEG has left as it is, it leaves as it is once more."""
    settings = replace(
        NOTHING,
        **SHARP | {"final_sinc_probability": 1.0},
        second_sigma_px=(0.01, 0.01),
        jpeg_probability=1,
        jpeg_quality=(100, 100),
        second_jpeg_quality=(10, 10),
    )
    image = scene(48, 48, channels=1)
    again = [
        (jpeg(inputs, quality=torch.tensor([10.0])) - inputs).abs().mean().item() * 255 < 0.2
        for inputs in (degrade(image, scale=1, settings=settings) for _ in range(60))
    ]
    assert sum(again) / 60 == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize("name", ["gaussian_levels", "second_gaussian_levels"])
def test_noise_of_either_round(name: str) -> None:
    image = torch.full((1, 1, 200, 200), 0.5)
    inputs = degrade(image, scale=1, settings=replace(NOTHING, **{name: (20, 20)}))
    assert inputs.std().item() * 255 == pytest.approx(20, rel=0.03)


def test_h264_comes_last() -> None:
    image = scene(40, 32)
    torch.manual_seed(3)
    plain = degrade(image, scale=2, settings=NOTHING)
    torch.manual_seed(3)
    filmed = degrade(image, scale=2, settings=replace(NOTHING, h264_probability=1.0, h264_crf=(30, 30)))
    torch.testing.assert_close(filmed, h264(plain, crf=torch.tensor([30.0])))
    assert not torch.equal(filmed, plain)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_shapes_and_values(scale: int, channels: int) -> None:
    targets = torch.rand(2, channels, 13 * scale, 7 * scale)
    for _ in range(6):
        inputs = degrade(targets, scale=scale, settings=replace(PUBLISHED, h264_probability=0.3))
        assert inputs.shape == (2, channels, 13, 7) and inputs.dtype == torch.float32
        assert inputs.min() >= 0 and inputs.max() <= 1
        torch.testing.assert_close((inputs * 255).round() / 255, inputs)
        assert not inputs.requires_grad


def test_seed_repeats_and_images_differ() -> None:
    targets = scene(64, 64).expand(4, -1, -1, -1)

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return degrade(targets, scale=4, settings=PUBLISHED)

    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))
    inputs = seeded(1)
    assert all(not torch.equal(inputs[0], other) for other in inputs[1:])


def test_degraded_images_are_worse_yet_the_same() -> None:
    """Over many draws: nearer to the image than to another one, and never as good as bicubic alone."""
    image, other = scene(128, 128), scene(128, 128)
    small, wrong = (F.interpolate(one, scale_factor=0.25, mode="bicubic", antialias=True) for one in (image, other))
    inputs = torch.cat([degrade(image, scale=4, settings=PUBLISHED) for _ in range(40)])
    likeness = torch.tensor([psnr(one, small[0]) for one in inputs])
    assert likeness.max() < 40
    assert 15 < likeness.median() < 30
    assert sum(psnr(one, small[0]) > psnr(one, wrong[0]) for one in inputs) >= 39


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype: torch.dtype) -> None:
    assert degrade(torch.rand(1, 3, 16, 16, dtype=dtype), scale=2, settings=PUBLISHED).dtype == torch.float32
    assert sharpen(torch.rand(1, 3, 16, 16, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    ("targets", "scale", "message"),
    [
        (torch.rand(1, 3, 30, 32), 4, "multiples of it, got scale 4 and 30 by 32 px"),
        (torch.rand(1, 3, 32, 32), 0, "a scale of 1 or more"),
        (torch.rand(3, 32, 32), 4, r"images \(N, C, H, W\) of floats, got torch.float32 \(3, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 4, "of floats, got torch.uint8"),
    ],
)
def test_unusable_images(targets: Tensor, scale: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        degrade(targets, scale=scale, settings=PUBLISHED)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("final_sinc_probability", 1.2, "a probability between 0 and 1, got 1.2"),
        ("kernel_weights", (0, 0, 0, 0, 0, 0), "weights of 0 or more, not all of them 0"),
        ("second_resize_weights", (-1, 1, 1), "weights of 0 or more"),
        ("kernel_px", (7, 20), "two odd sizes"),
        ("kernel_px", (9, 7), "two odd sizes"),
        ("plateau_beta", (1.5, 2.0), "a range around 1"),
        ("second_resize_range", (0.0, 1.2), "a range around 1"),
        ("sigma_px", (0.0, 3.0), "a range above 0"),
        ("second_jpeg_quality", (30, 101), "between 1 and 100"),
        ("h264_crf", (40, 20), "between 0 and 51"),
        ("poisson_scale", (3.0, 0.05), "0 or more, the lower end first"),
        ("gaussian_levels", (1.0, math.nan), "0 or more, the lower end first"),
    ],
)
def test_unusable_settings(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: expected .*{message}"):
        replace(PUBLISHED, **{name: value})


@pytest.mark.parametrize("size", [96, 20])
def test_sharpening_is_unsharp_masking(size: int) -> None:
    """Written out with OpenCV: radius 50, which makes 51 px, amount 0.5, threshold 10."""
    image = scene(size, size)
    array = image[0].permute(1, 2, 0).numpy()

    def blurred(values: np.ndarray) -> np.ndarray:
        line = cv2.getGaussianKernel(51, 0)
        return cv2.sepFilter2D(values, -1, line, line, borderType=cv2.BORDER_REFLECT_101)

    residual = array - blurred(array)
    soft_mask = blurred((np.abs(residual) * 255 > 10).astype(np.float32))
    expected = soft_mask * np.clip(array + 0.5 * residual, 0, 1) + (1 - soft_mask) * array
    assert np.abs(expected - array).max() > 0.05
    np.testing.assert_allclose(sharpen(image)[0].permute(1, 2, 0).numpy(), expected, atol=1e-4)


def numbered(first: int, count: int) -> tuple[Tensor, Tensor]:
    numbers = torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None]
    return numbers.expand(-1, 3, 2, 2), -numbers.expand(-1, 3, 8, 8)


def test_pool_loses_nothing_and_doubles_nothing() -> None:
    pool, handed_out = PairPool(capacity=5), []
    for step in range(40):
        fed = [images.clone() for images in numbered(3 * step, 3)]
        inputs, targets = pool.exchange(*fed)
        fed[0].zero_()  # what the pool keeps is its own
        assert torch.equal(inputs[:, 0, 0, 0], -targets[:, 0, 0, 0])  # pairs stay together
        handed_out += inputs[:, 0, 0, 0].int().tolist()
    kept = [int(pair[0][0, 0, 0]) for pair in pool.pairs]
    # The first five are handed out and kept, too.
    assert sorted([*handed_out[5:], *kept]) == list(range(120))
    assert handed_out[:5] == [0, 1, 2, 3, 4]
    first_batches = [handed_out[place : place + 3] for place in range(30, 120, 3)]
    assert any(max(batch) - min(batch) > 6 for batch in first_batches)  # batches are mixed


def test_pool_resumes_exactly(tmp_path: Path) -> None:
    pool = PairPool(capacity=7)
    for step in range(5):
        pool.exchange(*numbered(3 * step, 3))
    state = pool.state_dict()
    torch.save(state, tmp_path / "pool.pt")
    before = [pair[0].clone() for pair in state["pairs"]]
    again = PairPool(capacity=7)
    again.load_state_dict(torch.load(tmp_path / "pool.pt"))
    for step in range(5, 10):
        torch.manual_seed(step)
        expected = pool.exchange(*numbered(3 * step, 3))
        torch.manual_seed(step)
        resumed = again.exchange(*numbered(3 * step, 3))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed, expected, strict=True))
        for images in expected:
            images.zero_()  # what was handed out is the caller's
    assert all(torch.equal(pair[0], image) for pair, image in zip(state["pairs"], before, strict=True))


def test_no_pool() -> None:
    inputs, targets = numbered(0, 3)
    assert PairPool(capacity=0).exchange(inputs, targets) == (inputs, targets)
    with pytest.raises(InputError, match="0 pairs or more, got -1"):
        PairPool(capacity=-1)


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * torch.log10((one - other).square().mean()).item()
