import os
import sys
from pathlib import Path

import pytest

from i2i.cli.plan import Job, plan, plan_jobs, remove_leftovers
from i2i.errors import InputError
from i2i.files import replacing


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def planned(source: str, target: str, **options: str) -> dict[str, str]:
    jobs = plan_jobs(source, target, **options)
    return {job.source.as_posix(): job.target.as_posix() for job in jobs}


def test_one_file_becomes_the_named_file() -> None:
    make("a.png")
    assert planned("a.png", "deep/b.TIF") == {"a.png": "deep/b.TIF"}


def test_one_file_goes_into_a_folder() -> None:
    make("in/a.png")
    Path("there").mkdir()
    assert planned("in/a.png", "there") == {"in/a.png": "there/a.png"}
    assert planned("in/a.png", "new/", suffix="_x4") == {"in/a.png": "new/a_x4.png"}
    assert planned("in/a.png", "new/deep", suffix="_x4") == {"in/a.png": "new/deep/a_x4.png"}
    assert planned("in/a.png", "in/", suffix="_x4") == {"in/a.png": "in/a_x4.png"}
    assert planned("in/a.png", "new/", image_format="tif") == {"in/a.png": "new/a.tif"}


def test_a_folder_keeps_its_structure_and_skips_what_is_no_image() -> None:
    make("in/b.png", "in/sub/a.JPG", "in/sub/deep/c.d.tif", "in/notes.txt", "in/.hidden.png", "in/.cache/e.png")
    expected = {
        "in/b.png": "out/b_x4.png",
        "in/sub/a.JPG": "out/sub/a_x4.JPG",
        "in/sub/deep/c.d.tif": "out/sub/deep/c.d_x4.tif",
    }
    assert planned("in", "out", suffix="_x4") == expected
    assert planned("in/", "out/", suffix="_x4") == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", {"in/a.png": "out/a.png"}),
        ("in/**/*.png", {"in/a.png": "out/a.png", "in/sub/b.png": "out/sub/b.png"}),
        ("in/**", {"in/a.png": "out/a.png", "in/sub/b.png": "out/sub/b.png", "in/sub/c.jpg": "out/sub/c.jpg"}),
        ("*/sub/[bc].*", {"in/sub/b.png": "out/in/sub/b.png", "in/sub/c.jpg": "out/in/sub/c.jpg"}),
        ("in/su?/c.*", {"in/sub/c.jpg": "out/sub/c.jpg"}),
    ],
)
def test_patterns(pattern: str, expected: dict[str, str]) -> None:
    make("in/a.png", "in/sub/b.png", "in/sub/c.jpg", "in/sub/c.txt", "in/.hidden/d.png")
    assert planned(pattern, "out") == expected
    absolute = planned(f"{Path.cwd()}/{pattern}", "out")
    assert absolute == {f"{Path.cwd()}/{source}": target for source, target in expected.items()}


def test_a_file_with_wildcards_in_its_name_is_taken_as_it_is() -> None:
    make("a[1].png", "a1.png")
    assert planned("a[1].png", "out/") == {"a[1].png": "out/a[1].png"}


def test_links_that_lead_in_circles_end() -> None:
    make("in/a.png", "elsewhere/b.png")
    Path("in/up").symlink_to(Path("in").resolve())
    Path("in/self").symlink_to("self")
    Path("in/linked").symlink_to(Path("elsewhere").resolve())
    Path("elsewhere/back").symlink_to(Path("in").resolve())
    assert planned("in", "out") == {"in/a.png": "out/a.png", "in/linked/b.png": "out/linked/b.png"}
    assert "in/a.png" in planned("in/**/*.png", "out")


def test_a_dangling_link_is_not_passed_over() -> None:
    Path("in").mkdir()
    Path("in/a.png").symlink_to("nowhere.png")
    assert list(planned("in", "out")) == ["in/a.png"]


@pytest.mark.parametrize("source", ["in", "in/**/*.png", "."])
def test_earlier_results_are_no_images(source: str) -> None:
    make("in/a.png", "in/out/a.png", "in/out/sub/b.png")
    Path("in/link").symlink_to(Path("in/out").resolve())
    assert [Path(name).name for name in planned(source, "in/out")] == ["a.png"]


def test_a_folder_of_results_may_lie_around_the_images() -> None:
    make("all/raw/a.png", "all/a.png")
    assert planned("all/raw", "all") == {"all/raw/a.png": "all/a.png"}


@pytest.mark.parametrize("target", ["in", "in/", "./in", "link"])
@pytest.mark.parametrize("source", ["in", "in/*.png"])
def test_the_images_own_folder_is_refused(source: str, target: str) -> None:
    make("in/a.png")
    Path("link").symlink_to("in")
    with pytest.raises(InputError, match="holds the images themselves"):
        plan_jobs(source, target, suffix="_x4")


