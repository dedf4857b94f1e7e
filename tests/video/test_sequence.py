from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import picture

from i2i.data.image_io import ImageFile, write_image, write_image_file
from i2i.errors import InputError
from i2i.video.frames import Damage
from i2i.video.sequence import ImageSequence, find_sequence

RATE = Fraction(24000, 1001)


def write(folder: Path, numbers: range | list[int], *, name: str = "frame{}.png", bits: int = 8) -> list[Path]:
    paths = [folder / name.format(number) for number in numbers]
    for path, number in zip(paths, numbers, strict=True):
        write_image(path, picture(number, width=32, height=24, bits=bits))
    return paths


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = write(tmp_path, range(8, 13))
    source = ImageSequence(sorted(paths), rate=RATE)  # frame10 before frame8
    frames = list(source.read(-5))
    assert [(frame.pts, frame.duration, frame.repeated) for frame in frames] == [(pts, 1, False) for pts in range(5)]
    for frame, number in zip(frames, range(8, 13), strict=True):
        assert frame.image.dtype == np.uint8
        assert np.array_equal(frame.image, picture(number, width=32, height=24))
    assert (source.format.width, source.format.height, source.format.bits, source.format.chroma) == (32, 24, 8, "rgb")
    assert (source.format.time_base, source.format.rate, source.end) == (1 / RATE, RATE, 5)
    assert list(source.timeline) == [0, 1, 2, 3, 4]
    assert (source.notes, source.file, source.interlaced, source.damage) == ((), None, False, Damage())


def test_pieces_are_those_of_the_whole(tmp_path: Path) -> None:
    source = ImageSequence(write(tmp_path, range(6)), rate=RATE)
    frames = list(source.read(0))
    for first, end in ((2, 4), (0, 1), (5, 9), (3, None)):
        read = list(source.read(first, end))
        assert [frame.pts for frame in read] == [frame.pts for frame in frames[first:end]]
        assert all(np.array_equal(one.image, other.image) for one, other in zip(read, frames[first:end], strict=True))


def test_16_bits_are_kept_and_8_brought_to_them(tmp_path: Path) -> None:
    paths = [*write(tmp_path, [1], bits=16, name="{}.tif"), *write(tmp_path, [2])]
    source = ImageSequence(paths, rate=RATE)
    assert source.format.bits == 16
    images = {path.name: frame.image for path, frame in zip(sorted(paths), source.read(0), strict=True)}
    assert np.array_equal(images["1.tif"], picture(1, width=32, height=24, bits=16))
    assert np.array_equal(images["frame2.png"], picture(2, width=32, height=24).astype(np.uint16) * 257)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_becomes_rgb_and_transparency_is_left_out(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, channels), dtype=np.uint8)
    path = tmp_path / "1.png"
    write_image_file(path, ImageFile(pages=(image,), alpha=channels in (2, 4)))
    source = ImageSequence([path], rate=RATE)
    (frame,) = source.read(0)
    expected = image[..., :3] if channels == 4 else image[..., [0, 0, 0]]
    assert np.array_equal(frame.image, expected)
    assert source.notes == (() if channels == 1 else ("Their transparency is left out.",))


@pytest.mark.parametrize("lost", [0, 3, 5])
def test_the_image_before_stands_for_one_that_cannot_be_read(tmp_path: Path, lost: int) -> None:
    paths = write(tmp_path, range(6))
    paths[lost].write_bytes(paths[lost].read_bytes()[:200])
    source = ImageSequence(paths, rate=RATE)
    stand_in = 1 if lost == 0 else lost - 1
    whole = list(source.read(0))
    assert [frame.repeated for frame in whole] == [place == lost for place in range(6)]
    assert np.array_equal(whole[lost].image, whole[stand_in].image)
    assert source.damage.repeated == 1
    assert str(paths[lost]) in source.damage.reasons[0]
    again = ImageSequence(paths, rate=RATE)
    (frame,) = again.read(lost, lost + 1)
    assert frame.repeated
    assert np.array_equal(frame.image, whole[stand_in].image)
    assert again.damage.repeated == 1


def test_numbers_that_are_left_out_are_told(tmp_path: Path) -> None:
    paths = write(tmp_path, [1, 2, 3, 5, 6, 9, 10, 11], name="a_{:04}.png")
    (note,) = ImageSequence(paths, rate=RATE).notes
    assert "goes on without them: 4, 7 to 8." in note
    assert ImageSequence(paths[::3], rate=RATE).notes == ()


def test_what_is_no_sequence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a sequence of images, got no file"):
        ImageSequence([], rate=RATE)
    paths = write(tmp_path, range(3))
    with pytest.raises(InputError, match="expected a rate of more than 0"):
        ImageSequence(paths, rate=Fraction(0))
    write_image(paths[1], picture(0, width=48, height=24))
    with pytest.raises(InputError, match=r"frame1.png: expected all images .* got 48 x 24 px after 32 x 24 px"):
        ImageSequence(paths, rate=RATE)
    write_image(tmp_path / "f.tif", np.zeros((24, 32, 3), np.float32))
    with pytest.raises(InputError, match=r"f.tif: expected an image of 8 or 16 bits .* 3 channels of float32"):
        ImageSequence([tmp_path / "f.tif"], rate=RATE)
    paths[0].write_text("no image")
    with pytest.raises(InputError, match=r"frame0.png"):
        ImageSequence(paths[:1], rate=RATE)


def test_a_change_of_the_files_is_another_source(tmp_path: Path) -> None:
    paths = write(tmp_path, range(3))
    before = ImageSequence(paths, rate=RATE).fingerprint
    assert ImageSequence(paths, rate=RATE).fingerprint == before
    assert ImageSequence(paths, rate=Fraction(25)).fingerprint != before
    assert ImageSequence(paths[:2], rate=RATE).fingerprint != before
    paths[1].write_bytes(paths[1].read_bytes() + b"\0")
    assert ImageSequence(paths, rate=RATE).fingerprint != before


@pytest.mark.parametrize("place", ["{}", "{}/frame%d.png", "{}/frame*.png", "{}/f*[0-9].png"])
def test_finding_the_images(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "in"
    paths = write(folder, range(7, 13))
    (folder / "notes.txt").touch()
    (folder / ".frame1.png").touch()
    assert find_sequence(place.format(folder)) == paths


def test_numbers_of_a_fixed_width(tmp_path: Path) -> None:
    paths = write(tmp_path, range(98, 102), name="a_{:03}.png")
    write(tmp_path, [5, 66], name="a_{}.png")
    assert find_sequence(tmp_path / "a_%03d.png") == paths


@pytest.mark.parametrize("place", ["none", "%06d.png", "*.png", "a.txt"])
def test_nothing_is_found(tmp_path: Path, place: str) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r'expected a folder of images or a pattern such as "frames/%06d\.png"'):
        find_sequence(tmp_path / place)
