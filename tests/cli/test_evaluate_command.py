"""`i2i evaluate`: what it writes, from folders, videos and weights; what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_draw_command import NAMES
from test_draw_command import save as save_sampler

import i2i
from i2i.checkpoints.store import GeneratorSpec, ImageSide, save_generator
from i2i.cli import evaluate as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import read_image, read_provenance, write_image
from i2i.errors import InputError
from i2i.evaluation import ImageSet
from i2i.generators import CompactGenerator
from i2i.layers.resample import bicubic
from i2i.metrics import FlickerMeter
from i2i.metrics.segmenter import Segmenter, save_segmenter
from i2i.video import VideoFile

WEIGHTS_FREE = {"psnr", "ssim", "l1", "sharpness", "swd", "swd_low", "variety"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One process, a cache of its own, and no network."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    for module in ("i2i.metrics.features", "i2i.metrics.perceptual"):
        monkeypatch.setattr(f"{module}.download", _no_network)


def _no_network(*_: object, **__: object) -> None:
    raise InputError("there is no network")


def evaluate(*arguments: str | Path) -> int:
    """Run the command in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


def found(out: Path) -> Any:
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    for number in range(6):
        real = random.integers(0, 256, (24, 20, 3))
        made = np.clip(real + random.normal(0, 10 + number, real.shape), 0, 255)
        for folder, image in (("made", np.rint(made)), ("real", real)):
            write_image(tmp_path / folder / f"{number}.png", image.astype(np.uint8))
    return tmp_path / "made", tmp_path / "real"


def psnr_of(made: Path, real: Path) -> float:
    pairs = [(read_image(file), read_image(real / file.name)) for file in sorted(made.iterdir())]
    return float(np.mean([peak_signal_noise_ratio(other, one) for one, other in pairs]))