@pytest.mark.parametrize("target", ["a.png", "./", "link.png", "hard.png", "sub/../a.png"])
def test_nothing_is_overwritten_in_place(target: str) -> None:
    make("a.png", "sub/x")
    Path("link.png").symlink_to("a.png")
    os.link("a.png", "hard.png")
    with pytest.raises(InputError, match=r"would overwrite the image a\.png"):
        plan_jobs("a.png", target)


def test_one_image_of_a_folder_does_not_overwrite_another() -> None:
    make("all/raw/raw/a.png", "all/raw/a.png")
    with pytest.raises(InputError, match=r"all/raw/raw/a\.png would overwrite the image all/raw/a\.png"):
        plan_jobs("all/raw", "all")


def test_two_images_with_one_result_are_named() -> None:
    make("in/a.jpg", "in/a.png")
    assert len(planned("in", "out")) == 2
    with pytest.raises(InputError, match=r"in/a\.jpg and in/a\.png would both become out/a\.png"):
        plan_jobs("in", "out", image_format="png")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere.png", "b.png", r"nowhere\.png does not exist"),
        ("nowhere/*.png", "out", r"nowhere/\*\.png has no image"),
        ("empty", "out", "empty has no image"),
        ("a.png", "b.xyz", r"b\.xyz names no image format"),
        ("a.png", "a.png/b.png", r"a\.png is a file"),
        ("a.png", "file/deep/", "file is a file"),
        ("in", "file", "file is a file"),
        ("in", "out.png", r"out\.png .*folder"),
        ("in/*.png", "file/sub", "file is a file"),
        ("data", "out/", "--format"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_made(source: str, target: str, message: str) -> None:
    make("a.png", "file", "in/a.png", "data")
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError, match=message):
        plan_jobs(source, target)
    assert sorted(Path().rglob("*")) == before


def test_a_file_name_says_all() -> None:
    make("a.png")
    for options in ({"suffix": "_x4"}, {"image_format": "tif"}):
        with pytest.raises(InputError, match="--suffix and --format"):
            plan_jobs("a.png", "b.png", **options)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything may be written to")
def test_a_read_only_folder_is_said_before_any_work() -> None:
    make("a.png")
    Path("out").mkdir(mode=0o500)
    with pytest.raises(InputError, match="out may not be written to"):
        plan_jobs("a.png", "out/sub/")


