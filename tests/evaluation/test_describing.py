"""One pass over a set: against NumPy, in any number of threads and processes, remembered and not."""

import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from i2i.errors import InputError
from i2i.evaluation import Described, Describing, ImageSet, describing


class Colours:
    """Mean colours with their moments; deviations of large images alone."""

    def __init__(self, *, moments: bool = True, large_px: int = 24) -> None:
        self.key = f"colours {moments} {large_px}"
        self.rows: Mapping[str, torch.dtype] = {"mean": torch.float32, "deviation": torch.float16}
        self.moments: Mapping[str, int] = {"mean": 3} if moments else {}
        self.large_px = large_px
        self.calls = 0

    def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
        self.calls += 1
        assert len(images) == len(indices)
        found = {"mean": images.mean(dim=(2, 3))}
        if images.shape[2] >= self.large_px:
            found["deviation"] = images.std(dim=(2, 3)).half()
        return found


def write_images(folder: Path, count: int) -> list[np.ndarray]:
    """PNG files of two sizes; what they hold, in [-1, 1] and RGB."""
    folder.mkdir()
    random = np.random.default_rng(0)
    images = []
    for number in range(count):
        size = 24 if number % 3 else 20
        pixels = random.integers(0, 256, (size, size + number % 2, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels)
        images.append(pixels[..., ::-1] / 127.5 - 1)
    return images


def described(
    folder: Path, describer: Colours | None = None, *, threads: int = 2, kept: int | None = 10_000
) -> Described:
    return Describing(threads=threads).of(ImageSet.find(folder), describer or Colours(), what="images", kept=kept)


def test_rows_and_moments_are_numpys(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 50)
    found = described(tmp_path / "images")
    means = np.stack([image.mean((0, 1)) for image in images])
    assert found.count == 50 and found.indices["mean"].tolist() == list(range(50))
    np.testing.assert_allclose(found.rows["mean"], means, atol=1e-6)
    moments = found.moments["mean"]
    assert moments.count == 50
    np.testing.assert_allclose(moments.mean, means.mean(0), atol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(means, rowvar=False), atol=1e-7)
    large = [number for number in range(50) if number % 3]
    assert found.indices["deviation"].tolist() == large and found.rows["deviation"].dtype == torch.float16
    deviations = [images[number].std((0, 1), ddof=1) for number in large]
    np.testing.assert_allclose(found.rows["deviation"], deviations, atol=1e-3)


def test_any_number_of_threads_finds_the_same_to_the_last_bit(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 70)
    one, four = (described(tmp_path / "images", threads=threads) for threads in (1, 4))
    assert torch.equal(one.rows["mean"], four.rows["mean"])
    assert torch.equal(one.moments["mean"].covariance, four.moments["mean"].covariance)


def test_rows_are_kept_of_some_and_moments_of_all(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 45)
    found = described(tmp_path / "images", kept=10)
    assert found.indices["mean"].tolist() == [0, 4, 9, 13, 18, 22, 27, 31, 36, 40]
    means = np.stack([image.mean((0, 1)) for image in images])
    np.testing.assert_allclose(found.rows["mean"], means[found.indices["mean"]], atol=1e-6)
    np.testing.assert_allclose(found.moments["mean"].covariance, np.cov(means, rowvar=False), atol=1e-7)
    without = Colours(moments=False)
    assert torch.equal(described(tmp_path / "images", without, kept=10).rows["mean"], found.rows["mean"])
    assert len(described(tmp_path / "images", without, kept=None).rows["mean"]) == 45


def test_large_images_are_described_one_by_one_and_never_many_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 20 × 20 px in pairs, larger ones alone, and no more than two of these in memory."""
    write_images(tmp_path / "images", 60)
    monkeypatch.setattr(describing, "VALUES_AT_ONCE", 20 * 21 * 3 * 2)
    monkeypatch.setattr(describing, "VALUES_IN_MEMORY", 24 * 25 * 3 * 2)
    held, most, batches, lock = [0], [0], [], threading.Lock()

    class Noting(Colours):
        def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
            with lock:
                held[0] += images.numel()
                most[0] = max(most[0], held[0])
                batches.append((len(images), images.numel()))
            threading.Event().wait(0.002)
            with lock:
                held[0] -= images.numel()
            return super().__call__(images, indices)

    found = described(tmp_path / "images", Noting(), threads=6)
    assert len(found.rows["mean"]) == 60
    assert all(count == 1 or numbers <= describing.VALUES_AT_ONCE for count, numbers in batches)
    assert 20 * 20 * 3 < most[0] <= describing.VALUES_IN_MEMORY
    # A single image that is larger than all that there is room for has it for itself.
    monkeypatch.setattr(describing, "VALUES_IN_MEMORY", 100)
    most[0] = 0
    again = described(tmp_path / "images", Noting(), threads=6)
    assert torch.equal(again.rows["mean"], found.rows["mean"]) and most[0] <= 24 * 25 * 3


WORKER = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_describing import Colours
from i2i.evaluation import Describing, ImageSet
torch.distributed.init_process_group("gloo")
found = Describing(threads=2).of(ImageSet.find(sys.argv[2]), Colours(), what="images", cached=True)
rank = torch.distributed.get_rank()
torch.save((torch.distributed.get_world_size(), found), Path(sys.argv[3]) / f"{rank}.pt")
torch.distributed.destroy_process_group()
threads = [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in threads), threads  # or they may abort the interpreter as it exits
"""


def launched(processes: int, *arguments: object) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*launch, *map(str, arguments)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("processes", "count"), [(2, 70), (3, 20), (2, 5)])
def test_processes_share_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, count: int
) -> None:
    """Of 5 images, 16 of which are read at once, one process gets none."""
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", count)
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    launched(processes, worker, Path(__file__).parent, tmp_path / "images", tmp_path)
    alone = described(tmp_path / "images")
    for rank in range(processes):
        world, found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert world == processes and found.count == count
        for name in ("mean", "deviation"):
            assert torch.equal(found.rows[name], alone.rows[name])
            assert torch.equal(found.indices[name], alone.indices[name])
        assert found.moments["mean"].count == count
        assert torch.equal(found.moments["mean"].mean, alone.moments["mean"].mean)
        assert torch.equal(found.moments["mean"].covariance, alone.moments["mean"].covariance)
    assert len([*(tmp_path / "cache" / "statistics").glob("*.safetensors")]) == 1


