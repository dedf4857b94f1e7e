"""Label maps, instances and styles: a translator against the network itself, called with one-hot maps and latents."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

import i2i
from i2i.checkpoints.foreign import open_checkpoint
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.data.image_io import read_image_file
from i2i.errors import InputError
from i2i.generators import SPADEGenerator, StyleEncoder
from i2i.inference.memory import is_out_of_memory
from i2i.inference.translator import Translator

FLOATS = ImageSide(channels=3, dtype="float32", data_range=(-1, 1))
PHOTOS = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
DEEP_PHOTOS = ImageSide(channels=3, dtype="uint16", data_range=(0, 65535))  # for results that are nearly exact
CLASSES = 5


def label_side(*, dont_care: bool = False, instances: bool = False, first_id: int = 0) -> ImageSide:
    return ImageSide(
        channels=CLASSES + dont_care + instances,
        dtype="uint8",
        data_range=(0, 1),
        network_range=(0, 1),
        labels=True,
        dont_care=dont_care,
        instances=instances,
        first_id=first_id,
    )


def spade(*, channels: int = CLASSES, **arguments: Any) -> SPADEGenerator:
    torch.manual_seed(0)
    network = SPADEGenerator(in_channels=channels, width=2, hidden_width=4, **arguments).eval()
    with torch.no_grad():  # initial weights would make images of hardly any contrast
        for parameter in network.parameters():
            parameter.mul_(3)
        network.head.weight.mul_(10)
    return network


def painter(*, output: ImageSide = FLOATS, **options: Any) -> Translator:
    """Any size, one style."""
    side = label_side(**options)
    return Translator(generator=spade(channels=side.channels), spec=GeneratorSpec(input=side, output=output))


def stylist(*, encoder: bool = True, output: ImageSide = DEEP_PHOTOS, **options: Any) -> Translator:
    """Paints 64 × 32 px in many styles."""
    network = spade(
        latent_channels=3,
        latent_height=1,
        latent_width=2,
        style_encoder_width=4 if encoder else None,
        style_px=32,
    )
    return Translator(generator=network, spec=GeneratorSpec(input=label_side(), output=output), **options)


def some_ids(*shape: int, classes: int = CLASSES, seed: int = 0) -> np.ndarray:
    """Blobs of a few pixels, so that there is an inside."""
    height, width = shape
    coarse = np.random.default_rng(seed).integers(0, classes, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def some_photo(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def plain_edges(numbers: np.ndarray) -> np.ndarray:
    """The rule, pixel by pixel, for numbers (H, W)."""
    padded = np.pad(numbers.astype(np.int64), 1, mode="edge")
    around = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    return np.any([neighbour != numbers for neighbour in around], axis=0)


def by_hand(ids: np.ndarray, side: ImageSide, objects: np.ndarray | None = None) -> Tensor:
    """The one-hot map (1, C, H, W): classes, don't care, edges."""
    planes = [ids == label for label in range(side.classes)]
    if side.dont_care:
        planes.append(ids == 255)
    if side.instances:
        planes.append(plain_edges(ids if objects is None else objects))
    return torch.from_numpy(np.stack(planes)[None]).float()


@torch.no_grad()
def paint(t: Translator, one_hot: Tensor, *latents: Tensor) -> np.ndarray:
    """What the network makes of it, (N, H, W, 3)."""
    return t.generator(one_hot, *latents).permute(0, 2, 3, 1).numpy()


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, in the network's units, where 16 bits stand for [-1, 1]."""
    a, b = (values / 32767.5 - 1 if values.dtype == np.uint16 else values for values in (found, expected))
    assert a.shape == b.shape
    assert b.std() > 0.05
    return np.abs(a - b).max()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert difference(found, expected) < 4e-5


COLOURS = ((70, 130, 180), (0, 0, 0), (250, 220, 0), (0, 0, 1), (244, 35, 232))


