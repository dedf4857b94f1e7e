"""The built-in streets: frozen, the same at every size and in every process, and useful to learn from."""

import hashlib
import pickle
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from i2i.data.sampler import Draw
from i2i.data.streets import CLASSES, PALETTE, Scene, StreetLabels, StreetPairs, make_scene, make_video
from i2i.data.streets_light import relight
from i2i.errors import InputError

# Label and instance maps follow from comparisons of sums and products, so they are frozen exactly. Photos also go
# through exp and OpenCV's filters, whose last bits differ between processors and versions: they are frozen as
# thumbnails of 4 x 4 pixels, day then night, that must agree to 2 grey levels.
FROZEN = {
    (0, (128, 128)): (
        "4a6e614360faaf032f60be494e85ebd0f68f84ccea49498735386b94b329ba1a",
        "6159586884ae6896d38c939e4e554472788395aac2938f87454542495054666b6976686440464e33383e393e45473d414934230f0e140809122b221d4e3a213d2e261c181b5d4430614f343b3226362d244e3a291715181411141a14162a1113",
    ),
    (1, (96, 160)): (
        "a555e5e5b0bc991d145a08dd7e899da33cd043a7f4ecce81e101b9ec3fb18959",
        "5757586187ba7d99bc747d81425b397388a48595a97081643b453b5d656e6e787c6267594a4b524d4f5364656488847b3429201110161f1a1b2f2923292b162b25223b322a36311f514a2f45392e554531554b332e28253b352f1b181925221f",
    ),
    (7, (128, 128)): (
        "9c767d7fb3936b696c45bde734e5ef61b6725e0040979150f0c928baeefa4146",
        "637e9a6996d36994cc9f898a55636396adc98c9e989882724b52536169686a747089736b363b42383d443a3e4472716f1c19180809130c0c142f221e3c35251c191d352f24584230564933483c2c6146312f211c342a23362a2334231e352721",
    ),
}


def maps_hash(scene: Scene) -> str:
    return hashlib.sha256(scene.labels.tobytes() + scene.instances.astype("<u2").tobytes()).hexdigest()


def thumbnails(scene: Scene) -> np.ndarray:
    small = [cv2.resize(photo, (4, 4), interpolation=cv2.INTER_AREA) for photo in (scene.day, scene.night)]
    return np.stack(small)


def everything(seed: int) -> bytes:
    scene = make_scene(seed, size=64)
    return b"".join(part.tobytes() for part in (scene.labels, scene.instances, scene.day, scene.night))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed) for seed in range(100, 124)]


@pytest.fixture(autouse=True)
def cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("seed", "size"), FROZEN)
def test_scenes_are_frozen(seed: int, size: tuple[int, int]) -> None:
    maps, photos = FROZEN[seed, size]
    scene = make_scene(seed, size=size)
    assert maps_hash(scene) == maps
    frozen = np.frombuffer(bytes.fromhex(photos), np.uint8).reshape(2, 4, 4, 3)
    np.testing.assert_allclose(thumbnails(scene).astype(int), frozen.astype(int), atol=2)


def test_another_process_makes_the_same_street() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(everything, 5).result() == everything(5)
    assert everything(5) != everything(6)


def test_shapes_and_types_at_an_odd_size() -> None:
    scene = make_scene(3, size=(75, 131))
    assert (scene.labels.shape, scene.labels.dtype) == ((75, 131), np.uint8)
    assert (scene.instances.shape, scene.instances.dtype) == ((75, 131), np.uint16)
    for picture in (scene.day, scene.night, scene.label_image):
        assert (picture.shape, picture.dtype) == ((75, 131, 3), np.uint8)


