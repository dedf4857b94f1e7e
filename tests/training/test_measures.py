"""Metrics that are asked for are those of the images that the generator in the folder makes, whoever computes them."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
from prdc import compute_prdc
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.utils.data import Dataset
from toy_jobs import Pictures, TwoProcesses, train_pictures
from toy_methods import train_toy

from i2i.checkpoints import GeneratorSpec, ImageSide, load_generator
from i2i.data.unpaired import HeldOutPairs
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.evaluation.pairs import NAMES, PairMeter, PairSettings, mean_figure
from i2i.generators import ResNetGenerator
from i2i.methods.base import COMPARED, Comparison
from i2i.methods.cyclegan import CycleGAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.metrics import patch_descriptors, sliced_wasserstein
from i2i.metrics.classifier import Classifier, save_classifier
from i2i.metrics.features import small_images
from i2i.training.config import TrainingSettings
from i2i.training.loop import RunResult, check_start, train
from i2i.training.measures import BaselineImages, Measures
from i2i.training.report import RunFacts, write_report

IMAGE = ImageSide(channels=3, dtype="float32", data_range=(-1, 1))
FACTS = RunFacts(title="toy", about="Toys.", settings={}, fingerprint="toys")


class Coloured(Dataset[dict[str, Tensor]]):
    """Pictures of 24 px, and the same with their colours changed."""

    def __init__(self, length: int = 12) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Any) -> dict[str, Tensor]:
        index = getattr(draw, "index", draw)
        random = torch.Generator().manual_seed(index)
        picture = torch.rand(3, 24, 24, generator=random) * torch.rand(3, 1, 1, generator=random) * 2 - 1
        return {"input": picture, "target": 0.8 * picture.flip(0)}


def settings_for(**changes: Any) -> TrainingSettings:
    plain: dict[str, Any] = {
        "steps": 4,
        "schedule": "constant",
        "generator_learning_rate": 2e-2,
        "validate_every_steps": 2,
        "features": "pixels",
        "workers": 0,
        "device": "cpu",
    }
    return TrainingSettings(**(plain | changes))


def train_colours(
    out: Path, *, facts: RunFacts = FACTS, baseline_images: BaselineImages | None = None, **changes: Any
) -> RunResult:
    torch.manual_seed(0)
    return train(
        method=Pix2Pix(
            generator=ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1, norm="instance"),
            discriminator=PatchDiscriminator(in_channels=6, width=2, layers=1, norm="instance"),
        ),
        training_data=Coloured(),
        validation_data=Coloured(),
        specs={"generator": GeneratorSpec(input=IMAGE, output=IMAGE)},
        settings=settings_for(**changes),
        out=out,
        facts=facts,
        baseline_images=baseline_images,
    )


def images_of(generator: Path) -> tuple[Tensor, Tensor]:
    """What a generator in a folder makes of the held-out pictures, and the truth."""
    items = [Coloured()[index] for index in range(len(Coloured()))]
    network = load_generator(generator)[0].eval()
    with torch.no_grad():
        outputs = torch.cat([network(item["input"][None]) for item in items])
    return outputs.clamp(-1, 1), torch.stack([item["target"] for item in items])


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """By the formula as it is written, with a root of the covariances' product."""
    root = scipy.linalg.sqrtm(np.cov(first.T) @ np.cov(second.T)).real
    shift = first.mean(0) - second.mean(0)
    return float(shift @ shift + np.trace(np.cov(first.T) + np.cov(second.T) - 2 * root))


def kernel(first: np.ndarray, second: np.ndarray) -> float:
    def mean(x: np.ndarray, y: np.ndarray, *, same: bool) -> float:
        values = (x @ y.T / x.shape[1] + 1) ** 3
        return float(values[~np.eye(len(x), dtype=bool)].mean() if same else values.mean())

    return mean(first, first, same=True) + mean(second, second, same=True) - 2 * mean(first, second, same=False)


