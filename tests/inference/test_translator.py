from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, ResNetGenerator, UNetGenerator
from i2i.inference.translator import Translator
from i2i.layers.norm import BatchNorm2d


class Recorder(nn.Module):
    """A 1×1 convolution with known weights that keeps what it was given."""

    scale = 1

    def __init__(self, weight: Tensor, *, size_multiple: int = 1) -> None:
        super().__init__()
        self.in_channels = weight.shape[1]
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        self.conv.weight.data = weight[:, :, None, None].clone()
        self.size_multiple = size_multiple
        self.inputs: list[Tensor] = []
        # A hook sees what passes, but not what stands in for an image while the network is taken apart.
        self.register_forward_pre_hook(lambda _, arguments: self.inputs.append(arguments[0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


class Doubler(nn.Module):
    """Repeats every pixel two by two."""

    in_channels = 3
    scale = 2
    size_multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Normaliser(nn.Module):
    """Batch normalisation alone, with running statistics of mean 0.5 and variance 4; then dropout."""

    in_channels = 1
    scale = 1
    size_multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm2d(1)
        self.norm.running_mean.fill_(0.5)
        self.norm.running_var.fill_(4.0)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.dropout(self.norm(images))


UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
UINT16 = ImageSide(channels=3, dtype="uint16", data_range=(0, 65535))
TWELVE_BIT = ImageSide(channels=3, dtype="uint16", data_range=(0, 4095))
HOUNSFIELD = ImageSide(channels=3, dtype="float32", data_range=(-1000, 3000))
FLOAT_GREY = ImageSide(channels=1, dtype="float32", data_range=(-1, 1))


def identity(side: ImageSide = UINT8, *, size_multiple: int = 1) -> Translator:
    network = Recorder(torch.eye(side.channels), size_multiple=size_multiple)
    return Translator(generator=network, spec=GeneratorSpec(input=side, output=side))


def random_image(dtype: Any, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(len(shape) * 1000 + sum(shape))
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


SIZES = [(1, 1), (1, 37), (3, 70), (33, 31), (64, 32)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "side"), [(np.uint8, UINT8), (np.uint16, UINT16), (np.uint16, TWELVE_BIT)])
def test_an_identity_returns_integers_exactly(dtype: Any, side: ImageSide, size: tuple[int, int]) -> None:
    image = random_image(dtype, *size, 3)
    result = identity(side, size_multiple=32)(image)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_an_identity_returns_floats(dtype: Any, size: tuple[int, int]) -> None:
    image = random_image(dtype, *size, 3)
    result = identity(size_multiple=32)(image)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, image, atol=1e-3 if dtype == np.float16 else 1e-6)


def test_all_values_survive() -> None:
    every8 = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    every16 = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    for side in (UINT8, UINT16):
        np.testing.assert_array_equal(identity(side)(every8), every8)
        np.testing.assert_array_equal(identity(side)(every16), every16)


@pytest.mark.parametrize("shape", [(3, 9, 14), (1, 3, 9, 14), (5, 3, 9, 14)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.bfloat16])
def test_tensors_come_back_as_they_are(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = (torch.rand(shape) * (1 if dtype.is_floating_point else 200)).to(dtype)
    result = identity(size_multiple=4)(image)
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), image.float(), atol=1e-2 if dtype == torch.bfloat16 else 1e-6, rtol=0)


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.float32)])
def test_a_path_gives_an_array(tmp_path: Path, suffix: str, dtype: Any) -> None:
    image = random_image(dtype, 9, 14, 3)
    write_image(tmp_path / f"image{suffix}", image)
    for path in (tmp_path / f"image{suffix}", str(tmp_path / f"image{suffix}")):
        result = identity(UINT8)(path)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, image, rtol=0, atol=0 if dtype != np.float32 else 1e-6)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("I;16", 1), ("F", 1)])
