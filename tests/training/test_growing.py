"""Runs that grow: their stages, and the picture that shows them side by side."""

from pathlib import Path

import pytest
import torch
from torch import nn

from i2i.errors import InputError
from i2i.generators import ProgressiveGenerator
from i2i.training.config import TrainingSettings
from i2i.training.drawing_data import DrawingData, DrawingTask
from i2i.training.growing import GrowingSettings, Growth, stage_pictures


class NoNetworks:
    def make(self, task: DrawingTask) -> tuple[nn.Module, nn.Module]:
        raise AssertionError("not asked for")


def settings(growth: Growth, *, size_px: int = 64, steps: int = 10) -> GrowingSettings:
    return GrowingSettings(
        out=Path("out"),
        images=DrawingData(size_px=size_px),
        networks=NoNetworks(),
        growth=growth,
        training=TrainingSettings(steps=steps),
    )


def test_stages_double_from_the_first_size_to_the_last() -> None:
    assert settings(Growth(stage_steps=10)).sizes_px == [4, 8, 16, 32, 64]
    assert settings(Growth(stage_steps=10, first_px=16)).sizes_px == [16, 32, 64]
    # A run of one stage fades nothing in, however short it is.
    assert settings(Growth(stage_steps=1000, first_px=64)).sizes_px == [64]
    with pytest.raises(InputError, match="--first-px 128 is above --size-px 64"):
        settings(Growth(stage_steps=10, first_px=128))


@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.5, 5), (1.0, 10)])
def test_fading_in_takes_a_share_of_a_stages_steps_in_the_last_stage_too(share: float, steps: int) -> None:
    growth = Growth(stage_steps=10, fade_share=share)
    assert growth.fade_steps == steps
    settings(growth, steps=max(1, steps))
    if steps:
        with pytest.raises(InputError, match=f"has --steps {steps - 1}, and fades in over {steps}"):
            settings(growth, steps=steps - 1)


@pytest.mark.parametrize("classes", [0, 3])
def test_stages_are_shown_with_the_same_noise_at_the_same_size(classes: int) -> None:
    """A stage that has only just taken over draws what the one before it does."""
    small, large = (ProgressiveGenerator(latent_channels=5, width=4, size=size, classes=classes) for size in (4, 8))
    large.take_over(small)
    latents, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 0]) if classes else None
    shown = stage_pictures([small, large], latents, labels, size_px=32)
    assert list(shown) == ["4 px", "8 px"]
    expected = small(latents, *([labels] if classes else [])).repeat_interleave(8, 2).repeat_interleave(8, 3)
    for images in shown.values():
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    large.fade_in(1.0)
    assert not torch.allclose(stage_pictures([small, large], latents, labels, size_px=32)["8 px"], expected)