def pixels(images: Tensor) -> np.ndarray:
    return torch.nn.functional.adaptive_avg_pool2d(images.double(), 16).flatten(1).numpy()


def logged(out: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"] for line in lines if "metrics" in line}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured") / "run"
    train_colours(
        out,
        metrics=("fid", "kid", "precision", "recall", "density", "coverage", "variety"),
        best_metric="fid",
    )
    return out


def test_figures_are_those_of_the_exported_generator(run: Path) -> None:
    outputs, truths = images_of(run / "generator")
    fake, real = pixels(outputs), pixels(truths)
    (*_, metrics) = logged(run).values()
    assert metrics["frechet_pixels"] == pytest.approx(frechet(fake, real), rel=1e-3)
    assert metrics["kernel_pixels"] == pytest.approx(kernel(fake, real), rel=1e-4, abs=1e-6)
    for name, value in compute_prdc(real, fake, nearest_k=5).items():
        assert metrics[f"{name}_pixels"] == pytest.approx(value)
    distances = [np.linalg.norm(images[:, None] - images, axis=2) for images in (fake, real)]
    assert 0.5 < metrics["variety"] / (distances[0].mean() / distances[1].mean()) < 2


def test_pairs_are_measured_as_scikit_image_does() -> None:
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 3, 20, 30, generator=random) * 2 - 1
    output = truth + 0.2 * torch.randn(5, 3, 20, 30, generator=random)  # some of it beyond white
    measures = Measures(settings_for(metrics=("sharpness", "l1", "psnr", "ssim")), device=torch.device("cpu"))
    for indices in ([3, 1], [4, 0, 2]):
        compared = Comparison(generated=output[indices], real=truth[indices], truth=truth[indices])
        measures.add({"l1": 7.0, COMPARED: compared}, indices, count=5)
    figures = measures.figures(lambda value: [value])
    shares = [((image.clamp(-1, 1) + 1) / 2).double().numpy() for image in (output, truth)]
    pairs = list(zip(*shares, strict=True))
    windows = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    expected = {
        "sharpness": np.mean([sharpness(one) / sharpness(other) for one, other in pairs]),
        "l1": np.abs(shares[0] - shares[1]).mean(),
        "psnr": np.mean([peak_signal_noise_ratio(other, one, data_range=1) for one, other in pairs]),
        "ssim": np.mean([structural_similarity(other, one, data_range=1, **windows) for one, other in pairs]),
    }
    assert list(figures) == list(expected) and figures == pytest.approx(expected, rel=1e-4)


def sharpness(image: np.ndarray) -> float:
    return float(np.square(scipy.ndimage.laplace(image.mean(0))[1:-1, 1:-1]).mean())


def test_the_best_is_chosen_by_a_metric_that_was_asked_for(run: Path) -> None:
    """By its option's name, though pixels are not what FID is taken of."""
    figures = {step: metrics["frechet_pixels"] for step, metrics in logged(run).items() if step > 0}
    best = min(figures, key=lambda step: figures[step])
    assert f"for {best} steps" in (run / "best" / "generator" / "README.md").read_text()
    outputs, truths = images_of(run / "best" / "generator")
    assert figures[best] == pytest.approx(frechet(pixels(outputs), pixels(truths)), rel=1e-3)
    assert f"Best by frechet_pixels are the networks of step {best}, in best/." in (run / "report.html").read_text()


def test_a_classifier_gives_features_and_a_score(tmp_path: Path) -> None:
    torch.manual_seed(3)
    classifier = Classifier(classes=4, width=4).eval()
    classifier.head.weight.data.mul_(600)  # sure of something
    judge = tmp_path / "My judge.safetensors"
    save_classifier(classifier, judge)
    train_colours(tmp_path / "run", metrics=("inception_score", "fid"), features=str(judge), steps=1)
    outputs, truths = images_of(tmp_path / "run" / "generator")
    with torch.no_grad():
        fake, real = (classifier.features(images).double().numpy() for images in (outputs, truths))
        shares = classifier(outputs).double().softmax(1)
    score = (shares * (shares / shares.mean(0)).log()).sum(1).mean().exp().item()
    metrics = logged(tmp_path / "run")[1]
    assert metrics["inception_score_my_judge"] - 1 == pytest.approx(score - 1, rel=1e-3) and score > 1.001
    assert metrics["frechet_my_judge"] == pytest.approx(frechet(fake, real), rel=1e-2)