def test_pil_images_come_back_in_their_mode(mode: str, channels: int) -> None:
    dtype = {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    shape = (9, 14) if channels == 1 else (9, 14, channels)
    image = Image.fromarray(random_image(dtype, *shape))
    assert image.mode == mode
    side = ImageSide(channels=channels, dtype="uint8", data_range=(0, 255))
    result = identity(side)(image)
    assert result.mode == mode
    np.testing.assert_allclose(np.asarray(result), np.asarray(image), atol=1e-6)


def test_transparency_of_pil_images_is_set_aside() -> None:
    image = random_image(np.uint8, 9, 14, 4)
    result = identity()(Image.fromarray(image))
    assert result.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(result), image)


def test_grey_pil_images_and_files_go_into_networks_for_colour(tmp_path: Path) -> None:
    image = random_image(np.uint8, 9, 14, 1)
    write_image(tmp_path / "grey.png", image)
    for kind in (Image.fromarray(image[..., 0]), tmp_path / "grey.png"):
        np.testing.assert_array_equal(np.asarray(identity()(kind)), image.repeat(3, axis=2))


def test_pil_palettes_are_colours_and_bits_are_grey() -> None:
    colours = Image.fromarray(random_image(np.uint8, 9, 14, 3)).quantize(16)
    np.testing.assert_array_equal(np.asarray(identity()(colours)), np.asarray(colours.convert("RGB")))
    bits = Image.fromarray(np.eye(9) > 0)
    grey = ImageSide(channels=1, dtype="uint8", data_range=(0, 255))
    np.testing.assert_array_equal(np.asarray(identity(grey)(bits)), 255 * np.eye(9, dtype=np.uint8))


def test_pil_cannot_hold_sixteen_bit_colour() -> None:
    spec = GeneratorSpec(input=ImageSide(channels=1, dtype="uint16", data_range=(0, 4095)), output=UINT16)
    t = Translator(generator=Recorder(torch.ones(3, 1)), spec=spec)
    with pytest.raises(InputError, match="3 channels of uint16"):
        t(Image.fromarray(random_image(np.uint16, 9, 14)))


def test_grey_without_channels_comes_back_so_if_it_can() -> None:
    grey = ImageSide(channels=1, dtype="uint8", data_range=(0, 255))
    image = random_image(np.uint8, 9, 14)
    np.testing.assert_array_equal(identity(grey)(image), image)
    assert identity(grey)(image[..., None]).shape == (9, 14, 1)
    to_colour = Translator(generator=Recorder(torch.ones(3, 1)), spec=GeneratorSpec(input=grey, output=UINT8))
    np.testing.assert_array_equal(to_colour(image), np.stack([image] * 3, axis=-1))


def test_arrays_in_any_memory_order() -> None:
    image = random_image(np.uint16, 9, 14, 3)
    t = identity(UINT16)
    np.testing.assert_array_equal(t(image[::-1, ::2]), image[::-1, ::2])
    np.testing.assert_array_equal(t(image.astype(">u2")), image)
    image.flags.writeable = False
    np.testing.assert_array_equal(t(image), image)


def test_channels_are_not_mixed_up() -> None:
    """A generator that swaps red and blue does so for every kind of image."""
    t = Translator(
        generator=Recorder(torch.eye(3).flip(0), size_multiple=4),
        spec=GeneratorSpec(input=UINT8, output=UINT8),
    )
    image = random_image(np.uint8, 9, 14, 3)
    swapped = image[..., ::-1]
    np.testing.assert_array_equal(t(image), swapped)
    np.testing.assert_array_equal(np.asarray(t(Image.fromarray(image))), swapped)
    np.testing.assert_array_equal(t(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0), swapped)


@pytest.mark.parametrize(
    ("side", "dtype", "value", "seen"),
    [
        (UINT8, np.uint8, 255, 1.0),
        (UINT8, np.uint16, 65535, 1.0),
        (UINT8, np.float32, 0.25, -0.5),
        (UINT16, np.uint8, 51, -0.6),
        (TWELVE_BIT, np.uint16, 4095, 1.0),
        (TWELVE_BIT, np.uint16, 0, -1.0),
        (TWELVE_BIT, np.uint8, 255, 1.0),
        (TWELVE_BIT, np.float64, 0.5, 0.0),
        (HOUNSFIELD, np.float32, 1000, 0.0),
        (HOUNSFIELD, np.int16, -1000, -1.0),
        (HOUNSFIELD, np.uint8, 200, -0.4),
    ],
)
def test_what_values_mean(side: ImageSide, dtype: Any, value: float, seen: float) -> None:
    t = identity(side)
    image = np.full((8, 8, 3), value, dtype)
    result = t(image)
    np.testing.assert_allclose(t.generator.inputs[0], np.full((1, 3, 8, 8), seen), atol=1e-6)
    expected_dtype = np.float32 if side.dtype == "float32" else dtype
    assert result.dtype == expected_dtype
    np.testing.assert_allclose(result, image, rtol=1e-5, atol=1e-6)


