"""What super-resolution learns from: which images belong together, what is refused, and the crops that come of them."""

import re
import sys
import zlib
from itertools import islice
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from i2i.data.decoded import DecodedImages
from i2i.data.degrade import Degradation, degrade, sharpen
from i2i.data.folders import SideInfo
from i2i.data.image_io import write_image
from i2i.data.lmdb_images import unpack_lmdb
from i2i.data.sampler import Draw, DrawSampler, worker_init
from i2i.data.streets import make_scene
from i2i.data.superres import (
    DegradedOnce,
    DetailedCrops,
    HighLow,
    SuperResolutionImages,
    SuperResolutionStreets,
    find_high_low,
    find_training,
    fingerprint_high_low,
    probe_high_low,
    shrunk,
)
from i2i.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))


def noise(height: int, width: int, *, channels: int = 3, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, channels), endpoint=True)
    return values.astype(dtype)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        write_image(folder / name, noise(8, 8))


def shapes(item: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in item.items()}


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("0001", "0001"), ("0001", "0001x4"), ("0001", "0001_x4"), ("baby_HR", "baby_LR"), ("baby_HR", "baby"),
        ("baby_HR", "baby_HR"), ("Canon_001_HR", "Canon_001_LR4"), ("baby_GT", "baby_LQ"), ("matrix4", "matrix4"),
    ],
)  # fmt: skip
def test_low_belongs_to_high_by_the_names_in_use(tmp_path: Path, high: str, low: str):
    touch(tmp_path / "high", f"{high}.png", "other.png")
    touch(tmp_path / "low", f"{low}.jpg", "other.png")
    pairs = find_high_low(tmp_path / "high", scale=4, low=tmp_path / "low")
    assert {pair.high.name: pair.low.name for pair in pairs if pair.low} == {
        f"{high}.png": f"{low}.jpg",
        "other.png": "other.png",
    }


def test_an_image_without_its_partner_is_named(tmp_path: Path):
    touch(tmp_path / "high", "1.png", "2.png")
    touch(tmp_path / "low", "1x2.png", "2x3.png")
    with pytest.raises(InputError, match=r"2\.png has no partner in .*low; expected an LR image named 2, 2x2, 2_x2"):
        find_high_low(tmp_path / "high", scale=2, low=tmp_path / "low")
    touch(tmp_path / "low", "2.png")
    with pytest.raises(InputError, match=r"2x3\.png has no HR image in .*high \(1 of 3"):
        find_high_low(tmp_path / "high", scale=2, low=tmp_path / "low")


def test_a_folder_of_both_resolutions_is_taken_by_its_scale(tmp_path: Path):
    touch(tmp_path / "HR", "a.png")
    touch(tmp_path / "HRx2", "a.png")
    touch(tmp_path / "LRx2", "a.png")
    touch(tmp_path / "LRx4", "a.png")
    for scale, high, low in ((2, "HRx2", "LRx2"), (4, "HR", "LRx4")):
        expected = HighLow(high=tmp_path / high / "a.png", low=tmp_path / low / "a.png")
        assert find_high_low(tmp_path, scale=scale) == [expected]
    assert find_high_low(tmp_path, scale=3) == [HighLow(high=tmp_path / "HR" / "a.png")]


def test_training_and_held_out_images(tmp_path: Path):
    flat, phases = tmp_path / "flat", tmp_path / "phases"
    touch(flat, *(f"{number:02}.png" for number in range(21)))
    training, held_out = find_training(flat, scale=4)
    assert [one.high.stem for one in held_out] == ["00", "10", "20"]
    assert len(training) == 18 and not {one.high for one in training} & {one.high for one in held_out}

    touch(phases / "train", "1.png")
    touch(phases / "test" / "HR", "2.png")
    touch(phases / "test" / "LRx4", "2x4.png")
    training, held_out = find_training(phases, scale=4)
    assert training == [HighLow(high=phases / "train" / "1.png")]
    expected = HighLow(high=phases / "test" / "HR" / "2.png", low=phases / "test" / "LRx4" / "2x4.png")
    assert held_out == [expected]

    touch(tmp_path / "beside" / "HR", "1.png", "2.png")
    touch(tmp_path / "beside" / "val", "3.png")
    training, held_out = find_training(tmp_path / "beside", scale=4)
    assert ([one.high.stem for one in training], [one.high.stem for one in held_out]) == (["1", "2"], ["3"])

    touch(tmp_path / "one", "1.png")
    with pytest.raises(InputError, match="only image"):
        find_training(tmp_path / "one", scale=4)


