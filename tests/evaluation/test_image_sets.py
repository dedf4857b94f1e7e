"""Sets of images in files: which are found, how they are read, and which belong together."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from i2i.errors import InputError
from i2i.evaluation import ImageSet
from i2i.evaluation.image_sets import check_channels, check_files


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_images_of_subfolders_are_found_and_others_left_out(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", "a/b.png", ".hidden/d.png", ".e.png"):
        write(tmp_path / name, noise(8, 8, 3))
    (tmp_path / "notes.txt").write_text("no image")
    found = ImageSet.find(tmp_path)
    assert found.names == ("a/b", "a/c", "b") and len(found) == 3
    one = ImageSet.find(tmp_path / "b.png")
    assert one.names == ("b",) and torch.equal(one.read(0), found.read(2))
    assert found.left_out() == []
    (tmp_path / "a" / "moving.GIF").touch()
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    assert ImageSet.find(tmp_path).names == found.names
    assert found.left_out() == [tmp_path / "a" / "moving.GIF", tmp_path / "c.png"] and one.left_out() == []


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png", noise(8, 8, 3))
    write(tmp_path / "locked" / "b.png", noise(8, 8, 3))
    scandir = os.scandir

    def guarded(place: str) -> Any:
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match="locked cannot be read: Permission denied; change its permissions"):
        ImageSet.find(tmp_path)


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("a.png", noise(5, 6, 3), lambda p: p / 127.5 - 1),
        ("a.png", noise(5, 6), lambda p: np.repeat(p[..., None], 3, 2) / 127.5 - 1),
        ("a.png", noise(5, 6, 4), lambda p: p[..., :3] / 127.5 - 1),
        ("a.tif", noise(5, 6, 3, dtype=np.uint16), lambda p: p / 32767.5 - 1),
        ("a.npy", noise(5, 6, 5, dtype=np.uint16), lambda p: p / 32767.5 - 1),
        ("a.npy", noise(5, 6, 4), lambda p: p / 127.5 - 1),
        ("a.npy", np.linspace(-2, 6, 90, dtype=np.float32).reshape(5, 6, 3), lambda p: (p + 2) / 4 - 1),
    ],
    ids=["rgb", "grey", "alpha", "16-bit", "five channels", "four without alpha", "floats"],
)
def test_images_are_read_at_their_full_depth(tmp_path: Path, name: str, pixels: np.ndarray, expected) -> None:
    write(tmp_path / name, pixels)
    image = ImageSet.find(tmp_path, data_range=(-2.0, 6.0)).read(0)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image, expected(pixels.astype(np.float64)).transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("data_range", "depth", "eight", "sixteen", "floats"),
    [
        (None, None, (0, 255), (0, 65535), None),
        ((0, 1), None, (0, 255), (0, 65535), (0, 1)),
        ((-1, 1), None, (0, 255), (0, 65535), (-1, 1)),
        ((0, 4095), None, (0, 255), (0, 4095), (0, 4095)),
        ((0, 100), None, (0, 100), (0, 100), (0, 100)),
        ((0, 4095), "uint16", (0, 255), (0, 4095), (0, 1)),
        ((0, 255), "uint8", (0, 255), (0, 65535), (0, 1)),
        ((-1000, 3000), "float32", (-1000, 3000), (-1000, 3000), (-1000, 3000)),
    ],
)
def test_a_range_holds_for_the_types_that_it_can_be_of(
    tmp_path: Path, data_range, depth, eight, sixteen, floats
) -> None:
    write(tmp_path / "a.png", noise(4, 4, 3))
    images = ImageSet.find(tmp_path, data_range=data_range, depth=depth)
    found = [images.range_of(np.dtype(name)) for name in ("uint8", "uint16", "float32")]
    assert found == [eight, sixteen, floats]


def test_the_highest_value_is_that_of_16_bits(tmp_path: Path) -> None:
    write(tmp_path / "a.png", noise(4, 4, 3))
    assert ImageSet.find(tmp_path).highest() is None
    for number, high in enumerate((17, 4000, 900)):
        write(tmp_path / f"{number}.tif", np.full((4, 4), high, np.uint16))
    assert ImageSet.find(tmp_path).highest() == 4000


def test_images_are_fitted_around_the_middle(tmp_path: Path) -> None:
    pixels = noise(40, 30, 3)
    write(tmp_path / "a.png", pixels)
    images = ImageSet.find(tmp_path)
    fitted = images.fitted((10, 10))
    square = Image.fromarray(pixels[5:35])
    expected = [
        np.asarray(Image.fromarray(np.asarray(channel, np.float32)).resize((10, 10), Image.Resampling.BICUBIC))
        for channel in square.split()
    ]
    torch.testing.assert_close(fitted.read(0), torch.tensor(np.stack(expected)) / 127.5 - 1, atol=1e-3, rtol=0)
    assert fitted.subset([0]).read(0).shape == (3, 10, 10)
    assert fitted.sizes() == [(10, 10)] and images.sizes() == [(40, 30)]
    assert fitted.fingerprint != images.fingerprint
    assert torch.equal(images.fitted((40, 30)).read(0), images.read(0))


def test_halves(tmp_path: Path) -> None:
    pixels = noise(6, 10, 3)
    write(tmp_path / "a.png", pixels)
    whole = ImageSet.find(tmp_path).read(0)
    left, right = (ImageSet.find(tmp_path, half=half).read(0) for half in ("left", "right"))
    assert torch.equal(torch.cat([left, right], dim=2), whole) and left.shape == right.shape
    write(tmp_path / "odd.png", noise(6, 9, 3))
    with pytest.raises(InputError, match=r"odd\.png is 9 px wide"):
        ImageSet.find(tmp_path, half="left").read(1)


def test_the_fingerprint_tells_contents_apart_and_not_places(tmp_path: Path) -> None:
    write(tmp_path / "one" / "a.png", noise(4, 4, 3))
    write(tmp_path / "one" / "b.png", noise(4, 5, 3))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first = ImageSet.find(tmp_path / "one")
    assert ImageSet.find(tmp_path / "two").fingerprint == first.fingerprint
    others = [ImageSet.find(tmp_path / "one", half="left"), first.subset([0]), first.subset([1, 0])]
    others.append(ImageSet.find(tmp_path / "one", data_range=(0.0, 100.0)))
    (tmp_path / "two" / "a.png").rename(tmp_path / "two" / "c.png")
    others.append(ImageSet.find(tmp_path / "two"))
    write(tmp_path / "one" / "b.png", 255 - noise(4, 5, 3))
    others.append(ImageSet.find(tmp_path / "one"))
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_images_of_equal_names_are_matched(tmp_path: Path) -> None:
    """Below the roots first, then by file name alone."""
    for name in ("x/a.png", "x/b.png", "c.png"):
        write(tmp_path / "one" / name, noise(4, 4, 3))
    for name in ("x/b.jpg", "x/a.jpg", "y/c.jpg"):
        write(tmp_path / "two" / name, noise(4, 4, 3))
    for name in ("c.png", "a.png"):
        write(tmp_path / "three" / name, noise(4, 4, 3))
    one, two, three = (ImageSet.find(tmp_path / name) for name in ("one", "two", "three"))
    mine, theirs = one.matched(two)
    assert mine.names == ("x/a", "x/b") == theirs.names and theirs.files[0].suffix == ".jpg"
    mine, theirs = two.matched(three)
    assert mine.names == ("x/a", "y/c") and theirs.names == ("a", "c")
    write(tmp_path / "four" / "z.png", noise(4, 4, 3))
    assert [len(part) for part in one.matched(ImageSet.find(tmp_path / "four"))] == [0, 0]


def test_names_of_several_files_do_not_count_and_are_told(tmp_path: Path) -> None:
    for name in ("one/a.png", "one/a.jpg", "one/b.png", "one/c.png", "two/a.png", "two/b.png"):
        write(tmp_path / name, noise(4, 4, 3))
    one, two = (ImageSet.find(tmp_path / name) for name in ("one", "two"))
    mine, theirs = one.matched(two)
    assert mine.names == theirs.names == ("b",)
    assert one.repeated(two) and "3 of 4 have none" in one.unmatched(two)
    assert "a is the name of several files" in one.unmatched(two)
    assert one.unmatched(one.subset([2])) == f"3 of 4 have none of their name in {one.root} (such as a)"
    assert mine.unmatched(two) == "" and not mine.repeated(two)
    assert "1 of 2 have none" in two.unmatched(one)


def test_images_that_can_be_seen_through_are_counted(tmp_path: Path) -> None:
    opaque, glass = noise(4, 6, 4), noise(4, 6, 4)
    opaque[..., 3] = 255
    glass[..., 3] = 255
    glass[0, 0, 3] = 254
    for name, pixels in (("a.png", opaque), ("b.png", glass), ("c.npy", glass), ("d.png", noise(4, 6, 3))):
        write(tmp_path / name, pixels)
    Image.fromarray(noise(4, 6, 2), "LA").save(tmp_path / "e.png")
    assert ImageSet.find(tmp_path).transparent() == 2
    assert ImageSet.find(tmp_path, half="right").transparent() == 1
    check_channels(ImageSet.find(tmp_path / "a.png"), ImageSet.find(tmp_path / "e.png"))
    with pytest.raises(InputError, match=r"a\.png has 3 channels, .*c\.npy 4"):
        check_channels(ImageSet.find(tmp_path), ImageSet.find(tmp_path / "c.npy"))


def test_names_may_differ_in_case_where_none_are_equal(tmp_path: Path) -> None:
    for name in ("one/Sub/A.png", "one/b.PNG", "two/sub/a.jpg", "two/B.png", "three/A.png"):
        write(tmp_path / name, noise(4, 4, 3))
    one, two, three = (ImageSet.find(tmp_path / name) for name in ("one", "two", "three"))
    mine, theirs = one.matched(two)
    assert mine.names == ("Sub/A", "b") and theirs.names == ("sub/a", "B")
    assert two.matched(three)[0].names == ("sub/a",)


def test_damaged_files_are_named_up_front(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / "some" / f"{number}.png", noise(16, 16, 3))
    images = ImageSet.find(tmp_path / "some")
    check_files(images)
    for number in (2, 4, 5, 7):
        file = tmp_path / "some" / f"{number}.png"
        file.write_bytes(file.read_bytes()[:-30] if number != 5 else b"")
    with pytest.raises(InputError) as caught:
        check_files(images)
    told = str(caught.value)
    assert told.startswith("4 of 9 images cannot be used") and told.endswith("; and 1 more")
    assert all(f"{number}.png" in told for number in (2, 4, 5)) and "7.png" not in told
    assert "replace or remove" in told
    with pytest.raises(InputError, match=r"^[^;]*2\.png: the PNG is truncated; replace or remove the file$"):
        check_files(images.subset([1, 2, 3]))
    write(tmp_path / "maps" / "a.tif", np.zeros((4, 5), np.int32))
    check_files(ImageSet.find(tmp_path / "maps"), labels=True)
    with pytest.raises(InputError, match=r"a\.tif holds floats.*--data-range"):
        check_files(ImageSet.find(tmp_path / "maps"))
    with pytest.raises(InputError, match=r"a\.tif is 5 px wide"):
        check_files(ImageSet.find(tmp_path / "maps", half="left", data_range=(0, 9)))


def test_the_image_of_another_kind_is_named(tmp_path: Path) -> None:
    for number, channels in enumerate((3, 1, 5, 6)):
        write(tmp_path / f"{number}.npy", noise(4, 4, channels))
    with pytest.raises(InputError, match=r"0\.npy has 3 channels, .*2\.npy 5"):
        check_files(ImageSet.find(tmp_path))
    check_files(ImageSet.find(tmp_path).subset([0, 1]), ImageSet.find(tmp_path).subset([2]))


def test_equal_file_names_in_several_folders_are_no_match(tmp_path: Path) -> None:
    for name in ("one/x/a.png", "one/y/a.png", "two/a.png"):
        write(tmp_path / name, noise(4, 4, 3))
    assert len(ImageSet.find(tmp_path / "one").matched(ImageSet.find(tmp_path / "two"))[0]) == 0


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        ImageSet.find(tmp_path / "none")
    with pytest.raises(InputError, match="holds no images"):
        ImageSet.find(tmp_path / "empty")
    write(tmp_path / "floats" / "a.npy", np.zeros((4, 4, 3), np.float32))
    write(tmp_path / "floats" / "b.npy", np.full((4, 4, 3), np.nan, np.float32))
    with pytest.raises(InputError, match=r"a\.npy holds floats.*--data-range"):
        ImageSet.find(tmp_path / "floats").read(0)
    with pytest.raises(InputError, match=r"b\.npy holds NaN"):
        ImageSet.find(tmp_path / "floats", data_range=(0, 1)).read(1)
    with pytest.raises(InputError, match="--data-range: expected two numbers"):
        ImageSet.find(tmp_path / "floats", data_range=(1, 1))
    with pytest.raises(InputError, match="expected one of left, right"):
        ImageSet.find(tmp_path / "floats", half="top")  # type: ignore[arg-type]