def test_measured_on_a_schedule_and_at_the_end(tmp_path: Path) -> None:
    """And the best is chosen among the steps at which it was measured."""
    out = tmp_path / "run"
    train_colours(out, metrics=("fid",), best_metric="fid", steps=7, measure_every_steps=4)
    figures = logged(out)
    assert [step for step, metrics in figures.items() if "frechet_pixels" in metrics] == [0, 4, 7]
    assert [step for step, metrics in figures.items() if "l1" in metrics] == [0, 2, 4, 6, 7]
    card = (out / "best" / "generator" / "README.md").read_text()
    assert any(f"for {step} steps" in card for step in (4, 7)) and "frechet_pixels" in card


def test_what_it_cost_is_shown_and_not_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for out in (first, second):
        train_colours(out, metrics=("kid", "swd"), measure_every_steps=4)
    printed = capsys.readouterr().out
    costly = [line for line in printed.splitlines() if "measured in" in line]
    assert [line.partition(":")[0] for line in costly] == ["step 0", "step 4"] * 2
    assert all("kernel_pixels" in line and "of the time so far" in line for line in costly)
    assert "are over 12 held-out images" in printed
    assert (first / "log.jsonl").read_bytes() == (second / "log.jsonl").read_bytes()
    notes = [json.loads(line) for line in (first / "clock.jsonl").read_text().splitlines()]
    assert 0 < notes[0]["measuring_s"] < notes[-1]["measuring_s"] < notes[-1]["seconds"]
    report = (first / "report.html").read_text()
    assert "Measuring kid, swd took" in report and "are over 12 held-out images" in report


def test_asking_changes_nothing_else(tmp_path: Path) -> None:
    train_colours(tmp_path / "plain")
    train_colours(tmp_path / "measured", metrics=("fid", "swd", "variety"))
    weights = Path("generator") / "generator.safetensors"
    assert (tmp_path / "plain" / weights).read_bytes() == (tmp_path / "measured" / weights).read_bytes()
    for step, metrics in logged(tmp_path / "plain").items():
        assert logged(tmp_path / "measured")[step].items() > metrics.items()


def test_real_images_are_described_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[int] = []
    original = Measures._of_set
    monkeypatch.setattr(
        Measures,
        "_of_set",
        lambda self, images, count: (described.append(len(images)), original(self, images, count))[1],
    )
    train_colours(tmp_path / "run", metrics=("fid",))
    assert sum(described) == 12 + 3 * 12  # real ones, and those of steps 0, 2 and 4


def test_both_directions_are_measured_and_pairs_where_there_is_a_truth(tmp_path: Path) -> None:
    def run(out: Path, held_out: Dataset, **changes: Any) -> dict[str, float]:
        torch.manual_seed(0)
        a_to_b, b_to_a = (ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1) for _ in range(2))
        a, b = (PatchDiscriminator(in_channels=3, width=2, layers=1) for _ in range(2))
        sides = {name: GeneratorSpec(input=IMAGE, output=IMAGE) for name in ("a_to_b", "b_to_a")}
        return train(
            method=CycleGAN(a_to_b=a_to_b, b_to_a=b_to_a, discriminator_a=a, discriminator_b=b),
            training_data=Sides(),
            validation_data=held_out,
            specs=sides,
            settings=settings_for(**({"steps": 1} | changes)),
            out=out,
            facts=FACTS,
        ).metrics

    found = run(tmp_path / "pairs", HeldOutPairs(pairs=Coloured()), metrics=("kid", "l1"))
    assert {"kernel_pixels", "kernel_pixels_b_to_a", "l1", "l1_b_to_a"} <= found.keys()
    # The best may be chosen by either, and that is known as a run goes on, too.
    chosen = {"metrics": ("kid",), "best_metric": "kernel_pixels_b_to_a"}
    for steps in (1, 2):
        run(tmp_path / "chosen", HeldOutPairs(pairs=Coloured()), steps=steps, **chosen)
    figures = {step: found["kernel_pixels_b_to_a"] for step, found in logged(tmp_path / "chosen").items() if step}
    best = min(figures, key=lambda step: figures[step])
    assert f"for {best} steps" in (tmp_path / "chosen" / "best" / "b_to_a" / "README.md").read_text()
    with pytest.raises(InputError, match="--metrics l1 compares with the truth"):
        run(tmp_path / "none", Sides(), metrics=("l1",))