def test_meta_info_says_which_images(tmp_path: Path):
    touch(tmp_path / "high", "a.png", "b.png", "set/c d.png")
    touch(tmp_path / "low", "bx4.png", "set/c dx4.png")
    meta_info = tmp_path / "meta_info.txt"
    meta_info.write_text("set/c d.png (8,8,3)\nb.png (8,8,3) 1\n\n")
    high, low = tmp_path / "high", tmp_path / "low"
    expected = [
        HighLow(high=high / "set/c d.png", low=low / "set/c dx4.png"),
        HighLow(high=high / "b.png", low=low / "bx4.png"),
    ]
    assert find_high_low(high, scale=4, low=low, meta_info=meta_info) == expected
    meta_info.write_text("high/a.png, low/bx4.png\n")
    pair = HighLow(high=high / "a.png", low=low / "bx4.png")
    assert find_high_low(tmp_path, scale=4, meta_info=meta_info) == [pair]
    meta_info.write_text("a.png (8,8,3)\nz.png (8,8,3)\n")
    with pytest.raises(InputError, match=r"z\.png is missing, which line 2 of .*meta_info\.txt names"):
        find_high_low(high, scale=4, meta_info=meta_info)
    meta_info.write_text("high/a.png, low/bx4.png\nhigh/b.png\n")
    with pytest.raises(InputError, match="for some images only"):
        find_high_low(tmp_path, scale=4, meta_info=meta_info)