def test_the_networks_own_range_is_respected() -> None:
    side = ImageSide(channels=1, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
    t = identity(side)
    t(np.full((8, 8), 51, np.uint8))
    assert t.generator.inputs[0].flatten()[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("dtype", "returned", "value"), [(np.uint8, np.float32, 3000.0), (np.float32, np.float32, 3000.0)]
)
def test_sides_may_differ(dtype: Any, returned: Any, value: float) -> None:
    t = Translator(generator=Recorder(torch.eye(3)), spec=GeneratorSpec(input=UINT8, output=HOUNSFIELD))
    result = t(np.full((8, 8, 3), 255 if dtype == np.uint8 else 1.0, dtype))
    assert result.dtype == returned
    np.testing.assert_allclose(result, value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_floats_are_clipped_to_what_the_network_was_trained_to_return(dtype: Any) -> None:
    bright = Translator(generator=Recorder(2 * torch.eye(3)), spec=GeneratorSpec(input=UINT8, output=UINT8))
    image = np.linspace(0, 1, 36).reshape(3, 4, 3).astype(dtype)
    expected = (2 * (2 * image.astype(np.float64) - 1) + 1) / 2
    np.testing.assert_allclose(bright(image), expected.clip(0, 1), atol=2e-3)


def test_integers_are_rounded_and_clipped() -> None:
    side = ImageSide(channels=1, dtype="uint8", data_range=(0, 255), network_range=(0, 255))
    values = {1.004: [0, 100, 255], -1.0: [0, 0, 0], 0.996: [0, 100, 254]}
    for gain, expected in values.items():
        t = Translator(generator=Recorder(torch.tensor([[gain]])), spec=GeneratorSpec(input=side, output=side))
        np.testing.assert_array_equal(t(np.array([[0, 100, 255]], np.uint8)), [expected])


@pytest.mark.parametrize("size", [(33, 31), (20, 40), (32, 64)])
def test_borders_are_mirrored(size: tuple[int, int]) -> None:
    t = identity(FLOAT_GREY, size_multiple=32)
    image = random_image(np.float32, *size)
    t(image)
    pad = [(0, -length % 32) for length in size]
    np.testing.assert_allclose(t.generator.inputs[0][0, 0], np.pad(image, pad, "reflect"), atol=1e-6)


def test_an_edge_too_small_to_mirror_is_repeated() -> None:
    t = identity(FLOAT_GREY, size_multiple=32)
    image = random_image(np.float32, 5, 33)
    t(image)
    expected = np.pad(np.pad(image, [(0, 0), (0, 31)], "reflect"), [(0, 27), (0, 0)], "edge")
    np.testing.assert_allclose(t.generator.inputs[0][0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_scale_is_taken_into_account(size: tuple[int, int]) -> None:
    t = Translator(generator=Doubler(), spec=GeneratorSpec(input=UINT8, output=UINT8))
    image = random_image(np.uint8, *size, 3)
    np.testing.assert_array_equal(t(image), image.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    "network",
    [
        UNetGenerator(in_channels=3, out_channels=3, width=4, depth=4),
        ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_our_networks_take_any_size(network: nn.Module, size: tuple[int, int]) -> None:
    for normalisation in ("eval", "per_image"):
        spec = GeneratorSpec(input=UINT8, output=UINT8, normalisation=normalisation)
        assert Translator(generator=network, spec=spec)(random_image(np.uint8, *size, 3)).shape == (*size, 3)


def test_a_list_is_batched_by_padded_size_and_keeps_its_order() -> None:
    t = identity(size_multiple=16)
    images = [random_image(np.uint8, *size, 3) for size in [(9, 9), (30, 9), (16, 16), (12, 10), (31, 1)]]
    results = t(images)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, image)
    assert [tuple(batch.shape) for batch in t.generator.inputs] == [(3, 3, 16, 16), (2, 3, 32, 16)]


def test_a_list_equals_one_by_one() -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=3, dropout=False)
    t = Translator(generator=network, spec=GeneratorSpec(input=UINT8, output=UINT8))
    images = [random_image(np.float32, *size, 3) for size in SIZES + SIZES]
    for together, image in zip(t(images, batch_size=3), images, strict=True):
        np.testing.assert_allclose(together, t(image), atol=1e-6)


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (9, [5])])
def test_batch_size_is_kept(batch_size: int, batches: list[int]) -> None:
    for images in (torch.rand(5, 3, 8, 8), list(torch.rand(5, 3, 8, 8))):
        t = identity()
        t(images, batch_size=batch_size)
        assert [len(batch) for batch in t.generator.inputs] == batches


def test_large_images_go_one_by_one_unless_told() -> None:
    t = identity()
    t(torch.zeros(3, 3, 1024, 1024, dtype=torch.uint8))
    assert [len(batch) for batch in t.generator.inputs] == [1, 1, 1]


def test_a_list_may_mix_kinds(tmp_path: Path) -> None:
    array = random_image(np.uint8, 9, 14, 3)
    write_image(tmp_path / "image.png", array)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    given = (tmp_path / "image.png", array, Image.fromarray(array), tensor, tensor[None].float() / 255)
    results = identity()(given)
    assert [type(result) for result in results] == [np.ndarray, np.ndarray, Image.Image, Tensor, Tensor]
    for result in results[:3]:
        np.testing.assert_array_equal(result, array)
    assert torch.equal(results[3], tensor)
    torch.testing.assert_close(results[4], given[4])
    assert identity()([]) == []


def normaliser(**settings: Any) -> Translator:
    spec = GeneratorSpec(input=FLOAT_GREY, output=FLOAT_GREY, **settings)
    return Translator(generator=Normaliser(), spec=spec)


def by_own_statistics(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / np.sqrt(image.var() + 1e-5)


def test_eval_uses_running_statistics() -> None:
    image = random_image(np.float32, 9, 14)
    np.testing.assert_allclose(normaliser()(image), (image - 0.5) / np.sqrt(4 + 1e-5), atol=1e-6)


def test_per_image_uses_an_images_own_statistics_and_never_its_neighbours() -> None:
    image, neighbour = random_image(np.float32, 9, 14), 50 + random_image(np.float32, 9, 14)
    together = normaliser(normalisation="per_image")([image, neighbour])
    for result, one in zip(together, (image, neighbour), strict=True):
        np.testing.assert_allclose(result, by_own_statistics(one), atol=1e-3)


def unchanged(t: Translator) -> None:
    pass


def inside_a_training_network(t: Translator) -> None:
    nn.Sequential(t).eval().train()


@pytest.mark.parametrize(
    "change",
    [
        unchanged,
        Translator.train,
        Translator.eval,
        lambda t: t.to("cpu"),
        lambda t: t.to(torch.float32),
        inside_a_training_network,
    ],
)
def test_modes_stay_whatever_is_called(change: Callable[[Translator], object]) -> None:
    image = random_image(np.float32, 9, 14)
    t = normaliser(normalisation="per_image")
    change(t)
    np.testing.assert_allclose(t(image), by_own_statistics(image), atol=1e-4)
    t = normaliser(dropout=True)
    change(t)
    assert 0.3 < (t(image) == 0).mean() < 0.7


def test_dropout_stays_off_unless_told() -> None:
    t = normaliser()
    t.train()
    assert (t(random_image(np.float32, 9, 14)) == 0).mean() == 0


def test_another_precision_of_the_network() -> None:
    image = random_image(np.float32, 9, 14, 3)
    t = identity().to(torch.bfloat16)
    result = t(image)
    assert t.generator.inputs[0].dtype == torch.bfloat16
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, image, atol=1e-2)


def test_no_gradients_and_a_result_that_can_train_another_network() -> None:
    t = identity()
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    result = t(images)
    assert not result.requires_grad
    assert not result.is_inference()
    assert torch.is_grad_enabled()
    nn.Conv2d(3, 1, 1)(result).sum().backward()
    assert all(parameter.grad is None for parameter in t.parameters())


def test_nothing_leaks_from_one_call_to_the_next() -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=3)
    t = Translator(generator=network, spec=GeneratorSpec(input=UINT8, output=UINT8))
    state = {key: value.clone() for key, value in t.state_dict().items()}
    image, other = random_image(np.uint8, 17, 9, 3), torch.rand(2, 3, 40, 12)
    kept, first = image.copy(), t(image)
    t(other)
    np.testing.assert_array_equal(t(image), first)
    np.testing.assert_array_equal(image, kept)
    torch.testing.assert_close(t.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_result_shares_no_memory_with_the_image(kind: Callable[[np.ndarray], Any]) -> None:
    image = random_image(np.float32, 3, 8, 3)
    kept = image.copy()
    result = identity()(kind(image))
    result[...] = 7
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 4), np.uint8), r"expected 3 channels, as the network takes, got 4 \(shape \(8, 8, 4\)\)"),
        (np.zeros((8, 8, 1), np.uint8), r"expected 3 channels, as the network takes, got 1"),
        (torch.zeros(8, 8, 3), r"got 8 \(.*tensors \(C, H, W\)"),
        (torch.zeros(8, 8), r"expected a tensor \(C, H, W\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"expected an array \(H, W, C\)"),
        (np.zeros((0, 8, 3), np.uint8), r"no pixels.*\(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.int64), r"int64; expected uint8, uint16, or float"),
        (torch.zeros(3, 8, 8, dtype=torch.int16), r"int16; expected uint8, uint16, or float"),
        (np.zeros((8, 8, 3), bool), r"integers or floats, got bool"),
        (np.zeros((8, 8, 3), complex), r"integers or floats, got complex"),
        (torch.zeros(3, 8, 8, dtype=torch.bool), r"integers or floats, got bool"),
        (np.full((8, 8, 3), np.nan, np.float32), r"192 NaN or infinite values among 192"),
        (np.full((8, 8, 3), -np.inf), r"192 NaN or infinite values"),
        (np.full((8, 8, 3), 255.0), r"from 255 to 255; expected floats in \[0, 1\].*uint8"),
        (torch.full((3, 8, 8), -1.0), r"from -1 to -1; expected floats in \[0, 1\]"),
        ("nowhere.png", r"nowhere\.png"),
        (7, r"is of type int; expected a path, a PIL image"),
        (None, r"is of type NoneType"),
    ],
)
def test_what_cannot_be_translated_is_named(image: Any, message: str) -> None:
    t = identity()
    with pytest.raises(InputError, match=message):
        t(image)
    with pytest.raises(InputError, match=message):
        t([torch.zeros(3, 8, 8), image])
    assert not t.generator.inputs  # all are looked at before any is translated