def test_two_folders(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, real = folders
    for out in ("one", "two"):
        assert evaluate(made, "--real", real, "--out", tmp_path / out) == 0
    for name in ("evaluation.json", "evaluation.md", "evaluation.html", "pictures/all-pairs-by-ssim.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    evaluation = found(tmp_path / "one")
    assert set(evaluation["figures"]) == WEIGHTS_FREE
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(psnr_of(made, real), rel=1e-5)
    assert {"fid", "kid", "inception_score", "precision", "lpips", "ms_ssim"} <= set(evaluation["missing"])
    assert "6726825d.pth" in evaluation["missing"]["fid"] and "--feature-weights" in evaluation["missing"]["fid"]
    assert evaluation["sets"]["generated"] == {
        "place": str(made),
        "half": None,
        "images": 6,
        "fingerprint": ImageSet.find(made).fingerprint,
    }
    assert evaluation["settings"]["figures"]["features"] == ["inception"]
    assert not {"out", "seed"} & set(evaluation["settings"])
    printed = capsys.readouterr().out
    assert "psnr" in printed and "not measured" in printed and str(tmp_path / "two" / "evaluation.html") in printed


def test_names_without_partners_are_sets_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    for file in real.iterdir():
        file.rename(file.with_name(f"photo{file.name}"))
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--features", "pixels") == 0
    figures = found(tmp_path / "out")["figures"]
    assert "psnr" not in figures and {"swd", "frechet_pixels", "precision_pixels"} <= set(figures)
    assert (tmp_path / "out" / "pictures" / "generated-images.png").exists()
    assert evaluate(made, "--real", real, "--out", tmp_path / "no", "--pairs", "on") == 2


def test_pairs_of_other_sizes_are_left_out_unless_asked_for(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, real = folders
    write_image(real / "3.png", np.zeros((24, 22, 3), np.uint8))
    assert evaluate(made, "--real", real, "--out", tmp_path / "out") == 0
    (left_out,) = [warning for warning in found(tmp_path / "out")["warnings"] if "figures of pairs" in warning]
    assert "made/3.png has 20 x 24 px" in left_out and found(tmp_path / "out")["figures"]["psnr"]["images"] == 5
    assert evaluate(made, "--real", real, "--out", tmp_path / "off", "--pairs", "off") == 0
    assert not any("pairs" in warning for warning in found(tmp_path / "off")["warnings"])
    capsys.readouterr()
    assert evaluate(made, "--real", real, "--out", tmp_path / "on", "--pairs", "on") == 2
    assert "resize one side" in capsys.readouterr().err


def test_12_bits_in_files_of_16(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pairs = []
    for number in range(4):
        real = random.integers(0, 4096, (24, 20, 3))
        made = np.clip(real + random.integers(-200, 201, real.shape), 0, 4095)
        pairs.append((made.astype(np.uint16), real.astype(np.uint16)))
        for folder, image in zip(("made", "real"), pairs[-1], strict=True):
            write_image(tmp_path / folder / f"{number}.png", image)
    arguments = (tmp_path / "made", "--real", tmp_path / "real", "--lpips", "off", "--features", "none")
    assert evaluate(*arguments, "--data-range", "0", "4095", "--out", tmp_path / "said") == 0
    evaluation = found(tmp_path / "said")
    psnr = np.mean([peak_signal_noise_ratio(real, made, data_range=4095) for made, real in pairs])
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    ssim = np.mean([structural_similarity(real, made, data_range=4095, **window) for made, real in pairs])
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(psnr, rel=1e-5)
    assert evaluation["figures"]["ssim"]["value"] == pytest.approx(ssim, rel=1e-4)
    assert evaluation["sets"]["real"]["data_range"] == [0, 4095]
    assert "white 4095" in (tmp_path / "said" / "evaluation.md").read_text()
    assert evaluate(*arguments, "--out", tmp_path / "unsaid") == 0
    unsaid = found(tmp_path / "unsaid")
    assert any("generated and real images have 16 bits and use 12" in warning for warning in unsaid["warnings"])
    assert "data_range" not in unsaid["sets"]["real"]
    assert unsaid["figures"]["psnr"]["value"] == pytest.approx(psnr + 20 * np.log10(65535 / 4095), rel=1e-5)
    write_image(tmp_path / "real" / "3.png", np.full((24, 20, 3), 5000, np.uint16))
    assert evaluate(*arguments, "--data-range", "0", "4095", "--out", tmp_path / "beyond") == 0
    assert any(
        "real images go up to 5000, and white is 4095" in line for line in found(tmp_path / "beyond")["warnings"]
    )


def test_weights_say_what_their_images_units_are(tmp_path: Path) -> None:
    twelve = ImageSide(channels=3, dtype="uint16", data_range=(0, 4095))
    weights = save_translator(tmp_path / "weights", side=twelve)
    random = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / "real" / f"{number}.png", random.integers(0, 4096, (24, 20, 3)).astype(np.uint16))
    arguments = ("--weights", weights, "--inputs", tmp_path / "real", "--real", tmp_path / "real", "--device", "cpu")
    assert evaluate(*arguments, "--lpips", "off", "--features", "none", "--out", tmp_path / "out") == 0
    psnr = [
        peak_signal_noise_ratio(
            read_image(file), read_image(tmp_path / "out" / "generated" / file.name), data_range=4095
        )
        for file in (tmp_path / "real").iterdir()
    ]
    evaluation = found(tmp_path / "out")
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert evaluation["sets"]["real"]["data_range"] == evaluation["sets"]["inputs"]["data_range"] == [0, 4095]
    assert not any("16 bits" in warning for warning in evaluation["warnings"])


UINT8 = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))


def save_translator(folder: Path, *, side: ImageSide = UINT8) -> Path:
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=1, scale=1)
    save_generator(folder, network=network, spec=GeneratorSpec(input=side, output=side), card="")
    return folder


def test_weights_translate_the_inputs(tmp_path: Path) -> None:
    weights = save_translator(tmp_path / "weights")
    random = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / "data" / "sub" / f"{number}.png", random.integers(0, 256, (16, 40, 3), np.uint8))
    halves = (
        "--inputs",
        tmp_path / "data",
        "--inputs-half",
        "right",
        "--real",
        tmp_path / "data",
        "--real-half",
        "left",
    )
    for _ in range(2):  # the second takes the first one's place
        assert evaluate("--weights", weights, *halves, "--out", tmp_path / "out", "--device", "cpu") == 0
    t = i2i.load(weights)
    psnr = []
    for number in range(3):
        file = tmp_path / "out" / "generated" / "sub" / f"{number}.png"
        both = read_image(tmp_path / "data" / "sub" / f"{number}.png")
        np.testing.assert_array_equal(read_image(file), t(np.ascontiguousarray(both[:, 20:])))
        psnr.append(peak_signal_noise_ratio(both[:, :20], read_image(file)))
        note = read_provenance(file)
        assert note is not None and note.kind == "translated"
    evaluation = found(tmp_path / "out")
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert evaluation["sets"]["generated"]["place"].startswith("made by weights (sha256 ")
    assert evaluation["sets"]["inputs"]["half"] == "right" and evaluation["sets"]["real"]["half"] == "left"
    for folder, more in (("other", ()), ("unmarked", ("--no-provenance",))):
        assert evaluate("--weights", weights, *halves, "--out", tmp_path / folder, "--device", "cpu", *more) == 0
    assert read_provenance(tmp_path / "unmarked" / "generated" / "sub" / "0.png") is None
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == (tmp_path / "other" / "evaluation.json").read_bytes()


