"""Settings that cannot be used are refused by the name of their option."""

import importlib.util

import pytest

from i2i.errors import InputError
from i2i.training.config import TrainingSettings


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
    ],
)
def test_wrong_values_are_named(wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} "):
        TrainingSettings(**({"steps": 1} | wrong))


def test_values_at_the_borders_are_taken() -> None:
    TrainingSettings(steps=1, workers=0, seed=0, decay_from=1.0, ema_decay=0.0, adam_betas=(0.0, 0.9), clip_norm=1e-3)


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install wandb"):
        TrainingSettings(steps=1, trackers=("wandb",))
