"""Layouts on disk, what is checked before training, and what the network gets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from i2i.data.folders import (
    ImageFolder,
    Pair,
    PairedImages,
    SideInfo,
    find_pairs,
    find_sides,
    fingerprint,
    fingerprint_sides,
    has_phase,
    match_sides,
    pair_folders,
    probe_images,
    probe_pairs,
    read_pair,
    side_images,
)
from i2i.data.image_io import read_image, write_image
from i2i.data.sampler import Draw, DrawSampler, worker_init
from i2i.data.transforms import ImageTransform
from i2i.errors import InputError


def flat(value: float, *, channels: int = 3, height: int = 8, width: int = 6, dtype: str = "uint8") -> np.ndarray:
    return np.full((height, width, channels), value, dtype)


@pytest.fixture
def two_folders(tmp_path: Path) -> Path:
    """trainA with dark RGB PNGs and trainB with bright ones."""
    for number in range(12):
        write_image(tmp_path / "trainA" / f"{number}.png", flat(number))
        write_image(tmp_path / "trainB" / f"{number}.png", flat(200 + number))
    return tmp_path


def layout(root: Path, kind: str) -> None:
    """Two pairs; A is 10, B is 200."""
    for stem in ("x", "y"):
        match kind:
            case "side by side":
                write_image(root / "train" / f"{stem}.png", np.concatenate([flat(10), flat(200)], axis=1))
            case "trainA":
                write_image(root / "trainA" / f"{stem}.png", flat(10))
                write_image(root / "trainB" / f"{stem}.tif", flat(200))
            case "A/train":
                write_image(root / "A" / "train" / f"{stem}.png", flat(10))
                write_image(root / "B" / "train" / f"{stem}.bmp", flat(200))


@pytest.mark.parametrize("kind", ["side by side", "trainA", "A/train"])
@pytest.mark.parametrize(("direction", "input", "target"), [("AtoB", 10, 200), ("BtoA", 200, 10)])
def test_every_layout_is_found_in_either_direction(tmp_path: Path, kind: str, direction: str, input: int, target: int):
    layout(tmp_path, kind)
    (tmp_path / "train").mkdir(exist_ok=True)
    (tmp_path / "train" / "notes.txt").write_text("not an image, and not meant to be one")
    pairs = find_pairs(tmp_path, phase="train", direction=direction)
    assert [pair.name for pair in pairs] == ["x", "y"]
    for pair in pairs:
        given, wanted = read_pair(pair)
        assert given.shape == wanted.shape == (8, 6, 3)
        assert (np.unique(given), np.unique(wanted)) == (input, target)


def test_pairs_go_by_stem_not_by_order(two_folders: Path):
    pairs = pair_folders(two_folders / "trainA", two_folders / "trainB")
    assert len(pairs) == 12
    for pair in pairs:
        input, target = read_pair(pair)
        assert target[0, 0, 0] - input[0, 0, 0] == 200


def test_probe_tells_what_is_there(tmp_path: Path):
    for number, (height, width) in enumerate([(8, 20), (16, 10)]):
        image = np.linspace(-3, number, height * width * 5, dtype=np.float32).reshape(height, width, 5)
        write_image(tmp_path / "in" / f"{number}.tif", image)
        write_image(tmp_path / "out" / f"{number}.png", flat(7, channels=1, height=height, width=width, dtype="uint16"))
    pairs = pair_folders(tmp_path / "in", tmp_path / "out")
    info = probe_pairs(pairs)
    assert info.input == SideInfo(channels=5, dtype="float32", data_range=(-3, 1))
    assert info.target == SideInfo(channels=1, dtype="uint16", data_range=(0, 65535))
    assert (info.count, info.smallest_px, info.largest_px) == (2, (8, 10), (16, 20))
    ranged = probe_pairs(pairs, input_range=(0, 1), target_range=(0, 4095))
    assert (ranged.input.data_range, ranged.target.data_range) == ((0, 1), (0, 4095))


def test_side_by_side_halves_are_measured_apart(tmp_path: Path):
    left, right = (np.linspace(low, low + 1, 48, dtype=np.float32).reshape(8, 6, 1) for low in (0, 100))
    write_image(tmp_path / "train" / "x.tif", np.concatenate([left, right], axis=1))
    info = probe_pairs(find_pairs(tmp_path, phase="train", direction="BtoA"))
    assert (info.input.data_range, info.target.data_range) == ((100, 101), (0, 1))
    assert info.smallest_px == (8, 6)


class TestBadInput:
    def probe(self, root: Path, **settings: int) -> None:
        probe_pairs(find_pairs(root, phase="train"), **settings)

    def test_no_layout(self, tmp_path: Path):
        with pytest.raises(InputError, match="expected a folder train/"):
            self.probe(tmp_path)

    @pytest.mark.parametrize("folders", [["train"], ["trainA", "trainB"]])
    def test_empty_folder(self, tmp_path: Path, folders: list[str]):
        for folder in folders:
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "notes.txt").touch()
        with pytest.raises(InputError, match=f"{folders[0]} holds no images"):
            self.probe(tmp_path)

    def test_a_without_folder_b(self, tmp_path: Path):
        write_image(tmp_path / "trainA" / "x.png", flat(0))
        with pytest.raises(InputError, match="trainB is no folder"):
            self.probe(tmp_path)

    @pytest.mark.parametrize(("lonely", "other"), [("trainA", "trainB"), ("trainB", "trainA")])
    def test_a_without_b(self, two_folders: Path, lonely: str, other: str):
        (two_folders / other / "3.png").unlink()
        with pytest.raises(InputError, match=rf"{lonely}/3\.png has no partner .*{other} \(1 of 12"):
            self.probe(two_folders)

    def test_two_files_of_one_stem(self, two_folders: Path):
        write_image(two_folders / "trainA" / "3.jpg", flat(0))
        with pytest.raises(InputError, match=r"3\.png and 3\.jpg have the same name"):
            self.probe(two_folders)

    def test_sizes_differ_within_a_pair(self, two_folders: Path):
        write_image(two_folders / "trainB" / "3.png", flat(0, width=7))
        with pytest.raises(InputError, match=r"trainB/3\.png is 7 x 8 px but .*trainA/3\.png is 6 x 8"):
            self.probe(two_folders)

    def test_odd_width_side_by_side(self, tmp_path: Path):
        write_image(tmp_path / "train" / "x.png", flat(0, width=7))
        with pytest.raises(InputError, match=r"x\.png is 7 px wide"):
            self.probe(tmp_path)
        with pytest.raises(InputError, match=r"x\.png is 7 px wide"):
            read_pair(Pair(input=tmp_path / "train/x.png", target=tmp_path / "train/x.png", halves="AtoB"))

    def test_truncated(self, two_folders: Path):
        path = two_folders / "trainA" / "3.png"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=r"trainA/3\.png.*truncated"):
            self.probe(two_folders)

    def test_no_image(self, two_folders: Path):
        (two_folders / "trainA" / "3.png").write_text("no image")
        with pytest.raises(InputError, match=r"trainA/3\.png is no readable image"):
            self.probe(two_folders)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_transparency_among_rgb(self, two_folders: Path, channels: int):
        for name in ("3.png", "5.png"):
            write_image(two_folders / "trainA" / name, flat(0, channels=channels))
        message = (
            rf"trainA/3\.png has a channel count of {channels}; expected 3, as for all input images: 2 of 12 differ"
        )
        with pytest.raises(InputError, match=message):
            self.probe(two_folders)

    def test_rgb_among_grey(self, two_folders: Path):
        for number in range(11):
            write_image(two_folders / "trainB" / f"{number}.png", flat(0, channels=1))
        with pytest.raises(InputError, match=r"trainB/11\.png has a channel count of 3; expected 1.*: 1 of 12 differ"):
            self.probe(two_folders)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_one_depth_among_another(self, two_folders: Path, channels: int):
        write_image(two_folders / "trainB" / "3.png", flat(0, channels=channels, dtype="uint16"))
        message = r"trainB/3\.png is uint16; expected uint8, as for all target images: 1 of 12 differ"
        with pytest.raises(InputError, match=message):
            self.probe(two_folders)

    def test_images_in_subfolders_only(self, two_folders: Path):
        (two_folders / "trainB").rename(two_folders / "deeper")
        (two_folders / "trainB").mkdir()
        (two_folders / "deeper").rename(two_folders / "trainB" / "deeper")
        message = r"trainB holds no images; .*\. Images are in its subfolders only, as in .*deeper: give such a folder"
        with pytest.raises(InputError, match=message):
            self.probe(two_folders)

    def test_other_channel_count_than_asked_for(self, two_folders: Path):
        self.probe(two_folders, input_channels=3, target_channels=3)
        with pytest.raises(InputError, match=r"trainB/.*\.png has a channel count of 3; expected 1"):
            self.probe(two_folders, target_channels=1)

    @pytest.mark.parametrize("hole", [np.nan, np.inf])
    def test_holes_in_floats(self, tmp_path: Path, hole: float):
        image = flat(0.5, dtype="float32")
        image[0, 0, 0] = hole
        write_image(tmp_path / "trainA" / "x.tif", image)
        write_image(tmp_path / "trainB" / "x.png", flat(0))
        with pytest.raises(InputError, match=r"x\.tif holds NaN or infinity"):
            self.probe(tmp_path)

    def test_nothing_in_floats(self, tmp_path: Path):
        write_image(tmp_path / "trainA" / "x.tif", flat(0.5, dtype="float32"))
        write_image(tmp_path / "trainB" / "x.png", flat(0))
        with pytest.raises(InputError, match=r"0\.5 everywhere"):
            self.probe(tmp_path)

    def test_no_pairs(self):
        with pytest.raises(InputError, match="at least one pair"):
            probe_pairs([])


def dataset(root: Path, transform: ImageTransform) -> PairedImages:
    pairs = find_pairs(root, phase="train")
    info = probe_pairs(pairs)
    return PairedImages(pairs=pairs, transform=transform, input=info.input, target=info.target)


def test_items_are_tensors_in_the_network_range(two_folders: Path):
    items = dataset(two_folders, ImageTransform(flip=False))
    item = items[0]
    assert len(items) == 12 and set(item) == {"input", "target"}
    for image, value in ((item["input"], 0), (item["target"], 200)):
        assert image.dtype == torch.float32 and image.shape == (3, 8, 6) and image.is_contiguous()
        torch.testing.assert_close(image, torch.full((3, 8, 6), value / 127.5 - 1))


def grey_steps(file: Path) -> np.ndarray:
    """A grey JPEG, 6 x 8 px, and what another library reads from it as RGB."""
    Image.fromarray(np.arange(0, 240, 5, dtype=np.uint8).reshape(8, 6), "L").save(file, quality=100)
    with Image.open(file) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("side", ["input", "target"])
def test_a_stray_grey_image_among_rgb_pairs_is_taken(two_folders: Path, side: str):
    folder = two_folders / {"input": "trainA", "target": "trainB"}[side]
    (folder / "3.png").unlink()
    expected = grey_steps(folder / "3.jpg")
    items = dataset(two_folders, ImageTransform(flip=False))
    assert (items.input.channels, items.target.channels) == (3, 3)
    (index,) = (index for index, pair in enumerate(items.pairs) if pair.name == "3")
    image = items[index][side]
    assert image.shape == (3, 8, 6) and (image == image[:1]).all()
    torch.testing.assert_close(
        image, torch.from_numpy(expected.transpose(2, 0, 1) / 127.5 - 1).float(), atol=0.01, rtol=0
    )
    assert items[Draw(index=index, seed=1, number=0)][side].shape == (3, 8, 6)


def test_a_stray_grey_image_side_by_side_is_taken(tmp_path: Path):
    layout(tmp_path, "side by side")
    write_image(tmp_path / "train" / "grey.png", np.concatenate([flat(51, channels=1), flat(102, channels=1)], axis=1))
    item = dataset(tmp_path, ImageTransform(flip=False))[0]
    torch.testing.assert_close(item["input"], torch.full((3, 8, 6), 51 / 127.5 - 1))
    torch.testing.assert_close(item["target"], torch.full((3, 8, 6), 102 / 127.5 - 1))


def test_sides_may_differ_in_channels_depth_and_range(tmp_path: Path):
    write_image(tmp_path / "trainA" / "x.tif", flat(1000, channels=5, dtype="uint16"))
    write_image(tmp_path / "trainB" / "x.tif", flat(-500, channels=1, dtype="float32"))
    pairs = find_pairs(tmp_path, phase="train")
    info = probe_pairs(pairs, input_range=(0, 4000), target_range=(-1000, 1000))
    item = PairedImages(
        pairs=pairs, transform=ImageTransform(load_size=16, crop_size=8), input=info.input, target=info.target
    )[Draw(index=0, seed=1, number=0)]
    torch.testing.assert_close(item["input"], torch.full((5, 8, 8), -0.5))
    torch.testing.assert_close(item["target"], torch.full((1, 8, 8), -0.5))


def test_a_draw_is_the_same_in_any_worker(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(5):
        write_image(tmp_path / "train" / f"{number}.png", rng.integers(0, 255, (16, 32, 3), dtype=np.uint8))
    items = dataset(tmp_path, ImageTransform(load_size=20, crop_size=16))
    sampler = DrawSampler(length=5, batch_size=2, seed=0)
    loader = DataLoader(items, batch_sampler=sampler, num_workers=2, worker_init_fn=worker_init)
    for _, draws, batch in zip(range(4), sampler, loader, strict=False):
        for side in ("input", "target"):
            torch.testing.assert_close(batch[side], torch.stack([items[draw][side] for draw in draws]), rtol=0, atol=0)


def test_a_file_that_changed_since_the_probe_is_named(two_folders: Path):
    items = dataset(two_folders, ImageTransform(crop_size=6))
    write_image(two_folders / "trainA" / "0.png", flat(0, channels=4))
    with pytest.raises(InputError, match=r"trainA/0\.png has a channel count of 4; expected 3"):
        items[0]
    write_image(two_folders / "trainA" / "1.png", flat(0, height=5))
    with pytest.raises(InputError, match=r"trainA/1\.png.*one size"):
        items[Draw(index=1, seed=0, number=0)]


def test_the_fingerprint_follows_the_data_and_not_the_folder(two_folders: Path):
    pairs = find_pairs(two_folders, phase="train")
    before = fingerprint(pairs)
    assert len(before) == 64 and before == fingerprint(pairs)
    assert before != fingerprint(find_pairs(two_folders, phase="train", direction="BtoA"))
    assert before != fingerprint(pairs[1:])
    moved = two_folders / "elsewhere"
    moved.mkdir()
    for folder in ("trainA", "trainB"):
        (two_folders / folder).rename(moved / folder)
    pairs = find_pairs(moved, phase="train")
    assert fingerprint(pairs) == before
    write_image(pairs[5].target, flat(99))
    assert fingerprint(pairs) != before


@pytest.fixture
def two_sides(tmp_path: Path) -> Path:
    """Three grey 16-bit TIFFs of A, two RGBA PNGs of B, of many sizes."""
    for number, (height, width) in enumerate([(8, 20), (16, 10), (9, 9)]):
        image = flat(1000, channels=1, height=height, width=width, dtype="uint16")
        write_image(tmp_path / "trainA" / f"{number}.tif", image)
    for name, side_px in (("x", 12), ("y", 14)):
        write_image(tmp_path / "trainB" / f"{name}.png", flat(51, channels=4, height=side_px, width=side_px))
    return tmp_path


@pytest.mark.parametrize("kind", ["trainA", "A/train"])
def test_both_sides_are_found(tmp_path: Path, kind: str):
    layout(tmp_path, kind)
    a, b = find_sides(tmp_path, phase="train")
    assert [[read_image(file).max() for file in side] for side in (a, b)] == [[10, 10], [200, 200]]
    assert [file.stem for file in a + b] == ["x", "y", "x", "y"]


def test_each_side_is_probed_by_itself(two_sides: Path):
    a, b = find_sides(two_sides, phase="train")
    info = probe_images(a, side="A", data_range=(0, 4000))
    assert info.side == SideInfo(channels=1, dtype="uint16", data_range=(0, 4000))
    assert (info.count, info.smallest_px, info.largest_px) == (3, (8, 9), (16, 20))
    info = probe_images(b, side="B")
    assert info.side == SideInfo(channels=4, dtype="uint8", data_range=(0, 255))
    assert (info.count, info.smallest_px, info.largest_px) == (2, (12, 12), (14, 14))


def test_the_range_of_floats_is_measured_and_held_out_ones_get_it(tmp_path: Path):
    for number in range(3):
        write_image(tmp_path / f"{number}.tif", np.linspace(-number, 5, 48, dtype=np.float32).reshape(8, 6, 1))
    files = side_images(tmp_path, side="B")
    info = probe_images(files, side="B")
    assert info.side.data_range == (-2, 5)
    assert probe_images(files[:1], side="B", like=info.side).side == info.side


def test_an_item_of_a_side_is_a_tensor_in_the_network_range(two_sides: Path):
    files = side_images(two_sides / "trainA", side="A")
    side = SideInfo(channels=1, dtype="uint16", data_range=(0, 4000))
    images = ImageFolder(files=files, transform=ImageTransform(load_size=10, crop_size=8), side=side)
    assert len(images) == 3
    for image in (images[0], images[Draw(index=1, seed=4, number=0)]):
        assert image.dtype == torch.float32 and image.is_contiguous()
        torch.testing.assert_close(image, torch.full((1, 8, 8), -0.5))


def test_the_draw_decides_how_an_image_is_changed(tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 255, (16, 12, 3), dtype=np.uint8)
    write_image(tmp_path / "x.png", picture)
    files = side_images(tmp_path, side="A")
    transform = ImageTransform(crop_size=8)
    images = ImageFolder(files=files, transform=transform, side=probe_images(files, side="A").side)
    for seed in range(5):
        (expected,) = transform(picture, seed=seed)
        tensor = images[Draw(index=0, seed=seed, number=0)]
        np.testing.assert_allclose(tensor.numpy(), expected.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    torch.testing.assert_close(images[0], torch.from_numpy(picture[4:12, 2:10].transpose(2, 0, 1) / 127.5 - 1).float())


@pytest.mark.parametrize("grey_first", [True, False])
def test_half_grey_is_colour(tmp_path: Path, grey_first: bool):
    """Whichever comes first; and held-out images may be grey altogether."""
    names = ("1.jpg", "2.png") if grey_first else ("2.jpg", "1.png")
    expected = grey_steps(tmp_path / names[0])
    write_image(tmp_path / names[1], flat(7))
    files = side_images(tmp_path, side="A")
    side = probe_images(files, side="A").side
    assert side.channels == 3
    grey = tmp_path / names[0]
    assert probe_images([grey], side="A", like=side).side == side
    image = ImageFolder(files=[grey], transform=ImageTransform(flip=False), side=side)[0]
    torch.testing.assert_close(
        image, torch.from_numpy(expected.transpose(2, 0, 1) / 127.5 - 1).float(), atol=0.01, rtol=0
    )


def test_images_of_two_sides_belong_together_by_stem():
    a = [Path("a/1_A.jpg"), Path("a/2_A.jpg"), Path("a/3.png"), Path("a/4_A.png")]
    b = [Path("b/1_B.png"), Path("b/2_A.png"), Path("b/3.jpg"), Path("b/5_B.png")]
    pairs = match_sides(a, b)
    assert [(pair.input, pair.target) for pair in pairs] == [(a[0], b[0]), (a[2], b[2])]
    with pytest.raises(InputError, match=r"no image of side A \(a/4_A\.png …\) has a partner on side B"):
        match_sides(a[3:], b)


class TestBadSides:
    def probe(self, root: Path) -> None:
        a, b = find_sides(root, phase="train")
        probe_images(a, side="A")
        probe_images(b, side="B")

    def test_no_folder(self, tmp_path: Path):
        with pytest.raises(InputError, match="nowhere is no folder"):
            self.probe(tmp_path / "nowhere")

    def test_no_layout(self, tmp_path: Path):
        (tmp_path / "train").mkdir()
        with pytest.raises(InputError, match="expected two folders trainA/ and trainB/"):
            self.probe(tmp_path)

    @pytest.mark.parametrize("side", ["A", "B"])
    def test_missing_side(self, two_sides: Path, side: str):
        (two_sides / f"train{side}").rename(two_sides / "elsewhere")
        with pytest.raises(InputError, match=f"train{side} is no folder; expected a folder of images of side {side}"):
            self.probe(two_sides)

    def test_empty_side(self, two_sides: Path):
        for file in (two_sides / "trainB").iterdir():
            file.unlink()
        with pytest.raises(InputError, match="trainB holds no images of side B"):
            self.probe(two_sides)
        with pytest.raises(InputError, match="at least one image of side B"):
            probe_images([], side="B")

    def test_odd_channels(self, two_sides: Path):
        write_image(two_sides / "trainA" / "3.png", flat(0, channels=3, dtype="uint16"))
        with pytest.raises(InputError, match=r"trainA/3\.png has a channel count of 3; expected 1.* images of side A"):
            self.probe(two_sides)

    def test_odd_depth(self, two_sides: Path):
        write_image(two_sides / "trainB" / "z.png", flat(0, channels=4, dtype="uint16"))
        with pytest.raises(InputError, match=r"trainB/z\.png is uint16; expected uint8, as for all images of side B"):
            self.probe(two_sides)

    def test_holes_in_floats(self, two_sides: Path):
        for file in (two_sides / "trainB").iterdir():
            file.unlink()
        image = flat(0.5, dtype="float32")
        image[0, 0, 0] = np.nan
        write_image(two_sides / "trainB" / "x.tif", image)
        with pytest.raises(InputError, match=r"trainB/x\.tif holds NaN or infinity"):
            self.probe(two_sides)

    @pytest.mark.parametrize("wrong", [flat(0, channels=3), flat(0, channels=1, dtype="uint8")])
    def test_held_out_images_unlike_those_of_training(self, two_sides: Path, wrong: np.ndarray):
        side = probe_images(side_images(two_sides / "trainA", side="A"), side="A").side
        write_image(two_sides / "testA" / "x.png", wrong)
        with pytest.raises(InputError, match=r"testA/x\.png (is uint8|has a channel count of 3)"):
            probe_images(side_images(two_sides / "testA", side="A"), side="A", like=side)

    def test_a_file_that_does_not_fit(self, two_sides: Path):
        files = side_images(two_sides / "trainA", side="A")
        images = ImageFolder(
            files=files, transform=ImageTransform(crop_size=9), side=probe_images(files, side="A").side
        )
        with pytest.raises(InputError, match=r"trainA/0\.tif: an image of 20 x 8 px is smaller than crop_size=9"):
            images[Draw(index=0, seed=0, number=0)]
        write_image(files[1], flat(0, height=12, width=12, dtype="uint16"))
        with pytest.raises(InputError, match=r"trainA/1\.tif has a channel count of 3; expected 1"):
            images[1]


def test_the_fingerprint_knows_which_side_is_which(two_sides: Path):
    a, b = find_sides(two_sides, phase="train")
    before = fingerprint_sides(a, b)
    assert len(before) == 64 and before == fingerprint_sides(a, b)
    others = [(b, a), (a[1:], b), ([*a, b[0]], b[1:])]
    assert len({before, *(fingerprint_sides(*other) for other in others)}) == 4
    write_image(b[1], flat(9, channels=4))
    assert fingerprint_sides(a, b) != before


@pytest.mark.data
def test_facades_are_as_the_reference_reads_them(data_dir: Path):
    pairs = find_pairs(data_dir / "facades", phase="test", direction="BtoA")
    info = probe_pairs(pairs)
    assert (info.count, info.smallest_px, info.largest_px) == (106, (256, 256), (256, 256))
    items = PairedImages(
        pairs=pairs,
        transform=ImageTransform(load_size=286, crop_size=256),
        input=info.input,
        target=info.target,
    )
    item = items[0]
    with Image.open(pairs[0].input) as opened:
        both = torch.from_numpy(np.asarray(opened).copy()).permute(2, 0, 1) / 127.5 - 1
    # Two decoders of JPEG differ by a few grey levels at most.
    torch.testing.assert_close(item["target"], both[:, :, :256], rtol=0, atol=0.04)
    torch.testing.assert_close(item["input"], both[:, :, 256:], rtol=0, atol=0.04)


@pytest.mark.parametrize("place", ["test", "testA", "testB", "A/test", "B/test"])
def test_half_a_held_out_set_is_not_passed_over(place: str, tmp_path: Path) -> None:
    """So that the side which is missing gets named, instead of other images being held out."""
    assert not has_phase(tmp_path, "test")
    (tmp_path / place).mkdir(parents=True)
    assert has_phase(tmp_path, "test") and not has_phase(tmp_path, "val")