def test_colours_mean_classes_where_the_network_was_trained_with_a_palette(tmp_path: Path) -> None:
    plain = painter(output=PHOTOS)
    side = replace(label_side(), palette=COLOURS)
    save_generator(tmp_path / "g", network=plain.generator, spec=GeneratorSpec(input=side, output=PHOTOS), card="x")
    t = i2i.load(tmp_path / "g")
    assert t.spec.input is not None and t.spec.input.palette == COLOURS
    ids = some_ids(32, 64)
    coloured = np.array(COLOURS, np.uint8)[ids]
    Image.fromarray(coloured).save(tmp_path / "a.png")
    indexed = Image.fromarray(coloured).quantize(8, dither=Image.Dither.NONE)
    expected = plain(ids)
    for image in (ids, coloured, tmp_path / "a.png", indexed, torch.from_numpy(coloured).permute(2, 0, 1)):
        found = t(image)
        found = found.permute(1, 2, 0).numpy() if isinstance(found, Tensor) else np.asarray(found)
        np.testing.assert_array_equal(found, expected)
    coloured[3, 5:7] = (1, 2, 3)
    with pytest.raises(InputError, match=r"the colour \(1, 2, 3\) in 2 pixels"):
        t(coloured)
    with pytest.raises(InputError, match="a colour for each of 5 classes, got 4"):
        replace(side, palette=COLOURS[:4])


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("dont_care", [False, True])
def test_ids_become_classes_then_dont_care_then_edges(dont_care: bool, instances: bool) -> None:
    t = painter(dont_care=dont_care, instances=instances)
    side = t.spec.input
    assert side is not None
    ids = some_ids(32, 64)
    if dont_care:
        ids[5:9, 20:40] = 255
    assert_close(t(ids), paint(t, by_hand(ids, side))[0])
    if instances:
        objects = some_ids(32, 64, classes=200, seed=1)
        assert_close(t(ids, instances=objects), paint(t, by_hand(ids, side, objects))[0])
        assert difference(t(ids, instances=objects), t(ids)) > 1e-3


def test_ids_may_begin_elsewhere_and_what_is_below_is_of_no_class() -> None:
    t = painter(dont_care=True, first_id=2)
    assert t.spec.input is not None
    ids = some_ids(32, 64).astype(np.int64)
    expected = by_hand(np.where(ids == 3, 255, ids), t.spec.input)
    for of_no_class in (255, 0, 1, -1):
        assert_close(t(np.where(ids == 3, of_no_class, ids + 2)), paint(t, expected)[0])