def test_weights_draw_as_many_as_there_are_real_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    weights = save_sampler(tmp_path / "weights", classes=3, names=NAMES)
    _, real = folders
    (real / "0.png").rename(real / "000005_disc.png")  # called like a drawn one, by chance
    out = tmp_path / "out"
    assert evaluate("--weights", weights, "--real", real, "--out", out, "--seed", "5", "--device", "cpu") == 0
    names = sorted(file.name for file in (out / "generated").iterdir())
    assert names == [f"{seed:06d}_{('disc', 'a-b', 'ring')[(seed - 5) % 3]}.png" for seed in range(5, 11)]
    np.testing.assert_array_equal(read_image(out / "generated" / names[4]), i2i.load(weights)(seed=9, label=1))
    assert "psnr" not in found(out)["figures"]
    assert evaluate("--weights", weights, "--real", real, "--out", out, "--count", "2", "--device", "cpu") == 0
    assert sorted(file.name for file in (out / "generated").iterdir()) == ["000000_disc.png", "000001_a-b.png"]


def test_groups_labels_and_a_judge(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    (tmp_path / "groups.csv").write_text("image,age\n" + "\n".join(f"{n}.png,{n % 2}" for n in range(6)))
    save_segmenter(Segmenter(classes=2, width=4).eval(), tmp_path / "judge.safetensors")
    for number in range(6):
        write_image(tmp_path / "labels" / f"{number}.png", np.eye(24, 20, number, dtype=np.uint8)[..., None])
    assert (
        evaluate(
            *(made, "--real", real, "--out", tmp_path / "out", "--groups", tmp_path / "groups.csv"),
            *("--group-column", "age", "--labels", tmp_path / "labels", "--judge", tmp_path / "judge.safetensors"),
        )
        == 0
    )
    evaluation = found(tmp_path / "out")
    assert {"miou", "accuracy", "miou_real", "accuracy_real"} <= set(evaluation["figures"])
    assert {"psnr", "ssim", "swd"} <= set(evaluation["groups"]["by_group"]["0"]["figures"])
    assert evaluation["groups"]["by_group"]["1"]["images"] == 3


def test_training_images_among_the_generated_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def write(folder: str, number: int) -> np.ndarray:
        small = random.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        image = np.kron(small, np.ones((6, 6, 1), np.uint8))
        write_image(tmp_path / folder / f"{folder}{number}.png", image)
        return image

    trained_on = [write("training", number) for number in range(40)]
    for number in range(20):
        write("real", number)
        write("made", number)
    write_image(tmp_path / "made" / "made3.png", np.clip(trained_on[17].astype(int) + 3, 0, 255).astype(np.uint8))
    folders = (tmp_path / "made", "--real", tmp_path / "real", "--training", tmp_path / "training")
    assert evaluate(*folders, "--features", "pixels", "--out", tmp_path / "out") == 0
    evaluation = found(tmp_path / "out")
    assert evaluation["figures"]["copies"]["value"] == pytest.approx(1 / 20)
    assert "made3" in json.dumps(evaluation["details"]) and "training17" in json.dumps(evaluation["details"])
    assert evaluation["sets"]["training"]["images"] == 40
    # Training images that are the real ones, too, cannot say how near others come.
    same = (tmp_path / "made", "--real", tmp_path / "training", "--training", tmp_path / "training")
    assert evaluate(*same, "--out", tmp_path / "same") == 0
    assert "nearest_ratio" in found(tmp_path / "same")["missing"]


def test_what_drawn_classes_are_good_for(tmp_path: Path) -> None:
    """Of two classes, dark and light, generated ones teach the difference, and teach it the wrong way round."""
    random = np.random.default_rng(0)
    for folder, levels in (("right", (40, 200)), ("wrong", (200, 40)), ("training", (40, 200)), ("real", (40, 200))):
        for number in range(24):
            name, level = (("dark", levels[0]), ("light", levels[1]))[number % 2]
            image = random.integers(level - 30, level + 30, (16, 16, 3)).astype(np.uint8)
            write_image(tmp_path / folder / f"{number:06d}_{name}.png", image)
    for folder, expected in (("right", 1.0), ("wrong", 0.0)):
        arguments = (tmp_path / folder, "--real", tmp_path / "real", "--training", tmp_path / "training")
        more = ("--usefulness", "classes", "--usefulness-steps", "40", "--usefulness-size", "16", "--pairs", "off")
        assert evaluate(*arguments, *more, "--out", tmp_path / "out") == 0
        figures = found(tmp_path / "out")["figures"]
        assert figures["trained_accuracy"]["value"] == expected
        assert figures["real_accuracy"]["value"] == 1.0


@pytest.fixture
def squares(tmp_path: Path) -> list[str]:
    """Light squares on dark ground, and their label maps; among generated ones also dark squares on light ground.

    Returns the arguments that go with them, relative to the folder.
    """
    random = np.random.default_rng(0)
    for folder, count, (square, ground) in (
        *(("right", 24, (200, 60)), ("wrong", 24, (60, 200))),
        *(("training", 30, (200, 60)), ("real", 12, (200, 60))),
    ):
        for number in range(count):
            labels = np.zeros((16, 16, 1), np.uint8)
            top, left = random.integers(0, 9, 2)
            labels[top : top + 8, left : left + 8] = 1
            image = np.where(labels, square, ground) + random.integers(-30, 31, (16, 16, 3))
            write_image(tmp_path / folder / "images" / f"{folder}{number}.png", image.astype(np.uint8))
            write_image(tmp_path / folder / "labels" / f"{folder}{number}.png", labels)
    return [
        *("--real", "real/images", "--labels", "real/labels", "--training", "training/images"),
        *("--training-labels", "training/labels", "--usefulness", "labels", "--usefulness-steps", "60"),
        *("--usefulness-size", "16", "--lpips", "off", "--features", "none", "--device", "cpu"),
    ]


def test_what_labelled_images_are_good_for(squares: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated images teach where squares are, and the others the contrary."""
    monkeypatch.chdir(tmp_path)

    def of(name: str) -> Any:
        assert evaluate(f"{name}/images", *squares, "--generated-labels", f"{name}/labels", "--out", "out") == 0
        return found(tmp_path / "out")

    right, wrong = of("right"), of("wrong")
    assert right["figures"]["trained_miou"]["value"] > 0.8 > 0.3 > wrong["figures"]["trained_miou"]["value"]
    assert right["figures"]["real_miou"]["value"] > 0.8
    assert right["figures"]["real_miou"]["value"] == wrong["figures"]["real_miou"]["value"]
    assert "trained on 24 images of 16 px" in right["figures"]["trained_miou"]["meaning"]
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert "one trained on 24 generated images and one on as many real ones" in page
    assert "| class | IoU, trained on generated images | IoU, trained on real images |" in page
    assert not any("flatters" in warning for warning in right["warnings"])
    # Made from what is tested on.
    assert any("flatters: 12 of 12" in warning for warning in of("real")["warnings"])


@pytest.mark.slow
def test_two_processes_read_label_maps(squares: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("right/images", *squares, "--generated-labels", "right/labels")
    assert evaluate(*arguments, "--out", "one") == 0
    done = launch(*arguments, "--out", "two", cache=tmp_path / "other")
    assert done.returncode == 0, done.stderr
    one, two = found(tmp_path / "one"), found(tmp_path / "two")
    assert one["details"]["usefulness"] == two["details"]["usefulness"]


def test_a_single_image_has_what_a_single_image_can_have(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    assert evaluate(made / "2.png", "--real", real / "2.png", "--out", tmp_path / "out") == 0
    evaluation = found(tmp_path / "out")
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(
        peak_signal_noise_ratio(read_image(real / "2.png"), read_image(made / "2.png")), rel=1e-5
    )
    assert evaluation["figures"]["psnr"]["low"] is None
    assert "at least two images" in evaluation["missing"]["variety"]


def test_videos(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "made.mp4", frames=4, options={"crf": "45"})
    real = make_clip(tmp_path / "real.mp4", frames=4, options={"crf": "10"})
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--lpips", "off") == 0
    evaluation = found(tmp_path / "out")
    pairs = [[frame.image for frame in VideoFile(path).read(0)] for path in (made, real)]
    psnr = [peak_signal_noise_ratio(other, one) for one, other in zip(*pairs, strict=True)]
    assert evaluation["details"]["frames"]["psnr"] == pytest.approx(psnr, rel=1e-5)
    assert evaluation["figures"]["psnr"]["value"] == pytest.approx(np.mean(psnr), rel=1e-5)
    meter = FlickerMeter()
    for frame, reference in zip(*pairs, strict=True):
        meter.add(frame, reference=reference)
    assert evaluation["figures"]["flicker"]["value"] == pytest.approx(255 * meter.result().outside, rel=1e-9)
    for number, frame in enumerate(pairs[1]):
        write_image(tmp_path / "frames" / f"{number}.png", frame)
    assert evaluate(made, "--real", tmp_path / "frames", "--out", tmp_path / "no") == 2
    assert evaluate(made, "--real", tmp_path / "frames", "--out", tmp_path / "out2", "--frames", "--lpips", "off") == 0
    assert found(tmp_path / "out2")["figures"] == evaluation["figures"]


def test_several_videos(tmp_path: Path) -> None:
    """Each counts as much, however long it is; there is an interval, for other videos."""
    alone = {}
    for number, (name, frames) in enumerate({"a": 3, "deep/b": 5, "c": 2}.items()):
        for folder, crf in (("made", 40 + number), ("real", 10)):
            video = tmp_path / folder / f"{name}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            make_clip(video, frames=frames, options={"crf": str(crf)})
            for place, frame in enumerate(VideoFile(video).read(0)):
                write_image(tmp_path / f"{folder}-frames" / name / f"{place}.png", frame.image)
        paths = [tmp_path / folder / f"{name}.mp4" for folder in ("made", "real")]
        assert evaluate(paths[0], "--real", paths[1], "--out", tmp_path / "one", "--lpips", "off") == 0
        alone[name] = found(tmp_path / "one")["figures"]
    shutil.copy(tmp_path / "made" / "a.mp4", tmp_path / "made" / "lonely.mp4")
    places = (tmp_path / "made", "--real", tmp_path / "real")
    assert evaluate(*places, "--out", tmp_path / "out", "--lpips", "off") == 0
    evaluation = found(tmp_path / "out")
    for name in ("psnr", "flicker"):
        figure, values = evaluation["figures"][name], [figures[name]["value"] for figures in alone.values()]
        assert figure["value"] == pytest.approx(np.mean(values))
        ends = [min(values), figure["low"], figure["value"], figure["high"], max(values)]
        assert all(low < high + 1e-9 for low, high in pairwise(ends)) and figure["low"] < figure["high"]
    assert evaluation["figures"]["psnr"]["images"] == 10
    assert {name: about["figures"] for name, about in evaluation["details"]["videos"].items()} == alone
    assert "1 of 4 videos have no partner of their name, such as lonely: left out" in evaluation["warnings"]
    assert "intervals over few videos (3) come out too narrow" in evaluation["warnings"]
    assert "| deep/b | 5 |" in (tmp_path / "out" / "evaluation.md").read_text()
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 3
    frames = (tmp_path / "made-frames", "--real", tmp_path / "real-frames", "--frames")
    assert evaluate(*frames, "--out", tmp_path / "frames", "--lpips", "off") == 0
    assert found(tmp_path / "frames")["figures"] == evaluation["figures"]


def test_videos_that_do_not_fit_leave_older_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, real, out = (tmp_path / name for name in ("made", "real", "out"))
    for folder in (made, real):
        folder.mkdir()
        make_clip(folder / "a.mp4", frames=2)
    arguments = ("--out", out, "--lpips", "off")
    assert evaluate(made, "--real", real, *arguments) == 0
    before = (out / "evaluation.json").read_bytes()

    def refused(*given: str | Path) -> str:
        capsys.readouterr()
        assert evaluate(*given, *arguments) == 2
        assert (out / "evaluation.json").read_bytes() == before
        return capsys.readouterr().err

    make_clip(made / "b.mp4", frames=2)
    make_clip(real / "b.mp4", frames=3)
    assert "b.mp4 has 2 frames" in refused(made, "--real", real)
    assert "--crop-border 32 leaves nothing" in refused(made / "a.mp4", "--real", real / "a.mp4", "--crop-border", "32")
    assert "--replicates: expected at least 2" in refused(made, "--real", real, "--replicates", "1")
    assert "--replicates is for several" in refused(made / "a.mp4", "--real", real / "a.mp4", "--replicates", "9")
    assert "two folders of videos with equal names" in refused(made, "--real", real / "a.mp4")
    (tmp_path / "empty").mkdir()
    assert "empty holds no images" in refused(made, "--real", tmp_path / "empty")
    assert "empty holds no images that can be read, and no videos" in refused(
        made, "--real", tmp_path / "empty", "--frames"
    )
    write_image(tmp_path / "photos" / "1.png", np.zeros((20, 20, 3), np.uint8))
    assert "if these are frames, give --frames" in refused(made, "--real", tmp_path / "photos")
    write_image(tmp_path / "photos" / "more" / "1.png", np.zeros((20, 20, 3), np.uint8))
    assert "take the others out" in refused(made, "--real", tmp_path / "photos", "--frames")
    assert "is no video" in refused(tmp_path / "photos" / "1.png", "--real", real, "--frames")
    (made / "b.mkv").touch()
    assert "have one name; give each video a name of its own" in refused(made, "--real", real)


def test_videos_beside_images_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    make_clip(real / "clip.mp4", frames=2)
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--lpips", "off") == 0
    assert any("videos that are left out (1, such as clip.mp4)" in line for line in found(tmp_path / "out")["warnings"])


def test_what_is_no_evaluation_is_not_written_over(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    assert evaluate(made, "--real", real, "--out", made) == 2
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "mine" / "pictures" / "dear.png").touch()
    assert evaluate(made, "--real", real, "--out", tmp_path / "mine") == 2
    assert (tmp_path / "mine" / "pictures" / "dear.png").exists()
    assert len(list(made.iterdir())) == 6
    assert evaluate(made, "--real", real, "--out", tmp_path / "out") == 0
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--pairs", "off") == 0
    assert not (tmp_path / "out" / "pictures" / "all-pairs-by-ssim.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--real", "real"], "none does not exist"),
        (["made", "--real", "none"], "none does not exist"),
        (["made", "--real", "empty"], "empty holds no images"),
        (["--real", "real"], "expected either a folder of generated images"),
        (["made", "--weights", "w", "--real", "real"], "expected either a folder of generated images"),
        (["made", "--real", "real", "--inputs", "made"], "--inputs needs --weights; give that, too"),
        (["made", "--real", "real", "--group-column", "age"], "--group-column needs --groups"),
        (["made", "--real", "real", "--groups", "none.csv"], "none.csv cannot be read"),
        (["made", "--real", "real", "--labels", "made"], "--labels and --judge go together"),
        (
            ["made", "--real", "real", "--usefulness", "classes"],
            "--usefulness needs --training; give that, too, or leave it out",
        ),
        (["made", "--real", "real", "--real-half", "left", "--replicates", "1"], "--replicates: expected at least 2"),
        (["made", "--real", "real", "--threads", "0"], "--threads: expected at least 1"),
        (["made", "--real", "real", "--crop-border", "-1"], "--crop-border: expected at least 0"),
        (["made", "--real", "real", "--crop-border", "12"], "--crop-border 12 leaves nothing"),
        (["made", "--real", "real", "--neighbours", "0"], "--neighbours: expected at least 1, got 0"),
        (["made", "--real", "real", "--features", "none", "pixels"], "--features none stands alone"),
        (["made", "--real", "real", "--device", "abacus"], "--device abacus cannot be used"),
        (["clip.mp4", "--real", "real"], "clip.mp4 is a video or holds some, and real holds images"),
        (["--weights", "w", "--real", "clip.mp4"], "--weights make images, and clip.mp4 is a video"),
        (["clip.mp4", "--real", "clip.mp4", "--groups", "g.csv"], "--groups is for images, not for videos"),
        (["clip.mp4", "--real", "clip.mp4", "--labels", "made"], "--labels is for images, not for videos"),
        (["clip.mp4", "--real", "clip.mp4"], "clip.mp4"),
        (["--weights", "translator", "--real", "real"], "translator translates images; say which with --inputs"),
        (["--weights", "sampler", "--real", "real", "--inputs", "made"], "leave --inputs out"),
        (["--weights", "sampler", "--real", "real", "--count", "0"], "--count: expected at least 1"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    arguments: list[str],
    message: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    if "translator" in arguments:
        save_translator(tmp_path / "translator")
    if "sampler" in arguments:
        save_sampler(tmp_path / "sampler")
    assert evaluate(*arguments, "--out", "out") == 2
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told


def test_an_interruption_has_its_code(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    made, real = folders
    monkeypatch.setattr("i2i.evaluation.evaluator.pair_findings", interrupt)
    assert evaluate(made, "--real", real, "--out", tmp_path / "out") == 130
    assert not (tmp_path / "out" / "evaluation.json").exists()
    monkeypatch.undo()
    monkeypatch.setenv("I2I_CACHE", str(tmp_path / "cache"))
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--features", "pixels", "--lpips", "off") == 0


def test_without_networks(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--lpips", "off", "--features", "none") == 0
    evaluation = found(tmp_path / "out")
    assert set(evaluation["figures"]) == WEIGHTS_FREE and set(evaluation["missing"]) == {"lpips", "ms_ssim"}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (["--features", "inceptoin"], "inceptoin is no network"),
        (["--features", "pixels", "--feature-weights", "a", "b"], "at most one --feature-weights"),
        (["--labels", "real", "--judge", "none.pth"], "none.pth"),
        (["--pairs", "on", "--crop-border", "12"], "--crop-border 12 leaves nothing"),
        (["--training", "real", "--usefulness", "labels"], "--labels and --training-labels"),
        (["--training", "real", "--usefulness", "classes"], "real/0.png does not say its class"),
        (
            ["--training", "real", "--usefulness", "labels", "--labels", "real", "--training-labels", "other"],
            "no training image in real is called like a label map in other",
        ),
        (["--training", "wide"], "real/0.png has 3 channels, wide/0.tif 5"),
        (["--groups", "none.csv"], "none.csv cannot be read"),
        (["--count", "3"], "--count is for weights that draw"),
    ],
)
def test_mistakes_are_told_before_images_are_made_anew(
    mistake: list[str],
    message: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "other" / "else.png", np.zeros((24, 20, 1), np.uint8))
    write_image(tmp_path / "wide" / "0.tif", np.zeros((24, 20, 5), np.uint8))
    arguments = ("--weights", save_translator(tmp_path / "w"), "--inputs", "made", "--real", "real", "--device", "cpu")
    monkeypatch.setattr(command, "translate_inputs", _not_expected)
    (tmp_path / "out" / "generated").mkdir(parents=True)
    for name in (".i2i-evaluation", "evaluation.json", "generated/0.png"):
        (tmp_path / "out" / name).touch()
    assert evaluate(*arguments, "--out", "out", *mistake) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out" / "evaluation.json").exists() and (tmp_path / "out" / "generated" / "0.png").exists()


def _not_expected(*_: object, **__: object) -> None:
    raise AssertionError("images were made")


def test_what_is_read_is_neither_removed_nor_mixed_with_results(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, real = folders
    assert evaluate(made, "--real", real, "--out", real / "deep" / "out") == 2
    assert "lies in" in capsys.readouterr().err and not (real / "deep").exists()
    weights = save_translator(tmp_path / "weights")
    again = ("--out", tmp_path / "out", "--device", "cpu", "--lpips", "off", "--features", "none")
    assert evaluate("--weights", weights, "--inputs", made, "--real", real, *again) == 0
    own = tmp_path / "out" / "generated"
    assert evaluate("--weights", weights, "--inputs", own, "--real", real, *again) == 2
    assert "makes anew" in capsys.readouterr().err and len(list(own.iterdir())) == 6
    assert evaluate(own, "--real", real, *again) == 0  # which leaves them alone
    assert len(list(own.iterdir())) == 6


def spoil(file: Path) -> None:
    """Damage a PNG inside, where neither its header nor its end tells."""
    content = bytearray(file.read_bytes())
    place = content.index(b"IDAT") + 40
    content[place : place + 20] = bytes(20)
    file.write_bytes(content)


def test_damage_costs_as_little_as_can_be(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, real = folders
    weights = save_translator(tmp_path / "weights")
    options = ("--lpips", "off", "--features", "none", "--device", "cpu", "--out", tmp_path / "out")
    whole = (real / "3.png").read_bytes()
    # What headers tell comes before images are made.
    (real / "3.png").write_bytes(whole[:-20])
    with monkeypatch.context() as patched:
        patched.setattr(command, "translate_inputs", _not_expected)
        assert evaluate("--weights", weights, "--inputs", made, "--real", real, *options) == 2
    assert "3.png: the PNG is truncated; replace or remove the file" in capsys.readouterr().err
    # What does not leaves the images that were made.
    (real / "3.png").write_bytes(whole)
    spoil(real / "3.png")
    assert evaluate("--weights", weights, "--inputs", made, "--real", real, *options) == 2
    told = capsys.readouterr().err
    assert f"{real / '3.png'} is no readable image" in told and "\n" not in told.strip()
    assert f"give {tmp_path / 'out' / 'generated'} in place of --weights" in told
    (real / "3.png").write_bytes(whole)
    assert evaluate(tmp_path / "out" / "generated", "--real", real, *options) == 0
    # Real images are remembered where a generated one is damaged.
    shutil.rmtree(tmp_path / "cache")
    for number in range(20):  # more than are shown, and so read before
        shutil.copy(made / "5.png", made / f"more{number:02d}.png")
    spoil(made / "1.png")
    assert evaluate(made, "--real", real, *options) == 2
    assert "made/1.png is no readable image" in capsys.readouterr().err
    assert len(list((tmp_path / "cache" / "statistics").iterdir())) == 1


def test_a_failure_leaves_no_older_results(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    arguments = (made, "--real", real, "--out", tmp_path / "out", "--lpips", "off", "--features", "none")
    assert evaluate(*arguments) == 0
    spoil(made / "3.png")
    assert evaluate(*arguments) == 2
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".i2i-evaluation"]


def test_names_of_two_files_and_transparency_are_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    write_image(made / "2.jpg", read_image(made / "2.png"))
    for name, alpha in (("0", 255), ("1", 220)):
        colours = read_image(real / f"{name}.png")
        write_image(real / f"{name}.png", np.dstack([colours, np.full(colours.shape[:2], alpha, np.uint8)]))
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--lpips", "off", "--features", "none") == 0
    evaluation = found(tmp_path / "out")
    assert evaluation["figures"]["psnr"]["images"] == 5
    warnings = " ".join(evaluation["warnings"])
    assert "leave generated images out: 2 of 7" in warnings and "2 is the name of several files" in warnings
    assert "1 of 6 real images are transparent in parts" in warnings
    for file in made.iterdir():
        if not file.name.startswith("2"):
            file.unlink()
    assert evaluate(made, "--real", real, "--out", tmp_path / "out", "--lpips", "off", "--features", "none") == 0
    assert "2 is the name of several files" in found(tmp_path / "out")["missing"]["pairs"]


def launch(*arguments: str | Path, cache: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run the command in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.run(
        [*launcher, "-m", "i2i", "evaluate", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "I2I_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_three_processes_compare_the_frames_of_a_video(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "made.mp4", frames=7, options={"crf": "45"})
    real = make_clip(tmp_path / "real.mp4", frames=7, options={"crf": "10"})
    arguments = (made, "--real", real, "--lpips", "off", "--device", "cpu")
    assert evaluate(*arguments, "--out", tmp_path / "one") == 0
    done = launch(*arguments, "--out", tmp_path / "three", cache=tmp_path / "cache", processes=3)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one" / "evaluation.json").read_bytes() == (tmp_path / "three" / "evaluation.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["a file that one process meets", "a folder that none finds"])
def test_of_several_processes_one_says_what_is_wrong(folders: tuple[Path, Path], tmp_path: Path, mistake: str) -> None:
    made, real = folders
    for number in range(30):
        shutil.copy(made / "5.png", made / f"more{number:02d}.png")
    if mistake == "a file that one process meets":
        spoil(made / "more15.png")  # among the second 16
        told = f"{made / 'more15.png'} is no readable image"
    else:
        real = tmp_path / "nowhere"
        told = f"{real} does not exist"
    options = ("--lpips", "off", "--features", "none", "--device", "cpu")
    done = launch(made, "--real", real, *options, "--out", tmp_path / "out", cache=tmp_path / "cache")
    assert done.returncode != 0
    assert done.stderr.count(told) == 1
    assert "[rank" not in done.stderr  # a traceback of a process that waited for the other
    assert not (tmp_path / "out" / "evaluation.json").exists()


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made, real = folders
    random = np.random.default_rng(1)
    for number in range(6, 40):  # more than one of two processes reads at once
        for folder in folders:
            write_image(folder / f"{number}.png", random.integers(0, 256, (24, 20, 3), np.uint8))
    (tmp_path / "groups.csv").write_text("\n".join(f"{n},{n % 2}" for n in range(40)))
    weights = save_translator(tmp_path / "weights")
    arguments = [
        *("--weights", weights, "--inputs", made, "--real", real, "--features", "pixels", "--lpips", "off"),
        *("--groups", tmp_path / "groups.csv", "--device", "cpu", "--replicates", "50"),
    ]
    assert evaluate(*arguments, "--out", tmp_path / "one") == 0
    done = launch(*arguments, "--out", tmp_path / "two", cache=tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Look at ") == 1
    one, two = found(tmp_path / "one"), found(tmp_path / "two")
    for name, figure in one.pop("figures").items():
        other = two["figures"].pop(name)
        for key in ("value", "low", "high"):
            assert other[key] == pytest.approx(figure[key], rel=1e-4), name
    assert one["sets"] == two["sets"] and one["missing"] == two["missing"]
    assert one["groups"]["gaps"]["psnr"] == pytest.approx(two["groups"]["gaps"]["psnr"])


@pytest.mark.data
def test_bicubic_enlarging_has_its_published_figures(data_dir: Path, tmp_path: Path) -> None:
    """28.42 dB and 0.8104 on Set5 ×4, brightness within a border of 4 px."""
    folder = data_dir / "sr" / "Set5"
    for file in sorted((folder / "HR").iterdir()):
        low = torch.from_numpy(read_image(folder / "LRx4" / file.name)).movedim(-1, 0)[None].double() / 255
        enlarged = (bicubic(low, scale=4) * 255).round().clamp(0, 255)[0].movedim(0, -1)
        write_image(tmp_path / "made" / file.name, enlarged.numpy().astype(np.uint8))
    options = ("--y-channel", "--crop-border", "4", "--lpips", "off", "--features", "pixels")
    assert evaluate(tmp_path / "made", "--real", folder / "HR", "--out", tmp_path / "out", *options) == 0
    figures = found(tmp_path / "out")["figures"]
    assert figures["psnr"]["value"] == pytest.approx(28.42, abs=0.03)
    assert figures["ssim"]["value"] == pytest.approx(0.8104, abs=0.001)