class Sides(Dataset[dict[str, Tensor]]):
    """Pictures of two sides that have nothing to do with each other."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, draw: Any) -> dict[str, Tensor]:
        index = getattr(draw, "index", draw)
        return {"a": Coloured()[index]["input"], "b": Coloured(24)[23 - index]["target"]}


def test_two_processes_measure_what_one_does(two_processes: TwoProcesses, tmp_path: Path) -> None:
    """Before the first step, when they have the same weights."""
    train_pictures(tmp_path / "alone", Pictures(), steps=1)
    alone, together = logged(tmp_path / "alone")[0], logged(two_processes.folder / "whole")[0]
    assert {"frechet_pixels", "kernel_pixels", "coverage_pixels", "swd", "psnr"} <= together.keys()
    assert together == pytest.approx(alone, rel=1e-4)
    first, second = (found["metrics"] for found in two_processes.found)
    assert first == second


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"metrics": ("fid",), "features": "inception", "feature_weights": Path("none.pth")},
            "none.pth",
        ),
        ({"metrics": ("kid",), "features": "vit_tiny_patch16_224", "feature_weights": Path("none.pth")}, "none.pth"),
        ({"metrics": ("kid",), "features": "none.safetensors"}, "none.safetensors does not exist"),
        ({"metrics": ("kid",), "features": "inceptoin"}, "inceptoin is no network that describes images"),
        (
            {"metrics": ("lpips",), "lpips_weights": (Path("none.pth"), Path("none.pth"))},
            "lpips cannot be had.*none.pth",
        ),
        ({"metrics": ("inception_score",)}, "needs a network that tells classes apart"),
    ],
)
def test_what_cannot_be_had_is_said_before_training(tmp_path: Path, changes: dict, complaint: str) -> None:
    starts: list[Callable[[], object]] = [
        lambda: train_colours(tmp_path / "run", **changes),
        lambda: check_start(settings=settings_for(**changes), out=tmp_path / "run", facts=FACTS),
    ]
    for start in starts:
        with pytest.raises(InputError, match=complaint):
            start()
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("best", "metric"), [("recall_pixels", "recall"), ("kernel_pixels", "kid"), ("density_pixels_b_to_a", "density")]
)
def test_a_best_that_is_not_asked_for_leaves_no_folder(tmp_path: Path, best: str, metric: str) -> None:
    with pytest.raises(InputError, match=f"--best-metric {best} is not measured: give --metrics {metric}, too"):
        train_colours(tmp_path / "run", metrics=("fid",), best_metric=best)
    assert not (tmp_path / "run").exists()
    for known in ("frechet_pixels", "fid", "psnr"):
        Measures(settings_for(metrics=("fid",), best_metric=known), device=torch.device("cpu"))


def test_a_method_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hands out no held-out images"):
        train_toy("plain", tmp_path / "run", metrics=("fid",), features="pixels")


def test_dropping_what_the_best_is_chosen_by_is_refused(tmp_path: Path, run: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(InputError, match=r"best_metric is 'fid'.*Give --metrics fid, too"):
        train_colours(copy, metrics=("kid",), best_metric="fid", steps=6)


def test_metrics_may_change_as_a_run_goes_on(tmp_path: Path, run: Path) -> None:
    """What is best by the features of another network begins anew."""
    copy = shutil.copytree(run, tmp_path / "run")
    torch.manual_seed(3)
    save_classifier(Classifier(classes=4, width=4), tmp_path / "judge.safetensors")
    train_colours(copy, metrics=("fid",), features=str(tmp_path / "judge.safetensors"), best_metric="fid", steps=6)
    figures = logged(copy)
    assert "frechet_pixels" in figures[4] and "frechet_judge" in figures[6]
    assert "for 6 steps" in (copy / "best" / "generator" / "README.md").read_text()
    assert "Best by frechet_judge are the networks of step 6" in (copy / "report.html").read_text()


def test_the_report_names_what_the_best_was_chosen_by(tmp_path: Path, run: Path) -> None:
    """Which is no longer what the settings say, if nothing better was measured since they changed."""
    copy = shutil.copytree(run, tmp_path / "run")
    step = max(step for step, line in best_lines(copy))
    write_report(copy, replace(FACTS, settings={"training": {"best_metric": "kid"}}))
    assert f"Best by frechet_pixels are the networks of step {step}, in best/." in (copy / "report.html").read_text()
    # Logs of before said no more than that it was the best.
    log = copy / "log.jsonl"
    log.write_text(log.read_text().replace('"best": "frechet_pixels"', '"best": true'))
    write_report(copy, replace(FACTS, settings={"training": {"best_metric": "frechet_pixels"}}))
    assert f"Best by frechet_pixels are the networks of step {step}, in best/." in (copy / "report.html").read_text()


def best_lines(out: Path) -> list[tuple[int, str]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["best"]) for line in lines if "best" in line]


def test_pairs_have_the_figures_that_evaluation_finds() -> None:
    """Where the truth is flat, and where it is met to the last bit, too."""
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(4, 3, 24, 24, generator=random) * 2 - 1
    output = truth * 0.9
    truth[1], output[2] = 0.25, truth[2]
    measures = Measures(settings_for(metrics=("psnr", "ssim", "l1", "sharpness")), device=torch.device("cpu"))
    measures.add({COMPARED: Comparison(generated=output, real=truth, truth=truth)}, range(4), count=4)
    meter = PairMeter(PairSettings(lpips="off"))
    rows = meter(output, truth)
    expected = {name: mean_figure(rows[:, NAMES.index(name)], replicates=None) for name in measures.metrics}
    found = measures.figures(lambda value: [value])
    assert found == pytest.approx({name: figure.value for name, figure in expected.items()})
    assert [figure.images for figure in expected.values()] == [3, 4, 4, 3]


def test_patches_of_many_images_take_bounded_memory() -> None:
    """As many as evaluation keeps, in half precision; the distance hardly changes."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand(16, 3, 32, 32, generator=random) * 2 - 1
    figures = {}
    for count in (16, 2000, 10**6):
        measures = Measures(settings_for(metrics=("swd",)), device=torch.device("cpu"))
        measures.add({COMPARED: Comparison(generated=images * 0.8, real=images)}, range(16), count=count)
        ((_, rows),) = measures._generated[""]
        expected = {16: 128, 2000: 32, 10**6: 1}[count]
        assert all(patches.shape[:2] == (16, expected) for patches in rows.values())
        assert all(patches.dtype == torch.float16 for patches in rows.values())
        figures[count] = measures.figures(lambda value: [value])["swd"]
    exact = [patch_descriptors(part) for part in (images, images * 0.8)]
    assert figures[16] == pytest.approx(sliced_wasserstein(*exact)["swd"], rel=1e-3)
    assert figures[2000] == pytest.approx(figures[16], rel=0.1)