def test_of_many_classes_another_id_means_dont_care() -> None:
    side = ImageSide(channels=301, dtype="uint16", data_range=(0, 1), labels=True, dont_care=True)
    t = Translator(generator=Mixer(301), spec=GeneratorSpec(input=side, output=FLOATS))
    ids = np.random.default_rng(0).integers(0, 300, (30, 40)).astype(np.uint16)
    ids[0, :2] = 255, 65535
    expected = torch.from_numpy(np.where(ids == 65535, 300, ids).astype(np.int64))
    assert_close(t(ids), paint(t, F.one_hot(expected, 301).movedim(-1, 0)[None].float())[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_ids_of_any_integers_and_kind(dtype: Any, tmp_path: Path) -> None:
    t, ids = painter(), some_ids(32, 32)
    expected = t(ids)
    assert_close(t(ids.astype(dtype)), expected)
    assert_close(t(ids.astype(dtype)[..., None]), expected)
    tensor = torch.from_numpy(ids.astype(dtype))
    assert_close(t(tensor[None]).permute(1, 2, 0).numpy(), expected)
    assert_close(t(tensor[None, None].expand(2, 1, 32, 32))[1].permute(1, 2, 0).numpy(), expected)
    np.save(tmp_path / "ids.npy", ids.astype(dtype))
    assert_close(t(tmp_path / "ids.npy"), expected)


def test_a_palette_is_read_by_its_indices(tmp_path: Path) -> None:
    t, ids = painter(output=PHOTOS), some_ids(32, 32)
    image = Image.fromarray(ids)
    image.putpalette(some_photo(256, 3).tobytes())
    image.save(tmp_path / "ids.png")
    expected = t(ids)
    assert expected.std() > 1
    np.testing.assert_array_equal(t(tmp_path / "ids.png"), expected)
    np.testing.assert_array_equal(np.asarray(t(image)), expected)
    file = read_image_file(tmp_path / "ids.png", labels=True)
    np.testing.assert_array_equal(t.translate_file(file).pages[0], expected)


def test_grey_is_not_spread_over_three_classes() -> None:
    torch.manual_seed(0)
    side = ImageSide(channels=3, dtype="uint8", data_range=(0, 1), network_range=(0, 1), labels=True)
    t = Translator(generator=spade(channels=3), spec=GeneratorSpec(input=side, output=FLOATS))
    ids = some_ids(32, 32, classes=3)
    assert_close(t(ids), paint(t, by_hand(ids, side))[0])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
def test_one_hot_maps_are_taken_as_they_are(dtype: Any) -> None:
    t, ids = painter(dont_care=True, instances=True), some_ids(33, 50)
    assert t.spec.input is not None
    encoded = by_hand(ids, t.spec.input)[0].permute(1, 2, 0).numpy().astype(dtype)
    assert_close(t(encoded), t(ids))


def test_a_mirrored_border_has_no_edges_of_its_own() -> None:
    """A map of odd size against the network over the map and its edges, mirrored by hand."""
    t = painter(instances=True)
    assert t.spec.input is not None
    ids, objects = some_ids(50, 70), some_ids(50, 70, classes=9, seed=3)
    whole = by_hand(ids, t.spec.input, objects)
    padded = F.pad(whole, (0, 96 - 70, 0, 64 - 50), mode="reflect")
    assert_close(t(ids, instances=objects), paint(t, padded)[0, :50, :70])


class Mixer(nn.Module):
    """Mixes the channels of each pixel, so that pieces of any kind give what the whole map does."""

    size_multiple, scale = 4, 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = channels
        self.conv = nn.Conv2d(channels, 3, 1)
        nn.init.normal_(self.conv.weight)

    def forward(self, one_hot: Tensor) -> Tensor:
        return self.conv(one_hot)


@pytest.mark.parametrize("exact", [True, False])
def test_pieces_see_the_edges_of_the_whole_map(exact: bool) -> None:
    side = label_side(dont_care=True, instances=True)
    t = Translator(generator=Mixer(side.channels), spec=GeneratorSpec(input=side, output=FLOATS))
    ids, objects = some_ids(301, 333), some_ids(301, 333, classes=50, seed=1)
    ids[100:120, 200:260] = 255
    found = t(ids, instances=objects, exact=exact, tile_px=64)
    assert t.work.stages if exact else t.work.tiles > 9
    assert_close(found, paint(t, by_hand(ids, side, objects))[0])


def test_bands_of_a_network_that_looks_labels_up() -> None:
    t = painter(dont_care=True, instances=True)
    ids, objects = some_ids(200, 330), some_ids(200, 330, classes=50, seed=1)
    whole = t(ids, instances=objects)
    assert not t.work.stages
    assert_close(t(ids, instances=objects, exact=True, tile_px=64), whole)
    assert t.work.stages


@pytest.mark.parametrize("channels", [9, 40])  # of 40 no one-hot form is made
def test_other_number_types(channels: int) -> None:
    side = ImageSide(channels=channels, dtype="uint8", data_range=(0, 1), labels=True, dont_care=True, instances=True)
    network = spade(channels=channels, latent_channels=3, latent_height=1, latent_width=2)
    spec = GeneratorSpec(input=side, output=FLOATS)
    ids = some_ids(32, 64, classes=channels - 2)
    ids[:5] = 255
    exact = Translator(generator=network, spec=spec)(ids, seed=3)
    assert_close(
        exact,
        network(by_hand(ids, side), torch.randn(1, 3, generator=torch.Generator().manual_seed(3)))
        .permute(0, 2, 3, 1)
        .detach()
        .numpy()[0],
    )
    assert difference(Translator(generator=network, spec=spec, precision="bf16")(ids, seed=3), exact) < 0.2
    assert difference(Translator(generator=network.double(), spec=spec)(ids, seed=3), exact) < 1e-4


def test_a_list_of_maps_with_instances() -> None:
    t = painter(instances=True)
    ids = [some_ids(32, 64, seed=seed) for seed in range(3)]
    objects = [some_ids(32, 64, classes=9, seed=seed + 5) for seed in range(3)]
    for found, one, its in zip(t(ids, instances=objects), ids, objects, strict=True):
        assert_close(found, t(one, instances=its))


def test_instances_may_be_colours(tmp_path: Path) -> None:
    t, ids, objects = painter(instances=True), some_ids(32, 64), some_ids(32, 64, classes=200, seed=1)
    expected = t(ids, instances=objects)
    colours = some_photo(200, 3, seed=2)[objects]
    Image.fromarray(colours).save(tmp_path / "instances.png")
    assert_close(t(ids, instances=colours), expected)
    assert_close(t(ids, instances=tmp_path / "instances.png"), expected)
    assert_close(t(ids, instances=objects.astype(np.uint16) * 300), expected)


def test_a_seed_is_a_style() -> None:
    t, ids = stylist(), some_ids(32, 64)
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(7))
    expected = paint(t, by_hand(ids, label_side()), z)[0]
    assert_close(t(ids, seed=7), expected)
    assert_close(t(ids, seed=np.int64(7)), expected)
    assert_close(t(ids, style=t.draw_style(7)), expected)
    state = torch.get_rng_state()
    many = t([ids, ids, torch.from_numpy(ids)[None, None].expand(2, 1, 32, 64)], seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    for found in (many[0], many[1], *many[2].permute(0, 2, 3, 1).numpy()):
        assert_close(found, expected)
    assert difference(t(ids, seed=8), expected) > 0.01


def test_without_a_style_it_is_the_mean_one() -> None:
    t, ids = stylist(), some_ids(32, 64)
    assert_close(t(ids), paint(t, by_hand(ids, label_side()), torch.zeros(1, 3))[0])


@torch.no_grad()
def test_a_photo_is_a_style(tmp_path: Path) -> None:
    t, ids = stylist(), some_ids(32, 64)
    photo = some_photo(32, 64, 3)
    values = torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1
    mean, _ = t.generator.style_encoder(values)
    expected = paint(t, by_hand(ids, label_side()), mean)[0]
    assert difference(t(ids), expected) > 0.01
    Image.fromarray(photo).save(tmp_path / "photo.png")
    opaque = np.dstack([photo, some_photo(32, 64, seed=4)])
    for style in (
        photo,
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        Image.fromarray(photo),
        Image.fromarray(opaque),
        opaque,
        torch.from_numpy(photo).permute(2, 0, 1),
        photo.astype(np.uint16) * 257,
        (photo / 255).astype(np.float32),
        t.encode_style(photo),
    ):
        assert_close(t(ids, style=style), expected)


@torch.no_grad()
def test_a_grey_photo_has_three_equal_channels() -> None:
    t, ids = stylist(), some_ids(32, 64)
    grey = some_photo(32, 64)
    expected = t(ids, style=np.dstack([grey] * 3))
    for style in (grey, grey[..., None], np.dstack([grey, grey]), Image.fromarray(grey), torch.from_numpy(grey)[None]):
        assert_close(t(ids, style=style), expected)


def test_a_large_photo_is_averaged_as_the_photos_of_training_were() -> None:
    t, ids = stylist(), some_ids(32, 64)
    large = some_photo(320, 700, 3)  # whose pixels differ from their neighbours as much as they can
    small = Image.fromarray(large).resize((64, 32), Image.Resampling.BILINEAR)
    expected = t(ids, style=small)
    other = difference(t(ids, style=some_photo(32, 64, 3)), expected)
    assert difference(t(ids, style=large), expected) < other / 5


def test_every_image_of_a_batch_has_its_own_style() -> None:
    t = stylist()
    ids = [some_ids(32, 64, seed=seed) for seed in range(4)]
    photos = [some_photo(20 + seed, 30, 3, seed=seed) for seed in range(4)]
    alone = [t(one, style=photo) for one, photo in zip(ids, photos, strict=True)]
    for found, expected in zip(t(ids, style=photos, batch_size=3), alone, strict=True):
        assert_close(found, expected)
    for found, one in zip(t(ids, style=photos[1], batch_size=3), ids, strict=True):
        assert_close(found, t(one, style=photos[1]))
    batch = torch.from_numpy(np.stack(ids))[:, None]
    styles = torch.stack([torch.from_numpy(np.resize(photo, (20, 30, 3))).permute(2, 0, 1) for photo in photos])
    for found, one, style in zip(t(batch, style=styles), ids, styles, strict=True):
        assert_close(found.permute(1, 2, 0).numpy(), t(one, style=style))


def test_maps_of_another_size_are_resized_to_the_only_one_and_photos_back() -> None:
    t = stylist(output=PHOTOS)
    for height, width in ((480, 640), (32, 64), (7, 5), (1, 1)):
        ids = some_ids(height, width)
        small = np.asarray(Image.fromarray(ids).resize((64, 32), Image.Resampling.NEAREST))
        photo = torch.from_numpy(t(small, seed=1)).permute(2, 0, 1)
        assert t.work.resized == 0
        expected = v2.functional.resize(photo, [height, width], v2.InterpolationMode.BICUBIC, antialias=True)
        found = t(ids, seed=1, tile_px=64)
        assert t.work.resized == (0 if (height, width) == (32, 64) else 1)
        difference = np.abs(found.astype(int) - expected.permute(1, 2, 0).numpy())
        assert found.shape == (height, width, 3) and difference.max() <= 1


def test_ids_and_one_hot_maps_in_one_list() -> None:
    t, ids = painter(), some_ids(32, 64)
    one_hot = by_hand(ids, label_side())[0].permute(1, 2, 0).numpy()
    first, second = t([ids, one_hot])
    assert_close(first, second)


def test_each_image_may_have_a_seed_of_its_own() -> None:
    t, ids = stylist(), some_ids(32, 64)
    for found, seed in zip(t([ids, ids], seed=[3, 4]), (3, 4), strict=True):
        assert_close(found, t(ids, seed=seed))


def test_label_maps_may_be_flat_tensors_booleans_and_grey_saved_as_colour(tmp_path: Path) -> None:
    t = painter(output=PHOTOS)
    ids = some_ids(32, 64)
    expected = t(ids)
    flat = t(torch.from_numpy(ids.astype(np.int64)))
    assert flat.shape == (3, 32, 64)
    np.testing.assert_array_equal(flat.permute(1, 2, 0), expected)
    Image.fromarray(ids).convert("RGB").save(tmp_path / "grey.png")
    for image in (np.repeat(ids[..., None], 3, axis=2), tmp_path / "grey.png", Image.open(tmp_path / "grey.png")):
        np.testing.assert_array_equal(np.asarray(t(image)), expected)
    mask = ids > 2
    np.testing.assert_array_equal(t(mask), t(mask.astype(np.uint8)))
    np.testing.assert_array_equal(t(torch.from_numpy(mask)).permute(1, 2, 0), t(mask))


def test_instances_are_resized_before_their_edges_are_found() -> None:
    network = spade(channels=CLASSES + 1, latent_channels=3, latent_height=1, latent_width=2)
    side = label_side(instances=True)
    t = Translator(generator=network, spec=GeneratorSpec(input=side, output=FLOATS))
    ids, objects = some_ids(100, 150), some_ids(100, 150, classes=90, seed=1)
    ids_then, objects_then = (
        np.asarray(Image.fromarray(numbers).resize((64, 32), Image.Resampling.NEAREST)) for numbers in (ids, objects)
    )
    painted = paint(t, by_hand(ids_then, side, objects_then))
    photo = torch.from_numpy(painted).permute(0, 3, 1, 2)
    expected = v2.functional.resize(photo, [100, 150], v2.InterpolationMode.BICUBIC, antialias=True)
    assert_close(t(ids, instances=objects), expected[0].permute(1, 2, 0).numpy())


def test_a_result_that_is_not_finite_is_painted_again_in_its_own_style(monkeypatch: pytest.MonkeyPatch) -> None:
    t = stylist(precision="bf16")
    ids, photos = [some_ids(32, 64)] * 3, [some_photo(32, 64, 3, seed=seed) for seed in range(3)]
    styles = [t.encode_style(photo) for photo in photos]

    class Fails(nn.Module):
        """NaN for one style in 16 bits."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, labels: Tensor, z: Tensor) -> Tensor:
            result = self.network(labels, z)
            bad = (z - styles[1]).abs().amax(dim=1) < 1e-6
            if torch.is_autocast_enabled("cpu"):
                result[bad] = torch.nan
            return result

    monkeypatch.setattr(t.engine._run, "_call", Fails(t.generator))
    found = t(ids, style=photos, batch_size=3)
    assert t.work.redone_fp32 == 1
    assert_close(found[1], paint(t, by_hand(ids[0], label_side()), styles[1][None])[0])
    other = paint(t, by_hand(ids[0], label_side()), styles[0][None])[0]
    assert 1e-4 < difference(found[0], other) < 0.3


def test_too_little_memory_is_said_where_there_are_no_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    t = stylist()

    def fail(*_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(t.engine._run, "_call", fail)
    with pytest.raises(InputError, match="memory on cpu does not suffice, and the network takes whole images only"):
        t(some_ids(32, 64), seed=1)


RGB = some_photo(32, 64, 3)


@pytest.mark.parametrize(
    ("t", "call", "message"),
    [
        (painter, lambda t, ids: t(ids + 4), r"the image has the class id 5 in \d+ pixels; the network knows 0 to 4"),
        (painter, lambda t, ids: t(ids.astype(np.int64) - 1), r"has the class id -1 in \d+ pixels"),
        (painter, lambda t, ids: t(np.where(ids == 2, 255, ids)), r"has 255, .*in \d+ pixels.* without don't care"),
        (painter, lambda t, ids: t(ids / 1.0), r"the image is float64; expected class ids, which are integers"),
        (painter, lambda t, ids: t(RGB), r"expected a label map of one channel, class ids from 0 to 4, got 3 channels"),
        (painter, lambda t, ids: t(np.dstack([ids] * 5)), r"one-hot label maps, but values from 0 to 4"),
        (painter, lambda t, ids: t(ids[:0]), "has no pixels"),
        (painter, lambda t, ids: t(ids, instances=ids), "trained without edges between instances"),
        (painter, lambda t, ids: t(ids, style=RGB), "style: this generator has no latent vector"),
        (painter, lambda t, ids: t(ids, seed=1), "seed: this generator has no latent vector"),
        (stylist, lambda t, ids: t(ids, seed=1, style=RGB), "style and seed are two ways"),
        (stylist, lambda t, ids: t(ids, seed=-1), r"seed: expected an integer from 0 .* got -1"),
        (stylist, lambda t, ids: t(ids, seed=2**63), "seed: expected an integer from 0"),
        (stylist, lambda t, ids: t(ids, seed=1.5), r"seed: expected an integer from 0 .* got 1\.5"),
        (stylist, lambda t, ids: t(ids, seed=True), "seed: expected an integer from 0 .* got True"),
        (
            stylist,
            lambda t, ids: t([ids] * 3, style=[RGB] * 2),
            "one style or seed, or as many as images, 3; got 2",
        ),
        (stylist, lambda t, ids: t(ids, style=np.dstack([RGB, RGB])), "style: expected 3 channels"),
        (stylist, lambda t, ids: t(ids, style=RGB / 1.0), "style has values from .* expected floats in"),
        (stylist, lambda t, ids: t(ids, style=torch.zeros(4)), "a latent vector of 3 finite values, got 4"),
        (stylist, lambda t, ids: t(ids, style=3), "style is of type int"),
        (stylist, lambda t, ids: t(ids, style=RGB[:0]), "style has no pixels"),
        (stylist, lambda t, ids: t(ids, style=torch.zeros(2, 3, 8, 8)), "as many as the image has images, 1; got 2"),
        (stylist, lambda t, ids: t.encode_style(torch.zeros(2, 3, 8, 8)), "expected one photo, got 2"),
        (lambda: stylist(encoder=False), lambda t, ids: t(ids, style=RGB), r"no style encoder.*latest_net_E\.pth"),
        (lambda: painter(instances=True), lambda t, ids: t(ids, instances=ids[1:]), "of 64 x 32 px, got 1 of 64 x 31"),
        (lambda: painter(instances=True), lambda t, ids: t([ids], instances=ids), "one instance map for each image"),
        (lambda: painter(instances=True), lambda t, ids: t([ids] * 2, instances=[ids]), "for each image, 2; got 1"),
    ],
)
def test_what_cannot_be_is_refused(t: Callable[[], Translator], call: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(t(), some_ids(32, 64))


def test_a_jpeg_is_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(some_ids(32, 32)).save(tmp_path / "ids.jpg")
    for image in (tmp_path / "ids.jpg", Image.open(tmp_path / "ids.jpg")):
        with pytest.raises(InputError, match="JPEG"):
            painter()(image)


def test_photos_take_neither_instances_nor_styles() -> None:
    class Copy(nn.Module):
        in_channels, size_multiple, scale = 3, 1, 1

        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor) -> Tensor:
            return self.gain * images

    t = Translator(generator=Copy(), spec=GeneratorSpec(input=PHOTOS, output=PHOTOS))
    np.testing.assert_array_equal(t(RGB), RGB)
    for options, message in (
        ({"instances": RGB}, "not label maps"),
        ({"style": RGB}, "no latent"),
        ({"seed": 1}, "no"),
    ):
        with pytest.raises(InputError, match=message):
            t(RGB, **options)


def test_a_generator_is_shared_with_its_encoder(tmp_path: Path) -> None:
    t, ids, photo = stylist(), some_ids(32, 64), some_photo(40, 50, 3)
    save_generator(tmp_path, network=t.generator, spec=t.spec, card="")
    assert_close(i2i.load(tmp_path)(ids, style=photo), t(ids, style=photo))
    card = (tmp_path / "README.md").read_text()
    assert "t(label_map, style=photo)" in card and "t(label_map, seed=7)" in card


def official(network: StyleEncoder) -> dict[str, Tensor]:
    """Its tensors as SPADE names them."""
    tensors = {}
    for key, tensor in network.state_dict().items():
        key = key.replace("mean.", "fc_mu.").replace("log_variance.", "fc_var.")
        for n in range(8):
            key = key.replace(f"blocks.{n}.0.", f"layer{n + 1}.0.")
        for ours, theirs in (("original", "_orig"), ("0._u", "_u"), ("0._v", "_v")):
            key = key.replace(f"parametrizations.weight.{ours}", f"weight{theirs}")
        tensors[key] = tensor
    return tensors


def test_an_encoder_from_a_file_of_its_own(tmp_path: Path) -> None:
    """Attached, its styles are those of the generator that it was taken from."""
    t, ids, photo = stylist(), some_ids(32, 64), some_photo(32, 64, 3)
    torch.save(official(t.generator.style_encoder), tmp_path / "latest_net_E.pth")
    bare = stylist(encoder=False)
    bare.generator.load_state_dict(
        {key: tensor for key, tensor in t.generator.state_dict().items() if "style" not in key}
    )
    save_generator(tmp_path / "bare", network=bare.generator, spec=bare.spec, card="")
    loaded = i2i.load(tmp_path / "bare", style_encoder=tmp_path / "latest_net_E.pth")
    assert_close(loaded(ids, style=photo), t(ids, style=photo))
    assert not loaded.generator.style_encoder.training
    save_generator(tmp_path / "both", network=loaded.generator, spec=loaded.spec, card="")
    assert_close(i2i.load(tmp_path / "both")(ids, style=photo), t(ids, style=photo))


def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save_generator(tmp_path / "t", network=stylist().generator, spec=stylist().spec, card="")
    save_generator(tmp_path / "plain", network=painter().generator, spec=painter().spec, card="")
    torch.save(official(StyleEncoder(width=4, latent_channels=5, image_px=32)), tmp_path / "E.pth")
    for weights, encoder, message in (
        ("t", "E.pth", r"E\.pth makes latent vectors of 5 values .* takes 3"),
        ("plain", "E.pth", "without a latent vector"),
        ("t", "plain", "plain is a i2i spade; expected a style encoder"),
    ):
        with pytest.raises(InputError, match=message):
            i2i.load(tmp_path / weights, style_encoder=tmp_path / encoder)


def test_what_a_person_knows_of_the_channels(tmp_path: Path) -> None:
    save_generator(tmp_path, network=painter().generator, spec=painter().spec, card="")
    t = i2i.load(tmp_path, dont_care=True, instance_edges=True, first_id=1)
    assert t.spec.input is not None
    assert (t.spec.input.classes, t.spec.input.channels) == (3, 5)
    ids = some_ids(32, 64, classes=3)
    ids[:9, :9] = 255
    assert_close(t(np.where(ids == 255, 255, ids + 1)), paint(t, by_hand(ids, t.spec.input))[0])


@pytest.mark.data
@pytest.mark.parametrize("name", ["normal", "most-vae"])
def test_golden_outputs_from_class_ids(name: str, data_dir: Path) -> None:
    folder = data_dir / "golden" / f"spade-generator-{name}"
    golden = torch.load(folder / "io.pt")
    one_hot = golden["inputs"]["input"]
    ids = one_hot.argmax(dim=1, keepdim=True)
    assert torch.equal(F.one_hot(ids[:, 0], one_hot.shape[1]).movedim(-1, 1).float(), one_hot)
    t = i2i.load(folder / "weights.pth", output_range=(-1, 1))
    styles = golden["inputs"].get("z")
    found = t(ids) if styles is None else torch.stack(t(list(ids), style=list(styles)))
    torch.testing.assert_close(found, golden["output"], rtol=0, atol=1e-5)
    checkpoint = open_checkpoint(folder / "weights.pth")
    assert checkpoint.spec is not None and checkpoint.spec.input is not None and checkpoint.spec.input.labels
