"""Classes read off images in files, against loops over the pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from i2i.data.image_io import write_image
from i2i.errors import InputError
from i2i.evaluation import Describing, Findings, ImageSet
from i2i.evaluation.labels import LabelJudge, LabelSettings, label_findings
from i2i.metrics.segmenter import Segmenter, save_segmenter

CLASSES = 4


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A network whose answers nobody knows beforehand; it is asked by itself in the tests."""
    network = Segmenter(classes=CLASSES, width=4).eval()
    save_segmenter(network, tmp_path / "judge.safetensors")
    return tmp_path / "judge.safetensors"


def write(tmp_path: Path, *, count: int = 5, first_id: int = 0) -> tuple[ImageSet, ImageSet, Path]:
    """Generated and real images, and label maps with pixels of no class (255)."""
    random = np.random.default_rng(0)
    for number in range(count):
        for folder in ("made", "real"):
            write_image(tmp_path / folder / f"{number}.png", random.integers(0, 256, (16, 24, 3), np.uint8))
        labels = random.integers(0, CLASSES + 1, (16, 24, 1), np.uint8)
        write_image(
            tmp_path / "labels" / f"{number}.png", np.where(labels == CLASSES, 255, labels + first_id).astype(np.uint8)
        )
    return ImageSet.find(tmp_path / "made"), ImageSet.find(tmp_path / "real"), tmp_path / "labels"


def found(tmp_path: Path, judge: Path, *, first_id: int = 0, ids: tuple[int, ...] = ()) -> Findings:
    made, real, labels = write(tmp_path, first_id=first_id)
    settings = LabelSettings(labels=labels, judge=judge, first_id=first_id, judge_ids=ids)
    return label_findings(made, real, judge=LabelJudge(settings), describing=Describing())


def read(judge: Path, images: ImageSet) -> list[np.ndarray]:
    from i2i.metrics import load_judge

    network = load_judge(judge)
    return [network(images.read(index)[None]).argmax(1)[0].numpy() for index in range(len(images))]


@pytest.mark.parametrize("first_id", [0, 1])
def test_figures_are_those_of_all_pixels_together(tmp_path: Path, judge: Path, first_id: int) -> None:
    findings = found(tmp_path, judge, first_id=first_id)
    for folder, ending in (("made", ""), ("real", "_real")):
        predicted = np.stack(read(judge, ImageSet.find(tmp_path / folder)))
        from i2i.data.image_io import read_image

        true = np.stack([read_image(tmp_path / "labels" / f"{n}.png")[..., 0].astype(int) - first_id for n in range(5)])
        counted = (true >= 0) & (true < CLASSES)
        ious = []
        for number in range(CLASSES):
            both = (predicted == number) & (true == number)
            either = ((predicted == number) & counted) | (true == number)
            if either.any():
                ious.append(both.sum() / either.sum())
        assert findings.figures[f"miou{ending}"].value == pytest.approx(np.mean(ious), rel=1e-9)
        accuracy = (predicted == true)[counted].mean()
        figure = findings.figures[f"accuracy{ending}"]
        assert figure.value == pytest.approx(accuracy, rel=1e-9)
        assert figure.low is not None and figure.high is not None
        by_image = [(p == t)[c].mean() for p, t, c in zip(predicted, true, counted, strict=True)]
        assert min(by_image) - 1e-9 <= figure.low <= figure.value <= figure.high <= max(by_image) + 1e-9
        assert figure.images == 5
    assert list(findings.details["classes"]["generated"]["class_iou"]) == [str(n + first_id) for n in range(CLASSES)]


def test_classes_of_the_judges_may_be_others(tmp_path: Path, judge: Path) -> None:
    """Classes 0 and 1 are the judge's 3, class 2 its 1; class 3 is not known to it, and not counted."""
    from i2i.data.image_io import read_image

    findings = found(tmp_path, judge, ids=(3, 3, 1, -1))
    predicted = np.stack(read(judge, ImageSet.find(tmp_path / "made")))
    stored = np.stack([read_image(tmp_path / "labels" / f"{n}.png")[..., 0] for n in range(5)])
    true = np.select([stored <= 1, stored == 2], [3, 1], -1)
    assert findings.figures["accuracy"].value == pytest.approx((predicted == true)[true >= 0].mean(), rel=1e-9)
    assert set(findings.details["classes"]["generated"]["class_iou"]) == {"0", "2"}


def test_what_cannot_be_judged_is_said(tmp_path: Path, judge: Path) -> None:
    made, real, labels = write(tmp_path)

    def findings(made: ImageSet, real: ImageSet, **settings: object) -> Findings:
        chosen = {"labels": labels, "judge": judge} | settings
        return label_findings(made, real, judge=LabelJudge(LabelSettings(**chosen)), describing=Describing())  # type: ignore[arg-type]

    others = ImageSet.find(tmp_path / "real", half=None)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for file in others.files:
        (renamed / f"x{file.name}").write_bytes(file.read_bytes())
    without = findings(made, ImageSet.find(renamed))
    assert set(without.figures) == {"miou", "accuracy"}
    assert "no real image has a label map" in without.warnings[0]
    with pytest.raises(InputError, match=r"no generated image has a label map: 5 of 5 .*not such as x0 and 0"):
        findings(ImageSet.find(renamed), real)
    with pytest.raises(InputError, match="--labels and --judge go together"):
        findings(made, real, judge=None)
    with pytest.raises(InputError, match=r"0.png: .*class ids that are not known.*--judge-ids"):
        write_image(labels / "0.png", np.full((16, 24, 1), 9, np.uint8))
        findings(made, real)


def test_threads_change_nothing(tmp_path: Path, judge: Path) -> None:
    made, real, labels = write(tmp_path, count=40)
    settings = LabelSettings(labels=labels, judge=judge)
    one, four = (
        label_findings(made, real, judge=LabelJudge(settings), describing=Describing(threads=threads))
        for threads in (1, 4)
    )
    assert one == four
    assert torch.isfinite(torch.tensor(one.figures["miou"].value))