CACHE_OF_ONE = """
import os, sys
os.environ["I2I_CACHE"] += os.environ["RANK"]
exec(open(sys.argv[4]).read())
"""


def test_processes_agree_though_only_one_of_them_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on machines with a disk each: they would wait for each other for ever."""
    write_images(tmp_path / "images", 40)
    for rank in (1, 0):  # the first process finds nothing, and the other one finds what was written here
        monkeypatch.setenv("I2I_CACHE", f"{tmp_path / 'cache'}{rank}")
        if rank:
            Describing().of(ImageSet.find(tmp_path / "images"), Colours(), what="images", cached=True)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    worker, inner = tmp_path / "worker.py", tmp_path / "inner.py"
    worker.write_text(CACHE_OF_ONE)
    inner.write_text(WORKER)
    launched(2, worker, Path(__file__).parent, tmp_path / "images", tmp_path, inner)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False)[1] for rank in (0, 1))
    assert torch.equal(first.rows["mean"], second.rows["mean"])
    assert [*(tmp_path / "cache0" / "statistics").glob("*.safetensors")]


def test_each_set_is_described_once(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 20)
    images, counting = ImageSet.find(tmp_path / "images"), Colours()
    pass_ = Describing()
    first = pass_.of(images, counting, what="images")
    calls = counting.calls
    assert calls > 0 and pass_.of(images, counting, what="images") is first and counting.calls == calls
    pass_.of(images, Colours(large_px=10), what="images")
    pass_.of(images.subset(range(4)), counting, what="images")
    assert counting.calls > calls


def test_what_is_known_of_real_images_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 20)
    counting = Colours()

    def again() -> Described:
        return Describing().of(ImageSet.find(tmp_path / "images"), counting, what="images", cached=True)

    first = again()
    calls = counting.calls
    (file,) = (tmp_path / "cache" / "statistics").iterdir()
    second = again()
    assert counting.calls == calls
    assert second.count == first.count and second.rows.keys() == first.rows.keys()
    assert all(torch.equal(second.rows[name], first.rows[name]) for name in first.rows)
    assert torch.equal(second.moments["mean"].covariance, first.moments["mean"].covariance)

    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\0" * 100):
        file.write_bytes(damaged)
        assert torch.equal(again().rows["mean"], first.rows["mean"])
        assert counting.calls > calls and file.read_bytes() == whole
        calls = counting.calls

    changed = tmp_path / "images" / "003.png"
    cv2.imwrite(str(changed), 255 - cv2.imread(str(changed)))
    assert not torch.equal(again().rows["mean"], first.rows["mean"])
    Describing().of(ImageSet.find(tmp_path / "images"), Colours(large_px=10), what="images", cached=True)
    assert len([*(tmp_path / "cache" / "statistics").iterdir()]) == 3


def test_a_disk_that_takes_nothing_is_told_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be made")
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 4)
    with pytest.warns(UserWarning, match="cannot be kept for the next time.*I2I_CACHE"):
        found = Describing().of(ImageSet.find(tmp_path / "images"), Colours(), what="images", cached=True)
    assert len(found.rows["mean"]) == 4


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "images", 20)
    images, kept = ImageSet.find(tmp_path / "images"), tmp_path / "cache" / "statistics"

    def files_after(large_px: int) -> set[Path]:
        Describing().of(images, Colours(large_px=large_px), what="images", cached=True)
        return set(kept.iterdir())

    (first,) = files_after(10)
    (second,) = files_after(11) - {first}
    for age, file in ((200, first), (100, second)):
        os.utime(file, (time.time() - age, time.time() - age))
    files_after(10)  # which makes the second one the oldest
    monkeypatch.setattr(describing, "LARGEST_CACHE_BYTES", 2 * first.stat().st_size + 100)
    left = files_after(12)
    assert first in left and second not in left and len(left) == 2


def test_a_file_that_cannot_be_read_is_named_and_ends_the_threads(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 60)
    (tmp_path / "images" / "031.png").write_bytes(b"no image")
    threads = torch.get_num_threads()
    with pytest.raises(InputError, match=r"031\.png"):
        described(tmp_path / "images", threads=3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("describe")]
    assert torch.get_num_threads() == threads


def test_images_of_different_channels_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 4)
    np.save(tmp_path / "images" / "five.npy", np.zeros((24, 24, 5), np.uint8))
    with pytest.raises(InputError, match="differ in their numbers of channels"):
        described(tmp_path / "images", Colours(moments=False))


def test_a_large_image_is_gone_before_the_next_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "VALUES_AT_ONCE", 1)
    write_images(tmp_path / "images", 6)
    held: list[weakref.ref[Tensor]] = []
    left: list[int] = []
    read = ImageSet.read

    class Watched(Colours):
        def __call__(self, images: Tensor, indices: Sequence[int]) -> Mapping[str, Tensor]:
            held.append(weakref.ref(images))
            return super().__call__(images, indices)

    def counting(self: ImageSet, index: int) -> Tensor:
        left.append(sum(image() is not None for image in held))
        return read(self, index)

    monkeypatch.setattr(ImageSet, "read", counting)
    described(tmp_path / "images", Watched(), threads=1)
    assert len(held) == 6 and left == [0] * 6


def test_the_thread_that_joins_takes_no_cores_from_the_others(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 50)
    before, used = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        ask = Describing(threads=2, progress=lambda what, done, total: used.append(torch.get_num_threads()))
        ask.of(ImageSet.find(tmp_path / "images"), Colours(), what="images")
        assert set(used) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 40)
    told: list[tuple[str, int, int]] = []
    images = ImageSet.find(tmp_path / "images")
    Describing(progress=lambda *parts: told.append(parts)).of(images, Colours(), what="real images")
    assert told == [("real images", done, 40) for done in (16, 32, 40)]


def test_few_images_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow consumer must not let threads read ahead without bound."""
    write_images(tmp_path / "images", 400)
    images = ImageSet.find(tmp_path / "images")
    read, kept, ahead = [0], [0], [0]
    original, lock = ImageSet.read, threading.Lock()

    def counting(self: ImageSet, index: int) -> Tensor:
        with lock:
            read[0] += 1
        return original(self, index)

    def slow(what: str, done: int, total: int) -> None:
        kept[0] = done
        threading.Event().wait(0.005)
        ahead[0] = max(ahead[0], read[0] - kept[0])

    monkeypatch.setattr(ImageSet, "read", counting)
    Describing(threads=2, progress=slow).of(images, Colours(), what="images")
    assert read[0] == 400
    assert ahead[0] <= (2 * 2 + 1) * describing.AT_ONCE