def test_real_images_that_are_all_alike_measure_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    measures = Measures(settings_for(metrics=("swd", "variety")), device=torch.device("cpu"))
    images = torch.rand(4, 3, 32, 32, generator=random)
    measures.add({COMPARED: Comparison(generated=images, real=torch.zeros_like(images))}, range(4), count=4)
    assert all(math.isnan(value) for value in measures.figures(lambda value: [value]).values())


def test_baselines_are_measured_like_the_run(tmp_path: Path) -> None:
    items = [Coloured()[index] for index in range(len(Coloured()))]
    truth, others = torch.stack([item["target"] for item in items]), torch.stack([item["input"] for item in items])

    def shown(images: Tensor, *, are_made: bool) -> Callable[[], Iterator[dict[str, Comparison]]]:
        def batches() -> Iterator[dict[str, Comparison]]:
            for some, real in zip(images.split(5), truth.split(5), strict=True):
                yield {COMPARED: Comparison(generated=some, real=real, truth=real if are_made else None)}

        return batches

    images: BaselineImages = {
        "darker": shown(truth * 0.9, are_made=True),
        "others": shown(others, are_made=False),
        "few": lambda: [{COMPARED: Comparison(generated=others[:1], real=truth[:1])}],
    }
    baselines: dict[str, dict[str, float]] = {"darker": {"psnr": 7.0}, "others": {}, "few": {"swd": 3.0}, "plain": {}}
    chosen: dict[str, Any] = {"metrics": ("fid", "recall", "psnr", "l1"), "steps": 2}
    run, without = tmp_path / "run", tmp_path / "without"
    result = train_colours(run, facts=replace(FACTS, baselines=baselines), baseline_images=images, **chosen)
    found = result.baselines
    described = [small_images(side).numpy() for side in (truth * 0.9, others, truth)]
    assert found["darker"]["frechet_pixels"] == pytest.approx(frechet(described[0], described[2]), rel=1e-3)
    assert found["others"]["frechet_pixels"] == pytest.approx(frechet(described[1], described[2]), rel=1e-3)
    assert found["darker"]["l1"] == pytest.approx((truth * 0.1).abs().mean().item() / 2, rel=1e-4)
    # What a recipe knows already stays; real images are nobody's translation; of one image there is no distance.
    assert found["darker"]["psnr"] == 7 and found["others"].keys() == {"frechet_pixels", "recall_pixels"}
    assert found["few"] == {"swd": 3} and found["plain"] == {}
    card = (run / "generator" / "README.md").read_text()
    assert f"{found['others']['frechet_pixels']:.4g} |" in card and "\n- n/a: means nothing of that baseline" in card
    # The run itself is the same.
    train_colours(without, **chosen)
    for name in ("log.jsonl", "generator/generator.safetensors"):
        assert (run / name).read_bytes() == (without / name).read_bytes()