def test_a_folder_that_the_system_calls_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, where the tests run as somebody who may write everywhere."""
    make("a.png")
    Path("out").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("out"))
    with pytest.raises(InputError, match="out may not be written to"):
        plan_jobs("a.png", "out/sub/")


def test_only_the_leftovers_of_these_results_are_removed() -> None:
    jobs = [Job(source=Path("in/a.png"), target=Path("out/a.png"))]
    mine = ["out/.b.png.part-abcd1234.png", "out/.a.png.part-1.png", "out/.a.png.part-of-mine.png", "out/a.png.part-x"]
    make(*mine, "out/sub/.a.png.part-abcd1234.png")
    with pytest.raises(KeyboardInterrupt), replacing(Path("out/a.png")) as temporary:
        make(f"{temporary.parent}/copy")
        name = temporary.name
        raise KeyboardInterrupt
    make(f"out/{name}")
    before = set(Path("out").rglob("*"))
    remove_leftovers(job.target for job in jobs)
    assert before - set(Path("out").rglob("*")) == {Path("out") / name}
    remove_leftovers([Path("missing/a.png")])


def planned_videos(source: str, target: str, **options: str) -> dict[str, tuple[str, str | None]]:
    images, videos = plan(source, target, **options)
    assert not images
    return {job.source.as_posix(): (job.target.as_posix(), job.frames) for job in videos}


def test_a_video_becomes_a_video_or_a_folder_of_frames() -> None:
    make("a.mp4", "b.webm", "c", "d.avi")
    Path("there.d").mkdir()
    assert planned_videos("a.mp4", "deep/b.mkv") == {"a.mp4": ("deep/b.mkv", None)}
    assert planned_videos("a.mp4", "there.d") == {"a.mp4": ("there.d/a.mp4", None)}
    assert planned_videos("a.mp4", "out/", suffix="_x4") == {"a.mp4": ("out/a_x4.mp4", None)}
    assert planned_videos("b.webm", "out") == {"b.webm": ("out/b.mkv", None)}
    assert planned_videos("d.avi", "out", suffix="_x4") == {"d.avi": ("out/d_x4.mkv", None)}
    assert planned_videos("c", "out.mp4") == {"c": ("out.mp4", None)}  # whatever it is called
    assert planned_videos("a.mp4", "out", image_format="png") == {"a.mp4": ("out", "png")}
    assert planned_videos("a.mp4", "there.d", image_format="tif") == {"a.mp4": ("there.d", "tif")}


@pytest.mark.parametrize("source", ["in", "in/%06d.png", "in/*.png"])
def test_images_become_a_video(source: str) -> None:
    make("in/000001.png", "in/000002.png")
    assert planned_videos(source, "out.mkv") == {source: ("out.mkv", None)}


def test_videos_of_a_folder_keep_its_structure() -> None:
    make("in/b.MP4", "in/sub/a.webm", "in/sub/deep/c.d.mov", "in/notes.txt", "in/.hidden.mp4", "in/out/a.mkv")
    expected = {
        "in/b.MP4": ("in/out/b_x4.mp4", None),
        "in/sub/a.webm": ("in/out/sub/a_x4.mkv", None),
        "in/sub/deep/c.d.mov": ("in/out/sub/deep/c.d_x4.mov", None),
    }
    assert planned_videos("in", "in/out", suffix="_x4") == expected
    assert planned_videos("in/**", "in/out", suffix="_x4") == expected
    assert planned_videos("in", "in/out", image_format="png") == {
        "in/b.MP4": ("in/out/b", "png"),
        "in/sub/a.webm": ("in/out/sub/a", "png"),
        "in/sub/deep/c.d.mov": ("in/out/sub/deep/c.d", "png"),
    }


def test_images_and_videos_of_one_folder() -> None:
    make("in/a.png", "in/sub/b.mp4", "in/c.gif")
    images, videos = plan("in", "out")
    assert {(job.source.as_posix(), job.target.as_posix()) for job in images} >= {("in/a.png", "out/a.png")}
    assert [(job.source.as_posix(), job.target.as_posix()) for job in videos][-1] == ("in/sub/b.mp4", "out/sub/b.mp4")
    named = [job.source for job in (*images, *videos)]
    assert len(named) == len(set(named)) == 3


@pytest.mark.parametrize(
    ("names", "options"),
    [(("in/a.webm", "in/a.mkv"), {}), (("in/a.mp4", "in/a.mov"), {"image_format": "png"})],
)
def test_two_videos_with_one_result_are_named(names: tuple[str, str], options: dict[str, str]) -> None:
    make(*names)
    with pytest.raises(InputError, match=r"would both become out/a.*each with a name of its own"):
        plan("in", "out", **options)


@pytest.mark.parametrize("options", [{"suffix": "_x4"}, {"image_format": "png"}])
@pytest.mark.parametrize("source", ["in", "a.mp4"])
def test_the_name_of_a_video_says_all(source: str, options: dict[str, str]) -> None:
    make("in/a.png", "a.mp4")
    with pytest.raises(InputError, match=r"out\.mp4 is a file name, which says all"):
        plan(source, "out.mp4", **options)


def test_a_suffix_for_folders_of_frames() -> None:
    make("in/sub/a.mp4")
    frames = planned_videos("in", "out", image_format="png", suffix="_x4")
    assert frames == {"in/sub/a.mp4": ("out/sub/a_x4", "png")}
    with pytest.raises(InputError, match="--suffix: the frames in out are numbered"):
        plan("in/sub/a.mp4", "out", image_format="png", suffix="_x4")


@pytest.mark.parametrize(
    ("source", "target"), [("a.mp4", "a.mp4"), ("a.mp4", "./"), ("a.mp4", "link.mp4"), ("all/raw", "all")]
)
def test_no_video_is_written_over(source: str, target: str) -> None:
    make("a.mp4", "all/raw/raw/a.mp4", "all/raw/a.mp4")
    Path("link.mp4").symlink_to("a.mp4")
    with pytest.raises(InputError, match="would overwrite the video"):
        plan(source, target)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere.mp4", "out.mp4", r"nowhere\.mp4 does not exist"),
        ("nowhere.mp4", "out", r"nowhere\.mp4 does not exist"),
        ("rtsp://host/a", "out.mp4", "rtsp://host/a is no file; .* i2i.video.upscale_live"),
        ("pipe", "out.mp4", "pipe: expected a file that can be read twice"),
        ("-", "out.mp4", "-: expected a file that can be read twice"),
        ("empty", "out", "empty has no image"),
        ("in", "in", "holds the"),
        ("a.mp4", "file/out.mp4", "file is a file"),
        ("a.mp4", "file/", "file is a file"),
    ],
)
def test_what_cannot_be_done_with_videos_is_said(source: str, target: str, message: str) -> None:
    make("a.mp4", "file", "in/a.mp4")
    os.mkfifo("pipe")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message):
        plan(source, target)