def test_another_size_is_the_same_street() -> None:
    small, large = make_scene(11, size=128), make_scene(11, size=512)
    same = large.labels[2::4, 2::4] == small.labels
    assert same.mean() > 0.93  # the rest lies on outlines
    for photo in ("day", "night"):
        shrunk = cv2.resize(getattr(large, photo), (128, 128), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(shrunk - getattr(small, photo)).mean() < 6
        other = getattr(make_scene(12, size=128), photo).astype(float)
        assert np.abs(shrunk - other).mean() > 12


def test_every_class_appears(scenes: list[Scene]) -> None:
    for number, name in enumerate(CLASSES):
        share = np.mean([(scene.labels == number).sum() >= 8 for scene in scenes])
        assert share >= 0.9, f"{name} is seen in {share:.0%} of the scenes"


def test_each_instance_is_one_thing(scenes: list[Scene]) -> None:
    alone = {CLASSES.index(name) for name in ("tree", "car", "person", "lamp")}
    house = {CLASSES.index(name) for name in ("building", "window", "door")}
    for scene in scenes[:6]:
        assert set(np.unique(scene.labels[scene.instances == 0])) <= {0, 4, 5}  # sky, road, pavement
        for instance in np.unique(scene.instances[scene.instances > 0]):
            classes = set(np.unique(scene.labels[scene.instances == instance]))
            assert classes <= house or (len(classes) == 1 and classes <= alone)


def test_label_image_tells_classes_and_neighbours_apart(scenes: list[Scene]) -> None:
    scene = scenes[0]
    assert len(np.unique(PALETTE, axis=0)) == len(CLASSES)
    painted = scene.label_image
    inside = (painted == PALETTE[scene.labels]).all(axis=-1)
    assert 0.75 < inside.mean() < 0.99
    left, right = scene.instances[:, :-1], scene.instances[:, 1:]
    assert not inside[:, :-1][left != right].any()


def test_windows_light_up_at_night_and_the_rest_goes_dark(scenes: list[Scene]) -> None:
    day = np.stack([scene.day for scene in scenes]).mean(axis=-1)
    night = np.stack([scene.night for scene in scenes]).mean(axis=-1)
    labels = np.stack([scene.labels for scene in scenes])
    windows = labels == CLASSES.index("window")
    brighter = (night > day + 20) & windows
    assert brighter.sum() > 0.1 * windows.sum()
    for name in ("sky", "road", "building"):
        here = labels == CLASSES.index(name)
        assert night[here].mean() < 0.6 * day[here].mean()
        assert night[windows].mean() > 1.5 * night[here].mean()


def test_the_sun_always_stands_on_the_left() -> None:
    # Streets differ, their light does not: right rows are the brighter ones in the mean of many.
    walls = []
    for seed in range(40, 60):
        scene = make_scene(seed, size=64)
        building = scene.labels == CLASSES.index("building")
        left, right = building.copy(), building.copy()
        left[:, 32:], right[:, :32] = False, False
        walls.append((scene.day[left].mean(), scene.day[right].mean()))
    left_mean, right_mean = np.mean(walls, axis=0)
    assert right_mean > 1.15 * left_mean


def test_video_moves_coherently() -> None:
    frames = list(make_video(5, size=(96, 128), frames=12))
    assert len(frames) == 12
    first = make_scene(5, size=(96, 128))
    np.testing.assert_array_equal(frames[0].day, first.day)
    np.testing.assert_array_equal(frames[0].labels, first.labels)
    photos = [frame.day.astype(float) for frame in frames]
    step = np.mean([np.abs(a - b).mean() for a, b in pairwise(photos)])
    whole = np.abs(photos[0] - photos[-1]).mean()
    assert 1 < step < 0.6 * whole
    # Walking forward, a thing that stays in view keeps its number and on the whole grows.
    start, end = frames[0].instances, frames[-1].instances
    kept = [i for i in np.unique(start[start > 0]) if (start == i).sum() > 30 and (end == i).sum() > 30]
    assert len(kept) >= 5
    assert np.median([(end == i).sum() / (start == i).sum() for i in kept]) > 1


def test_items() -> None:
    pairs = StreetPairs(count=3, size=(32, 48), first_seed=50, cache=False)
    assert len(pairs) == 3
    item = pairs[1]
    scene = make_scene(51, size=(32, 48))
    assert item["input"].shape == item["target"].shape == (3, 32, 48)
    assert item["input"].dtype == torch.float32
    for name, picture in (("input", scene.label_image), ("target", scene.day)):
        expected = picture.transpose(2, 0, 1) / 127.5 - 1
        np.testing.assert_allclose(item[name].numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(pairs.labels(1), scene.labels)
    torch.testing.assert_close(pairs[Draw(index=1, seed=9, number=0)], item)
    with pytest.raises(IndexError):
        pairs[3]


def test_day_to_night() -> None:
    pairs = StreetPairs(count=1, size=32, source="day", target="night", cache=False)
    scene = make_scene(0, size=32)
    np.testing.assert_allclose(pairs[0]["input"].numpy(), scene.day.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(pairs[0]["target"].numpy(), scene.night.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


def test_fingerprint_names_what_is_shown() -> None:
    def fingerprint(*, count: int = 2, first_seed: int = 0, target: str = "day") -> str:
        return StreetPairs(count=count, size=16, first_seed=first_seed, target=target, cache=False).fingerprint

    same = fingerprint()
    assert same == fingerprint()
    assert len({same, fingerprint(count=1), fingerprint(first_seed=1), fingerprint(target="night")}) == 4


def test_cache_is_used_and_survives_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = StreetPairs(count=2, size=32)[1]
    (file,) = (tmp_path / "cache" / "i2i").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr("i2i.data.streets.make_scene", None)  # nothing is drawn a second time
        again = StreetPairs(count=2, size=32)
        torch.testing.assert_close(again[1], made)
        torch.testing.assert_close(pickle.loads(pickle.dumps(again))[1], made)
        assert len(pickle.dumps(again)) < 2000  # a worker opens the file itself
    del again
    file.write_bytes(file.read_bytes()[:1000])
    torch.testing.assert_close(StreetPairs(count=2, size=32)[1], made)


def test_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made below a file
    pairs = StreetPairs(count=1, size=32)
    np.testing.assert_array_equal(pairs.labels(0), make_scene(0, size=32).labels)


def test_many_streets_come_in_order() -> None:
    pairs = StreetPairs(count=130, size=16, first_seed=7)  # enough for several processes
    for index in (0, 64, 129):
        np.testing.assert_array_equal(pairs.labels(index), make_scene(7 + index, size=16).labels)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="16 x 16"):
        make_scene(0, size=8)
    with pytest.raises(InputError, match="from 0 up"):
        make_scene(-1)
    with pytest.raises(InputError, match="at least one frame"):
        next(make_video(0, frames=0))
    with pytest.raises(InputError, match="count"):
        StreetPairs(count=0)


def test_label_items_have_classes_edges_and_the_photo():
    streets = StreetLabels(count=3, size=32, first_seed=5, changing_light=False)
    scene = make_scene(6, size=32)
    item = streets[1]
    assert item["labels"].dtype == torch.int64
    np.testing.assert_array_equal(item["labels"][0], scene.labels)
    # Both sides of a boundary, in any of the four directions: padding with itself makes no edge at the border.
    padded = np.pad(scene.instances.astype(int), 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    expected = np.any([middle != neighbour for neighbour in neighbours], axis=0)
    np.testing.assert_array_equal(item["labels"][1], expected)
    np.testing.assert_allclose(item["image"].numpy().transpose(1, 2, 0), scene.day / 127.5 - 1, atol=1e-6)


def test_light_changes_from_street_to_street_and_follows_from_the_seed():
    streets, later = (StreetLabels(count=4, size=32, first_seed=first) for first in (5, 6))
    midday = StreetLabels(count=4, size=32, first_seed=5, changing_light=False)
    assert torch.equal(streets[1]["image"], later[0]["image"])
    darker = [float((midday[i]["image"] - streets[i]["image"]).mean()) for i in range(4)]
    assert len({round(value, 3) for value in darker}) == 4
    assert streets.fingerprint != midday.fingerprint


def test_relit_streets_add_up_light():
    day, night = np.full((1, 1, 3), 188, np.uint8), np.full((1, 1, 3), 99, np.uint8)
    np.testing.assert_array_equal(relight(day, night, time=0), day)
    # sRGB 188 is half of the light of 255, and 99 is an eighth; at dusk daylight has the factors 0.2, 0.24, 0.42.
    light = np.array([0.2, 0.24, 0.42]) * 0.5029 + 0.1248
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(relight(day, night, time=1)[0, 0], expected, atol=1)