def write_lmdb(folder: Path, images: dict[str, np.ndarray]) -> None:
    """As BasicSR writes it: keys without suffix, values the bytes of PNG files, and a list of both."""
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, image in images.items():
            transaction.put(key.encode(), cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    lines = [f"{key}.png ({','.join(map(str, image.shape))}) 1\n" for key, image in images.items()]
    (folder / "meta_info.txt").write_text("".join(lines))


def test_lmdb_is_read_as_the_images_in_it(tmp_path: Path):
    high, low = tmp_path / "high.lmdb", tmp_path / "low.lmdb"
    images = {"0001_s001": noise(32, 32), "0001_s002": noise(32, 40, seed=1)}
    write_lmdb(high, images)
    write_lmdb(low, {key: image[::4, ::4] for key, image in images.items()})
    pairs = find_high_low(high, scale=4, low=low)
    info = probe_high_low(pairs, scale=4, crop_px=32)
    assert (info.count, info.smallest_px, info.largest_px) == (2, (32, 32), (32, 40))
    data = SuperResolutionImages(images=pairs, scale=4, crop_px=32, side=info.side)
    for item, image in zip((data[0], data[1]), images.values(), strict=True):
        np.testing.assert_allclose(item["target"].permute(1, 2, 0) * 255, image, atol=1e-4)
        np.testing.assert_allclose(item["input"].permute(1, 2, 0) * 255, image[::4, ::4], atol=1e-4)


def test_meta_info_may_choose_from_an_lmdb(tmp_path: Path):
    high, low = tmp_path / "high.lmdb", tmp_path / "low.lmdb"
    images = {"set/1": noise(32, 32), "set/2": noise(32, 40, seed=1)}
    write_lmdb(high, images)
    write_lmdb(low, {key: image[::4, ::4] for key, image in images.items()})
    (tmp_path / "list.txt").write_text("set/2.png (32,40,3)\n")
    (pair,) = find_high_low(high, scale=4, low=low, meta_info=tmp_path / "list.txt")
    np.testing.assert_array_equal(cv2.imread(str(pair.high))[..., ::-1], images["set/2"])
    assert pair.low is not None
    np.testing.assert_array_equal(cv2.imread(str(pair.low))[..., ::-1], images["set/2"][::4, ::4])


def test_degraded_once_is_always_the_same_and_as_deep_as_the_file():
    high = noise(33, 40, dtype="uint16")
    once = DegradedOnce(scale=4, settings=Degradation())
    side = SideInfo(channels=3, dtype="uint16", data_range=(0, 4095))
    torch.manual_seed(5)
    low = once.low(high // 16, side)
    assert low.shape == (8, 10, 3) and low.dtype == np.uint16 and low.max() <= 4095
    np.testing.assert_array_equal(once.low(high // 16, side), low)
    torch.manual_seed(zlib.crc32((high // 16).tobytes()))
    target = torch.from_numpy((high[:32] // 16 / 4095).astype(np.float32)).permute(2, 0, 1)[None]
    expected = degrade(sharpen(target), scale=4, settings=Degradation())
    np.testing.assert_allclose(low, expected[0].permute(1, 2, 0) * 4095, atol=1)


def test_an_lmdb_is_unpacked_once_and_goes_on_where_it_stopped(tmp_path: Path):
    folder = tmp_path / "high.lmdb"
    write_lmdb(folder, {"a": noise(8, 8), "sub/b": noise(8, 8, seed=1)})
    first, second = sorted(unpack_lmdb(folder).iterdir())
    assert (first.name, second.name) == ("a.png", "sub_b.png")
    before = first.stat().st_mtime_ns
    second.unlink()
    unpack_lmdb(folder)
    assert second.exists() and first.stat().st_mtime_ns == before
    whole = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match=r"data\.mdb is truncated"):
        unpack_lmdb(folder)
    (folder / "data.mdb").write_bytes(b"no database")
    with pytest.raises(InputError, match=r"high\.lmdb is no readable database"):
        unpack_lmdb(folder)


@pytest.mark.parametrize(
    ("high", "low", "used"),
    [
        ((32, 40), (8, 10), (32, 40)),
        ((35, 41), (8, 10), (32, 40)),  # cut to a multiple before it was shrunk
        ((35, 41), (9, 11), (32, 40)),  # the whole image shrunk, as MATLAB rounds its size
    ],
)
def test_high_is_cut_to_what_low_covers(
    tmp_path: Path, high: tuple[int, int], low: tuple[int, int], used: tuple[int, int]
):
    write_image(tmp_path / "high.png", noise(*high))
    write_image(tmp_path / "low.png", noise(*low))
    images = [HighLow(high=tmp_path / "high.png", low=tmp_path / "low.png")]
    info = probe_high_low(images, scale=4)
    assert info.smallest_px == used
    item = SuperResolutionImages(images=images, scale=4, crop_px=8, side=info.side)[0]
    assert shapes(item) == {"target": (3, *used), "input": (3, used[0] // 4, used[1] // 4)}
    corner = torch.from_numpy(noise(*high)[: used[0], : used[1]]).permute(2, 0, 1) / 255
    torch.testing.assert_close(item["target"], corner)


def test_sizes_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    write_image(tmp_path / "high.png", noise(36, 40))
    write_image(tmp_path / "low.png", noise(8, 10))
    images = [HighLow(high=tmp_path / "high.png", low=tmp_path / "low.png")]
    message = r"low\.png is 10 x 8 px but .*high\.png is 40 x 36 px; expected 10 x 9 px for scale 4"
    with pytest.raises(InputError, match=message):
        probe_high_low(images, scale=4)
    write_image(tmp_path / "low.png", noise(9, 11))
    with pytest.raises(InputError, match=r"low\.png is 11 x 9 px but .* expected 10 x 9 px for scale 4"):
        probe_high_low(images, scale=4)
    alone = [HighLow(high=tmp_path / "high.png")]
    with pytest.raises(InputError, match=r"high\.png is 40 x 36 px, smaller than --crop-px 64: give --crop-px 36 or"):
        probe_high_low(alone, scale=4, crop_px=64)
    with pytest.raises(InputError, match=r"low\.png is 11 x 9 px, which is too small for scale 16"):
        probe_high_low([HighLow(high=tmp_path / "low.png")], scale=16)
    with pytest.raises(InputError, match="crop of 30 px does not fit scale 4; expected a multiple of it, such as 28"):
        SuperResolutionImages(images=alone, scale=4, crop_px=30, side=probe_high_low(alone, scale=4).side)
    side = probe_high_low(alone, scale=4).side
    data = SuperResolutionImages(images=alone, scale=4, crop_px=64, side=side)
    with pytest.raises(InputError, match=r"high\.png: the image is 40 x 36 px, smaller than the crop of 64 px"):
        data[Draw(index=0, seed=1, number=0)]


def test_other_depths_channels_and_halves_of_files_are_refused(tmp_path: Path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", noise(16, 16))
    images = find_high_low(tmp_path, scale=2)
    write_image(tmp_path / "1.png", noise(16, 16, dtype="uint16"))
    with pytest.raises(InputError, match=r"1\.png is uint16; expected uint8, as for all HR and LR images: 1 of 3"):
        probe_high_low(images, scale=2)
    write_image(tmp_path / "1.png", noise(16, 16, channels=4))
    with pytest.raises(InputError, match=r"1\.png has a channel count of 4; expected 3"):
        probe_high_low(images, scale=2)
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"1\.png.*truncated"):
        probe_high_low(images, scale=2)


@pytest.mark.parametrize(
    ("dtype", "channels", "suffix", "data_range"),
    [
        ("uint16", 3, ".png", (0, 65535)),
        ("uint16", 5, ".tif", (0, 4095)),
        ("uint8", 1, ".png", (0, 255)),
        ("float32", 2, ".npy", (-1000, 3000)),
    ],
)
def test_values_of_any_depth_become_0_to_1(
    tmp_path: Path, dtype: str, channels: int, suffix: str, data_range: tuple[float, float]
):
    rng = np.random.default_rng(0)
    image = rng.uniform(*data_range, (24, 32, channels)).astype(dtype)
    write_image(tmp_path / f"a{suffix}", image)
    images = find_high_low(tmp_path, scale=4)
    side = probe_high_low(images, scale=4, data_range=data_range).side
    assert side == SideInfo(channels=channels, dtype=dtype, data_range=data_range)
    item = SuperResolutionImages(images=images, scale=4, crop_px=8, side=side)[0]
    low, high = data_range
    expected = (image.astype(np.float64) - low) / (high - low)
    np.testing.assert_allclose(item["target"].permute(1, 2, 0), expected, atol=1e-6)
    assert shapes(item) == {"target": (channels, 24, 32), "input": (channels, 6, 8)}
    in_file_units = item["input"].double() * (high - low) + low
    if dtype != "float32":
        assert (in_file_units - in_file_units.round()).abs().max() < 1e-2  # rounded, as a file would be


def test_float_range_is_measured_and_held_out_images_take_over_that_of_training(tmp_path: Path):
    write_image(tmp_path / "train" / "a.npy", np.linspace(-2, 6, 8 * 8 * 1, dtype=np.float32).reshape(8, 8, 1))
    write_image(tmp_path / "test" / "a.npy", np.linspace(0, 9, 8 * 8 * 1, dtype=np.float32).reshape(8, 8, 1))
    training, held_out = find_training(tmp_path, scale=2)
    side = probe_high_low(training, scale=2).side
    assert side.data_range == (-2, 6)
    assert probe_high_low(held_out, scale=2, like=side).side == side


def test_grey_among_colour_is_repeated(tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", noise(8, 8, seed=number))
    write_image(tmp_path / "grey.png", noise(8, 8, channels=1))
    images = find_high_low(tmp_path, scale=2)
    data = SuperResolutionImages(images=images, scale=2, crop_px=8, side=probe_high_low(images, scale=2).side)
    for value in data[2].values():
        assert value.shape[0] == 3
        assert torch.equal(value[0], value[1])


def test_a_crop_is_one_of_eight_views_of_one_place_in_both_resolutions(tmp_path: Path):
    # HR repeats each pixel of LR, so that places can be compared; each LR value occurs once.
    low = np.arange(15 * 17, dtype=np.uint16).reshape(15, 17, 1) * 256
    high = low.repeat(3, axis=0).repeat(3, axis=1)
    write_image(tmp_path / "high" / "a.png", high)
    write_image(tmp_path / "low" / "a.png", low)
    images = find_high_low(tmp_path / "high", scale=3, low=tmp_path / "low")
    data = SuperResolutionImages(images=images, scale=3, crop_px=12, side=probe_high_low(images, scale=3).side)
    views = set()
    corners = set()
    for seed in range(300):
        item = data[Draw(index=0, seed=seed, number=0)]
        assert shapes(item) == {"target": (1, 12, 12), "input": (1, 4, 4)}
        assert torch.equal(item["input"].repeat_interleave(3, 1).repeat_interleave(3, 2), item["target"])
        values = (item["input"][0] * 65535 / 256).round().int()
        top, left = divmod(int(values.min()), 17)
        corners.add((top, left))
        views.add(tuple((values - values.min()).flatten().tolist()))
    square = torch.arange(4)[:, None] * 17 + torch.arange(4)
    turned = [torch.rot90(flipped, turns) for flipped in (square, square.flip(1)) for turns in range(4)]
    assert views == {tuple(view.flatten().tolist()) for view in turned}
    assert {top for top, _ in corners} == set(range(12)) and {left for _, left in corners} == set(range(14))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_low_is_made_of_the_whole_image(tmp_path: Path, dtype: str):
    """So that a crop has the LR of its surroundings, and not a border of its own."""
    write_image(tmp_path / "a.png", noise(40, 40, dtype=dtype))
    images = find_high_low(tmp_path, scale=4)
    data = SuperResolutionImages(images=images, scale=4, crop_px=8, side=probe_high_low(images, scale=4).side)
    whole = data[0]["input"].unfold(1, 2, 1).unfold(2, 2, 1).reshape(3, 81, 4)
    for seed in range(20):
        crop = data[Draw(index=0, seed=seed, number=0)]["input"]
        views = [
            torch.rot90(view, turns, (1, 2)).reshape(3, 1, 4) for view in (crop, crop.flip(2)) for turns in range(4)
        ]
        assert any((whole == view).all(dim=2).all(dim=0).any() for view in views)


def test_without_input_only_the_target_is_read(tmp_path: Path):
    touch(tmp_path, "a.png")
    images = find_high_low(tmp_path, scale=2)
    side = probe_high_low(images, scale=2).side
    full = SuperResolutionImages(images=images, scale=2, crop_px=4, side=side)
    target_only = SuperResolutionImages(images=images, scale=2, crop_px=4, side=side, with_input=False)
    draw = Draw(index=0, seed=3, number=0)
    assert shapes(target_only[draw]) == {"target": (3, 4, 4)} and shapes(target_only[0]) == {"target": (3, 8, 8)}
    assert torch.equal(target_only[draw]["target"], full[draw]["target"])


def batches(data: Dataset[dict[str, Tensor]], *, length: int, workers: int) -> list[dict[str, Tensor]]:
    sampler = DrawSampler(length=length, batch_size=3, seed=5)
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, worker_init_fn=worker_init)
    return list(islice(loader, 5))


def test_items_do_not_depend_on_workers_or_on_what_is_kept(tmp_path: Path):
    for number in range(7):
        write_image(tmp_path / "images" / f"{number}.jpg", noise(40, 44, seed=number))
    images = find_high_low(tmp_path / "images", scale=4)
    side = probe_high_low(images, scale=4).side

    def data(decoded: DecodedImages) -> SuperResolutionImages:
        return SuperResolutionImages(images=images, scale=4, crop_px=16, side=side, decoded=decoded)

    expected = batches(data(DecodedImages(keep=False)), length=7, workers=0)
    assert len({batch["target"].sum().item() for batch in expected}) == 5
    kept = DecodedImages(folder=tmp_path / "kept")
    for found in (
        batches(data(kept), length=7, workers=2),
        batches(data(kept), length=7, workers=2),
        batches(data(kept), length=7, workers=0),
    ):
        for batch, other in zip(expected, found, strict=True):
            assert torch.equal(batch["target"], other["target"]) and torch.equal(batch["input"], other["input"])
    assert len(list((tmp_path / "kept").iterdir())) == 14


def test_the_fingerprint_follows_the_files_and_not_their_folder(tmp_path: Path):
    for folder in ("here", "there"):
        touch(tmp_path / folder / "high", "a.png")
        touch(tmp_path / folder / "low", "a.png")
    here, there = (
        find_high_low(tmp_path / folder / "high", scale=1, low=tmp_path / folder / "low")
        for folder in ("here", "there")
    )
    assert fingerprint_high_low(here) == fingerprint_high_low(there)
    write_image(tmp_path / "there" / "low" / "a.png", noise(8, 8, seed=1))
    assert fingerprint_high_low(here) != fingerprint_high_low(there)
    assert fingerprint_high_low(here) != fingerprint_high_low([HighLow(high=here[0].high)])


def test_built_in_streets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = SuperResolutionStreets(count=2, scale=4, crop_px=32, first_seed=7, size=64)
    item = data[1]
    photo = make_scene(8, size=64).day
    np.testing.assert_allclose(item["target"].permute(1, 2, 0) * 255, photo, atol=1e-4)
    expected = torch.from_numpy(shrunk(photo, scale=4)).permute(2, 0, 1) / 255
    torch.testing.assert_close(item["input"], expected)
    draw = Draw(index=0, seed=11, number=0)
    assert shapes(data[draw]) == {"target": (3, 32, 32), "input": (3, 8, 8)}
    assert torch.equal(data[draw]["target"], data[draw]["target"])
    other = SuperResolutionStreets(count=2, scale=4, crop_px=32, first_seed=9, size=64)
    assert data.fingerprint != other.fingerprint
    with pytest.raises(InputError, match="larger than the built-in streets"):
        SuperResolutionStreets(count=2, scale=4, crop_px=128, size=64)


def test_the_most_detailed_square_is_shown(tmp_path: Path):
    image = np.full((64, 80, 3), 100, np.uint8)
    image[16:32, 48:64] = noise(16, 16)
    write_image(tmp_path / "a.png", image)
    images = find_high_low(tmp_path, scale=2)
    whole = SuperResolutionImages(images=images, scale=2, crop_px=8, side=probe_high_low(images, scale=2).side)
    crops = DetailedCrops(images=whole, scale=2, side_px=16)
    assert len(crops) == 1
    torch.testing.assert_close(crops[0]["target"], whole[0]["target"][:, 16:32, 48:64])
    torch.testing.assert_close(crops[0]["input"], whole[0]["input"][:, 8:16, 24:32])
    with pytest.raises(InputError, match="held-out image 0 is 80 x 64 px; expected at least 72 px"):
        DetailedCrops(images=whole, scale=2, side_px=72)[0]


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_low_made_here_is_that_made_with_matlab(data_dir: Path, name: str, scale: int):
    pairs = find_high_low(data_dir / "sr" / name, scale=scale)
    assert all(pair.low for pair in pairs)
    side = probe_high_low(pairs, scale=scale).side
    alone = [HighLow(high=pair.high) for pair in pairs]
    equal, close = [], []
    for number, pair in enumerate(pairs):
        item = SuperResolutionImages(images=alone, scale=scale, crop_px=scale, side=side)[number]
        with Image.open(pair.low) as given, Image.open(pair.high) as high:
            low = torch.from_numpy(np.array(given.convert("RGB"))).permute(2, 0, 1)
            target = torch.from_numpy(np.array(high.convert("RGB"))).permute(2, 0, 1)
        height, width = low.shape[1:]
        assert torch.equal((item["target"] * 255).round(), target[:, : height * scale, : width * scale])
        difference = (item["input"] * 255).round() - low
        equal.append((difference == 0).double().mean().item())
        close.append((difference.abs() <= 1).double().mean().item())
    assert np.mean(close) >= 0.99
    assert np.mean(equal) >= 0.8


@pytest.mark.data
def test_photographs_are_those_that_opencv_decodes(data_dir: Path):
    images = find_high_low(data_dir / "sr" / "train", scale=4)
    side = probe_high_low(images, scale=4, crop_px=320).side
    data = SuperResolutionImages(images=images, scale=4, crop_px=128, side=side, with_input=False)
    for number in (0, 17, 399):
        decoded = cv2.imread(str(images[number].high))[..., ::-1]
        height, width = (length - length % 4 for length in decoded.shape[:2])
        difference = np.abs(data[number]["target"].permute(1, 2, 0).numpy() * 255 - decoded[:height, :width])
        assert difference.max() <= 3  # decoders of JPEG need not agree to the last bit
        assert difference.mean() < 0.2


def test_without_the_package_lmdb_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_lmdb(tmp_path / "a.lmdb", {"a": noise(8, 8)})
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=re.escape("pip install 'i2i[lmdb]'")):
        find_high_low(tmp_path / "a.lmdb", scale=4)