def test_the_file_or_the_place_in_the_list_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "bands.tif", random_image(np.uint8, 8, 8, 5))
    with pytest.raises(InputError, match=r"bands\.tif: expected 3 channels, as the network takes, got 5 \("):
        identity()(tmp_path / "bands.tif")
    with pytest.raises(InputError, match=r"images\[1\]: expected 3 channels, as the network takes, got 1 \("):
        identity()([torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)])


def test_batches_of_none_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size"):
        identity()(torch.zeros(3, 8, 8), batch_size=0)


def test_a_generator_of_latent_vectors_translates_nothing() -> None:
    with pytest.raises(InputError, match="DCGANGenerator draws from noise"):
        Translator(generator=DCGANGenerator(width=4, size=8), spec=GeneratorSpec(input=None, output=UINT8))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    network = UNetGenerator(in_channels=3, out_channels=3, width=4, depth=6)
    spec = GeneratorSpec(input=UINT8, output=UINT8, normalisation="per_image", dropout=True)
    save_generator(tmp_path / "demo" / "generator", network=network, spec=spec, card="")
    return tmp_path / "demo"


def test_load_takes_a_run_and_a_generator_folder(run: Path) -> None:
    image = random_image(np.uint8, 65, 63, 3)
    results = [i2i.load(path, dropout=False)(image) for path in (run, str(run), run / "generator")]
    assert results[0].shape == (65, 63, 3)
    assert np.ptp(results[0]) > 0
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_load_keeps_the_stored_modes_unless_told(run: Path) -> None:
    image = random_image(np.uint8, 64, 64, 3)
    stored = i2i.load(run)
    assert isinstance(stored, i2i.Translator)
    assert stored.spec.normalisation == "per_image"
    assert stored.spec.dropout
    assert (stored(image) != stored(image)).any()
    told = i2i.load(run, normalisation="eval", dropout=False)
    np.testing.assert_array_equal(told(image), told(image))
    assert (told(image) != i2i.load(run, dropout=False)(image)).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_load_takes_the_units_of_the_images(run: Path, dtype: Any) -> None:
    """The same picture in 8 bits and in other units gives the same, in those units and that type."""
    image = random_image(np.uint8, 64, 64, 3)
    expected = i2i.load(run, dropout=False)(image).astype(float) / 255
    units = (image / 255 * 3000 + 100).round().astype(dtype)
    result = i2i.load(run, dropout=False, input_range=(100, 3100))(units)
    assert result.dtype == dtype
    np.testing.assert_allclose((result - 100.0) / 3000, expected, atol=0.01)
    other = i2i.load(run, dropout=False, input_range=(100, 3100), output_range=(0, 1000))(units)
    assert other.dtype == dtype
    np.testing.assert_allclose(other / 1000.0, expected, atol=0.01)


