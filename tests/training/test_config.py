"""Settings that cannot be used are refused by the name of their option."""

import importlib.util
from pathlib import Path

import pytest

from i2i.errors import InputError
from i2i.metrics.meanings import MEANINGS, GoodEnd, good_end
from i2i.training.config import Metric, TrainingSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"workers": -1},
        {"warmup_steps": -4},
        {"generator_learning_rate": -1.0},
        {"discriminator_learning_rate": float("nan")},
        {"clip_norm": 0.0},
        {"ema_decay": 1.0},
        {"decay_from": 3.0},
        {"adam_betas": (2.0, 3.0)},
        {"threads": 0},
        {"measure_every_steps": 0},
        {"early_stop_after": 0},
    ],
)
def test_wrong_values_are_named(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} "):
        TrainingSettings(**({"steps": 1} | wrong))


@pytest.mark.parametrize(
    ("together", "complaint"),
    [
        ({"early_stop_after": 3}, "--best-metric, too"),
        (
            {"measure_every_steps": 30, "validate_every_steps": 20},
            "30 must be a multiple of --validate-every-steps.*20",
        ),
        ({"best_metric": "psnr", "best_is": "lowest"}, "--best-is lowest would keep the worst by --best-metric psnr"),
        ({"best_metric": "frechet_dinov2", "best_is": "highest"}, "of which the lowest is best"),
        ({"feature_weights": Path("w.pth"), "metrics": ("swd",)}, "--feature-weights w.pth is for --metrics from feat"),
        ({"lpips_weights": (Path("a"), Path("b"))}, "--lpips-weights is for --metrics lpips"),
    ],
)
def test_what_does_not_go_together_is_refused(together: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        TrainingSettings(**({"steps": 100} | together))


@pytest.mark.parametrize(
    ("figure", "given", "end"),
    [
        ("l1", None, "lowest"),
        ("psnr", None, "highest"),
        ("recall_dinov2", None, "highest"),
        ("fid_b_to_a", None, "lowest"),
        ("variety", None, "nearest_one"),
        ("variety", "highest", "highest"),
        ("of mine", None, "lowest"),
        ("of mine", "highest", "highest"),
        (None, None, "lowest"),
    ],
)
def test_the_good_end_is_known(figure: str | None, given: GoodEnd | None, end: GoodEnd) -> None:
    assert TrainingSettings(steps=1, best_metric=figure, best_is=given).best_end == end


def test_good_ends_are_what_meanings_say() -> None:
    words = {"higher is better": "highest", "lower is better": "lowest", "1 is as sharp": "nearest_one"}
    said = {name: end for name, text in MEANINGS.items() for word, end in words.items() if word in text}
    assert len(said) > 10
    assert {name: good_end(name) for name in said} == said


def test_what_the_best_is_chosen_by_is_checked_early() -> None:
    TrainingSettings(steps=1).check_best_metric()
    TrainingSettings(steps=1, best_metric="swd").check_best_metric("swd")
    for figure in ("fid", "frechet_dinov2"):
        TrainingSettings(steps=1, best_metric=figure, metrics=("fid",)).check_best_metric("swd")
    with pytest.raises(InputError, match="recall is not one to choose by: give swd or fid; or --metrics recall, too"):
        TrainingSettings(steps=1, best_metric="recall", metrics=("fid",)).check_best_metric("swd")


@pytest.mark.parametrize(
    ("best", "features", "metric"),
    [
        ("frechet_pixels", "inception", "fid"),
        ("kernel_dinov2_b_to_a", "dinov2", "kid"),
        ("recall_judge", "runs/Judge.safetensors", "recall"),
    ],
)
def test_a_best_by_features_needs_their_metric(best: str, features: str, metric: Metric) -> None:
    for metrics in ((), ("swd", "precision")):
        with pytest.raises(InputError, match=f"--best-metric {best} is not measured: give --metrics {metric}, too"):
            TrainingSettings(steps=1, best_metric=best, features=features, metrics=metrics)
    TrainingSettings(steps=1, best_metric=best, features=features, metrics=(metric,))
    TrainingSettings(steps=1, best_metric="recall_of_edges", features=features)  # which a method may measure


def test_values_at_the_borders_are_taken() -> None:
    TrainingSettings(steps=1, workers=0, seed=0, decay_from=1.0, ema_decay=0.0, adam_betas=(0.0, 0.9), clip_norm=1e-3)


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        TrainingSettings(steps=1, trackers=("wandb",))
