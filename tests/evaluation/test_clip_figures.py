"""Figures of videos against the same figures of their frames, and flicker of known size."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation.clips import clip_findings, findings_of_clips
from i2i.evaluation.pairs import PairMeter, PairSettings
from i2i.metrics import FlickerMeter

METER = PairMeter(PairSettings(lpips="off"))
FRAMES = 6


def write(path: Path, images: list[np.ndarray]) -> Path:
    """Without loss, as RGB."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")))
        out.mux(stream.encode())
    return path


@pytest.fixture
def clips() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A picture that moves by a pixel a frame; the same with noise of 8 levels."""
    random = np.random.default_rng(0)
    picture = np.kron(random.integers(40, 216, (12, 16, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    real = [np.ascontiguousarray(picture[:64, shift : shift + 80]) for shift in range(FRAMES)]
    made = [np.clip(np.rint(frame + random.normal(0, 8, frame.shape)), 0, 255).astype(np.uint8) for frame in real]
    return made, real


def test_they_are_the_means_over_frames(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    made, real = clips
    seen: list[tuple[int, int]] = []
    found = clip_findings(
        write(tmp_path / "made.mkv", made),
        write(tmp_path / "real.mkv", real),
        meter=METER,
        progress=lambda done, total: seen.append((done, total)),
    )
    psnr = [peak_signal_noise_ratio(b, a) for a, b in zip(made, real, strict=True)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [structural_similarity(a, b, channel_axis=2, **settings) for a, b in zip(made, real, strict=True)]
    assert found.figures["psnr"].value == pytest.approx(np.mean(psnr), rel=1e-5)
    assert found.figures["ssim"].value == pytest.approx(np.mean(ssim), rel=1e-4)
    assert found.details["frames"]["psnr"] == pytest.approx(psnr, rel=1e-5)
    assert found.figures["psnr"].low is None and found.figures["psnr"].images == FRAMES
    assert "176 px" in found.missing["ms_ssim"]
    assert seen[-1] == (FRAMES, FRAMES)
    assert found.pictures["Frames"]["generated"].shape == (FRAMES, 3, 64, 80)


def test_flicker_is_measured_along_the_real_motion(
    clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    """Independent noise of 8 levels in each frame differs by 8 √2 between two."""
    made, real = clips
    found = clip_findings(write(tmp_path / "made.mkv", made), write(tmp_path / "real.mkv", real), meter=METER)
    meter = FlickerMeter()
    for frame, reference in zip(made, real, strict=True):
        meter.add(frame, reference=reference)
    assert found.figures["flicker"].value == pytest.approx(255 * meter.result().outside, rel=1e-9)
    assert found.figures["flicker"].value == pytest.approx(8 * 2**0.5, rel=0.15)
    assert found.figures["flicker_real"].value < 4
    assert found.figures["flicker"].images == FRAMES - 1


def test_folders_of_frames_are_videos_too(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    made, real = clips
    for number, frame in enumerate(made, start=7):
        write_image(tmp_path / "made" / f"frame{number}.png", frame)
    video = clip_findings(write(tmp_path / "made.mkv", made), write(tmp_path / "real.mkv", real), meter=METER)
    folder = clip_findings(tmp_path / "made", tmp_path / "real.mkv", meter=METER)
    assert folder.figures == video.figures


def test_threads_do_not_count(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    made, real = clips
    paths = write(tmp_path / "made.mkv", made), write(tmp_path / "real.mkv", real)
    one, many = (clip_findings(*paths, meter=METER, threads=threads) for threads in (1, 5))
    assert one.figures == many.figures
    assert one.details["frames"]["psnr"] == many.details["frames"]["psnr"]


def test_frames_of_12_bits(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    """16 times the levels of 8 bits, in files of 16: figures are those of 8 bits, but for white being 4095."""
    for folder, images in zip(("made", "real"), clips, strict=True):
        for number, image in enumerate(images):
            write_image(tmp_path / folder / f"{number}.png", image.astype(np.uint16) * 16)
            write_image(tmp_path / f"{folder}8" / f"{number}.png", image)
    found = clip_findings(tmp_path / "made", tmp_path / "real", meter=METER, data_range=(0, 4095))
    made, real = ([image.astype(int) * 16 for image in images] for images in clips)
    psnr = [peak_signal_noise_ratio(b, a, data_range=4095) for a, b in zip(made, real, strict=True)]
    assert found.figures["psnr"].value == pytest.approx(np.mean(psnr), rel=1e-4)
    eight = clip_findings(tmp_path / "made8", tmp_path / "real8", meter=METER)
    assert found.figures["flicker"].value == pytest.approx(eight.figures["flicker"].value, rel=0.02)
    assert not found.warnings
    unsaid = clip_findings(tmp_path / "made", tmp_path / "real", meter=METER)
    assert any("generated and real frames have 16 bits and use 12" in warning for warning in unsaid.warnings)


def test_equal_and_single_frames(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    _, real = clips
    path = write(tmp_path / "real.mkv", real)
    found = clip_findings(path, path, meter=METER)
    assert found.figures["psnr"].value == float("inf")
    assert f"{FRAMES} of {FRAMES} frames are equal" in found.warnings[0]
    still = write(tmp_path / "still.mkv", real[:1])
    found = clip_findings(still, still, meter=METER)
    assert "two neighbouring frames" in found.missing["flicker"]


def test_videos_that_do_not_match_are_refused(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    _, real = clips
    path = write(tmp_path / "real.mkv", real)
    with pytest.raises(InputError, match=r"short.mkv has 4 frames, .*real.mkv 6; expected videos that show the same"):
        clip_findings(write(tmp_path / "short.mkv", real[:4]), path, meter=METER)
    with pytest.raises(InputError, match=r"small.mkv has 80 x 32 px, .*real.mkv 80 x 64; expected videos of one size"):
        clip_findings(write(tmp_path / "small.mkv", [frame[:32] for frame in real]), path, meter=METER)
    with pytest.raises(InputError, match="no such file"):
        clip_findings(tmp_path / "none.mkv", path, meter=METER)


def test_a_video_that_is_perfect_does_not_count_in_psnr(
    clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    made, real = clips
    paths = {
        name: (write(tmp_path / f"{name}-made.mkv", frames), write(tmp_path / f"{name}.mkv", real))
        for name, frames in {"perfect": real, "noisy": made, "darker": [frame // 2 for frame in real]}.items()
    }
    alone = {name: clip_findings(*pair, meter=METER) for name, pair in paths.items()}
    found = findings_of_clips(paths, measure=lambda name, *_: alone[name])
    assert found.figures["psnr"].value == pytest.approx(
        np.mean([alone[name].figures["psnr"].value for name in ("noisy", "darker")])
    )
    assert found.figures["psnr"].images == 2 * FRAMES and found.figures["l1"].images == 3 * FRAMES
    assert "psnr, infinite for perfect, is the mean over the others" in found.warnings


def test_few_pictures_of_many_videos_are_kept(clips: tuple[list[np.ndarray], list[np.ndarray]], tmp_path: Path) -> None:
    made, real = clips
    alone = clip_findings(write(tmp_path / "made.mkv", made), write(tmp_path / "real.mkv", real), meter=METER)
    found = findings_of_clips(
        {str(number): (tmp_path, tmp_path) for number in range(12)}, measure=lambda *_: alone, replicates=2
    )
    assert len(found.pictures) == 6 and len(found.details["videos"]) == 12