def test_grey_images_are_shown_to_networks_that_know_colours_only(tmp_path: Path) -> None:
    save_classifier(Classifier(classes=4, width=4), tmp_path / "judge.safetensors")
    settings = settings_for(metrics=("fid",), features=str(tmp_path / "judge.safetensors"))
    figures = []
    images = torch.rand(8, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for shown in (images, images.repeat(1, 3, 1, 1)):
        measures = Measures(settings, device=torch.device("cpu"))
        measures.add({COMPARED: Comparison(generated=shown, real=shown.flip(3) / 2)}, range(8), count=8)
        figures.append(measures.figures(lambda value: [value]))
    assert figures[0] == figures[1] and figures[0]["frechet_judge"] > 0


def test_images_that_are_no_numbers_have_figures_that_are_none() -> None:
    """Rather than to end the run: it may recover, or end by itself."""
    measures = Measures(settings_for(metrics=("fid", "recall", "swd", "l1")), device=torch.device("cpu"))
    images = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for broken, count in ((images * torch.nan, 4), (images, 0)):
        measures.add({COMPARED: Comparison(generated=broken, real=images, truth=images)}, range(8), count=8)
        figures = measures.figures(lambda value: [value])
        assert sum(math.isnan(value) for value in figures.values()) == count and len(figures) == 4
