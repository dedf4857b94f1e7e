"""What `unpaired_task` finds in a person's folders, what it holds out, and what it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from i2i.data.image_io import read_image, write_image
from i2i.data.sampler import Draw
from i2i.data.unpaired import HeldOutPairs, Unpaired
from i2i.errors import InputError
from i2i.training import unpaired
from i2i.training.config import TrainingSettings
from i2i.training.measures import Measures
from i2i.training.unpaired import UnpairedData, UnpairedTask, unpaired_task

WHOLE = UnpairedData(load_size=None, crop_size=None)
Size = tuple[int, int]


def task_of(data: UnpairedData, *, batch_size: int = 1, size_multiple: int = 4, smallest_px: int = 6) -> UnpairedTask:
    return unpaired_task(data, seed=0, batch_size=batch_size, size_multiple=size_multiple, smallest_px=smallest_px)


def write(folder: Path, *names: int | str, size: Size = (20, 20), channels: int = 3) -> Path:
    """Images (height, width), each of one grey, which follows from its number and the folder's name."""
    for name in names:
        number = int(str(name).partition("_")[0])
        grey = (sum(folder.name.encode()) + 7 * number) % 256
        write_image(folder / f"{name}.png", np.full((*size, channels), grey, np.uint8))
    return folder


def held_out_names(task: UnpairedTask) -> tuple[list[str], list[str]]:
    data = task.held_out
    if isinstance(data, HeldOutPairs):
        return [pair.input.stem for pair in data.pairs.pairs], [pair.target.stem for pair in data.pairs.pairs]
    return [file.stem for file in data.a.files], [file.stem for file in data.b.files]


def training_names(task: UnpairedTask) -> tuple[list[str], list[str]]:
    assert isinstance(task.training, Unpaired)
    return [file.stem for file in task.training.a.files], [file.stem for file in task.training.b.files]