def test_load_puts_the_network_where_told(run: Path) -> None:
    assert i2i.load(run).device == torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    assert i2i.load(run, device="auto").device.type == (accelerator.type if accelerator else "cpu")
    assert i2i.load(run, device="meta").device == torch.device("meta")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"normalisation": "best"}, "normalisation.*'best'"),
    ],
)
def test_load_refuses_settings_that_make_no_sense(run: Path, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        i2i.load(run, **settings)


def test_load_finds_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no generator"):
        i2i.load(tmp_path)


def inverter() -> Translator:
    """Returns the negative: 255 - value."""
    return Translator(generator=Recorder(-torch.eye(3)), spec=GeneratorSpec(input=UINT8, output=UINT8))


def test_in_sequential() -> None:
    images = torch.rand(2, 3, 9, 14)
    torch.testing.assert_close(nn.Sequential(inverter(), nn.Identity())(images), 1 - images)


def test_in_torchvision() -> None:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    image = tv_tensors.Image(torch.arange(3 * 9 * 14, dtype=torch.uint8).reshape(3, 9, 14))
    pipeline = v2.Compose([inverter(), v2.RandomHorizontalFlip(p=1), v2.ToDtype(torch.float32, scale=True)])
    result = pipeline(image)
    assert type(result) is tv_tensors.Image
    torch.testing.assert_close(result.as_subclass(Tensor), (255 - image.as_subclass(Tensor)).flip(2) / 255)


def test_in_kornia() -> None:
    import kornia.augmentation as K

    images = torch.rand(2, 3, 9, 14)
    expected = (1 - images).flip(3)
    torch.testing.assert_close(K.ImageSequential(inverter(), K.RandomHorizontalFlip(p=1.0))(images), expected)
    pipeline = K.AugmentationSequential(inverter(), K.RandomHorizontalFlip(p=1.0), data_keys=["input"])
    torch.testing.assert_close(pipeline(images), expected)


def test_in_albumentations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    t = inverter()

    def translate(image: np.ndarray, **_: object) -> np.ndarray:
        return t(image)

    pipeline = A.Compose([A.Lambda(image=translate, p=1), A.HorizontalFlip(p=1)])
    image = random_image(np.uint8, 9, 14, 3)
    np.testing.assert_array_equal(pipeline(image=image)["image"], 255 - image[:, ::-1])