def test_every_tenth_of_each_side_is_held_out(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", *range(100, 123)), write(tmp_path / "b", *range(200, 210))
    task = task_of(replace(WHOLE, a_dir=a, b_dir=b))
    assert held_out_names(task) == (["100", "110", "120"], ["200"])
    of_a, of_b = training_names(task)
    assert of_a == [str(number) for number in range(100, 123) if number % 10]
    assert of_b == [str(number) for number in range(201, 210)]
    assert f"A is {a} (20 images to learn from, 3 channels of uint8, black at 0 and white at 255)." in task.about
    assert f"B is {b} (9 images to learn from" in task.about
    assert "Held out are 3 of A and 1 of B." in task.about
    assert "Warning" not in task.about and "too small" not in task.about


def test_a_side_too_small_to_hold_any_out_is_shown_again(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", *range(9)), write(tmp_path / "b", 0)
    task = task_of(replace(WHOLE, a_dir=a, b_dir=b))
    assert held_out_names(task) == training_names(task) == ([str(number) for number in range(9)], ["0"])
    assert task.about.count("too small to hold any out: figures are over the images that it learns from") == 2
    assert "Warning: B has a single image to learn from" in task.about and "Warning: A" not in task.about


@pytest.mark.parametrize("phase", ["test", "val"])
def test_folders_of_held_out_images_are_taken_whole(phase: str, tmp_path: Path) -> None:
    for side in "AB":
        write(tmp_path / f"train{side}", *range(12))
        write(tmp_path / f"{phase}{side}", *range(50, 53))
    task = task_of(replace(WHOLE, data=tmp_path))
    assert [len(names) for names in training_names(task)] == [12, 12]
    assert held_out_names(task) == (["50", "51", "52"], ["50", "51", "52"])
    assert task.name == tmp_path.name


def test_pairs_are_held_out_together_and_never_learnt_from(tmp_path: Path) -> None:
    """15 of 20 and 30 images share a name; two pairs are a tenth of them."""
    a = write(tmp_path / "a", *(f"{number}_A" for number in range(100, 120)))
    b = write(tmp_path / "b", *(f"{number}_B" for number in range(105, 135)))
    task = task_of(replace(WHOLE, a_dir=a, b_dir=b, test_pairs=True))
    assert held_out_names(task) == (["105_A", "115_A"], ["105_B", "115_B"])
    of_a, of_b = training_names(task)
    assert len(of_a) == 18 and not {"105_A", "115_A"} & set(of_a)
    assert len(of_b) == 28 and not {"105_B", "115_B"} & set(of_b)
    item = task.held_out[1]
    for key, file in (("a", a / "115_A.png"), ("truth_a", a / "115_A.png"), ("truth_b", b / "115_B.png")):
        torch.testing.assert_close(item[key], torch.tensor(read_image(file)).permute(2, 0, 1) / 127.5 - 1)
    assert "Held out are 2 of A and those of B with the same names" in task.about


@pytest.mark.parametrize(("most", "looked_at"), [(1000, slice(None)), (3, [0, 3, 6])])
def test_baselines_by_hand(most: int, looked_at: slice | list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of images that are one grey each: a transfer of colours gives B's mean grey, as the mean image does."""
    monkeypatch.setattr(unpaired, "BASELINE_IMAGES", most)
    for folder, count in (("trainA", 2), ("trainB", 8), ("testA", 2), ("testB", 2)):
        write(tmp_path / folder, *range(count))
    task = task_of(replace(WHOLE, data=tmp_path, test_pairs=True))
    greys = {
        folder.name: np.array([read_image(file).mean() / 255 for file in sorted(folder.iterdir())])
        for folder in tmp_path.iterdir()
    }
    untouched = np.abs(greys["testA"] - greys["testB"]).mean()
    constant = np.abs(greys["trainB"][looked_at].mean() - greys["testB"]).mean()
    l1 = {name: figures["l1"] for name, figures in task.baselines.items()}
    assert l1 == pytest.approx({"do nothing": untouched, "colour transfer": constant, "mean image": constant}, abs=1e-5)
    assert all(figures["swd"] > 0 for figures in task.baselines.values())
    # A run's metrics are of the same images.
    measures = Measures(TrainingSettings(steps=1, metrics=("l1",)), device=torch.device("cpu"))
    found = measures.baselines(task.baseline_images, count=2)
    for name, figures in task.baselines.items():
        assert found[name] == pytest.approx({key: figures[key] for key in ("l1", "l1_b_to_a")}, abs=1e-6)


def test_rows_that_other_channels_do_not_allow_are_left_out(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 0, 1, channels=1), write(tmp_path / "b", 0, 1)
    task = task_of(replace(WHOLE, a_dir=a, b_dir=b, a_range=(0, 100)))
    assert (task.a.channels, task.b.channels) == (1, 3)
    assert (task.a.data_range, task.b.data_range) == ((0, 100), (0, 255))
    assert task.baselines.keys() == {"mean image"}
    measures = Measures(TrainingSettings(steps=1, metrics=("swd",)), device=torch.device("cpu"))
    assert measures.baselines(task.baseline_images, count=1)["do nothing"] == {}
    assert "1 channel of uint8, black at 0 and white at 100" in task.about


def test_whole_images_of_many_sizes(tmp_path: Path) -> None:
    """Learnt from as they are, but for what exceeds the multiple; held-out ones share the smallest one's side."""
    a, b = tmp_path / "a", write(tmp_path / "b", *range(4), size=(50, 33))
    for number, size in enumerate([(41, 30), (30, 55), (28, 28)]):
        write(a, number, size=size)
    task = task_of(replace(WHOLE, a_dir=a, b_dir=b))
    assert [tuple(task.held_out[i]["a"].shape[1:]) for i in range(3)] == [(28, 28)] * 3
    assert task.held_out[0]["b"].shape[1:] == (48, 32)
    drawn = [task.training[Draw(index=0, seed=0, number=number)]["a"] for number in range(3)]
    assert {tuple(image.shape[1:]) for image in drawn} == {(40, 28), (28, 52), (28, 28)}
    with pytest.raises(InputError, match=r"sides of A's images go from 28 to 55 px.*--batch-size 1"):
        task_of(replace(WHOLE, a_dir=a, b_dir=b), batch_size=2)
    task_of(replace(WHOLE, a_dir=a, b_dir=b, load_size=32), batch_size=2)
    task_of(replace(WHOLE, a_dir=a, b_dir=b, crop_size=28), batch_size=2)


def test_pairs_of_many_sizes_are_cut_alike(tmp_path: Path) -> None:
    for side in "AB":
        for number, size in enumerate([(41, 30), (24, 55)]):
            write(tmp_path / f"train{side}", number, size=size)
            write(tmp_path / f"test{side}", number, size=size)
    task = task_of(replace(WHOLE, data=tmp_path, test_pairs=True))
    for index in range(2):
        assert {tuple(image.shape[1:]) for image in task.held_out[index].values()} == {(24, 24)}


@pytest.mark.parametrize(
    ("sizes", "needs", "says"),
    [
        ({"crop_size": 32}, {}, r"b/1\.png is 40 x 24 px, and images of side B need at least 32 px"),
        ({}, {"smallest_px": 28}, r"b/1\.png is 40 x 24 px, and images of side B need at least 28 px"),
        ({}, {"size_multiple": 32}, r"b/1\.png is 40 x 24 px, and images of side B need at least 32 px"),
        ({"crop_size": 18}, {}, "multiples of 4 px and at least 16 px, and these will be 18 px"),
        ({"load_size": 12}, {}, "at least 16 px, and these will be 12 px"),  # figures need as much
        ({"load_size": 32, "crop_size": 20}, {"smallest_px": 24}, "at least 24 px, and these will be 20 px"),
    ],
)
def test_sizes_that_cannot_be_used(sizes: dict[str, int], needs: dict[str, int], says: str, tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", 0, 1, size=(40, 40)), write(tmp_path / "b", 0, size=(40, 40))
    write(b, 1, size=(24, 40))
    with pytest.raises(InputError, match=says):
        task_of(replace(WHOLE, a_dir=a, b_dir=b, **sizes), **needs)


def test_held_out_images_are_checked_as_well(tmp_path: Path) -> None:
    for folder in ("trainA", "trainB", "testA", "testB"):
        write(tmp_path / folder, 0, 1, size=(40, 40))
    write(tmp_path / "testA", 2, size=(12, 40))
    with pytest.raises(InputError, match=r"testA/2\.png is 40 x 12 px, and images of side A need at least 32 px"):
        task_of(replace(WHOLE, data=tmp_path, crop_size=32))
    write(tmp_path / "testA", 2, size=(40, 40), channels=4)
    with pytest.raises(InputError, match=r"2\.png has a channel count of 4; expected 3, as for all images of side A"):
        task_of(replace(WHOLE, data=tmp_path, crop_size=32))


def test_settings_that_exclude_each_other() -> None:
    for settings in ({"data": Path("x"), "a_dir": Path("y"), "b_dir": Path("z")}, {"a_dir": Path("y")}):
        with pytest.raises(InputError, match="--a-dir"):
            UnpairedData(**settings)
    with pytest.raises(InputError, match="--load-size must be at least 1, and is 0"):
        UnpairedData(load_size=0)


def test_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    """By day and by night, never the same street, but for those held out, whose truth is known."""
    monkeypatch.setattr(unpaired, "TRAINING_STREETS", 4)
    monkeypatch.setattr(unpaired, "HELD_OUT_STREETS", 2)
    task = task_of(UnpairedData())
    assert len(task.training) == 4 and len(task.held_out) == 2
    item = task.held_out[0]
    assert torch.equal(item["truth_b"], item["b"]) and torch.equal(item["truth_a"], item["a"])
    assert item["a"].shape == (3, 64, 64) and item["a"].mean() > item["b"].mean() + 0.3
    day, night = ([side[index] for index in range(4)] for side in (task.training.a, task.training.b))
    by_night = [item["b"] for item in (task.held_out[0], task.held_out[1])]
    assert not any(torch.equal(image, other) for image in night for other in by_night + day)
    assert task.baselines.keys() == {"do nothing", "colour transfer", "mean image"}
    assert {"lit_recall", "l1", "ssim", "swd"} <= task.baselines["do nothing"].keys()
    with pytest.raises(InputError, match="at least 96 px, and these will be 64 px"):
        task_of(UnpairedData(), smallest_px=96)
