"""The monitor on synthetic steps: it speaks of what is wrong, once, and of nothing else."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from i2i.errors import RunStopped
from i2i.training.monitor import Alarm, Monitor


def images(step: int) -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


def watch(
    monitor: Monitor,
    steps: int,
    *,
    first: int = 1,
    accuracy: float | None = 0.8,
    outputs: Callable[[int], Tensor] = images,
) -> list[Alarm]:
    alarms = []
    for step in range(first, first + steps):
        data = {"input": images(step + 5000), "target": images(step + 9000), "label": torch.tensor([1, 2])}
        alarms += monitor.observe(
            step=step, accuracy=accuracy, skipped=False, data=data, outputs={"output": outputs(step)}
        )
    return alarms


def skip(monitor: Monitor, step: int) -> list[Alarm]:
    return monitor.observe(step=step, accuracy=None, skipped=True, data={}, outputs={})


def new_monitor(**changes: Any) -> Monitor:
    return Monitor(**{"max_skipped_steps": 3, "best_is": "lowest", **changes})


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.99, None])
def test_silent_on_a_healthy_run(accuracy: float | None) -> None:
    monitor = new_monitor()
    monitor.validated(1.0)
    monitor.validated(0.5)
    assert watch(monitor, 500, accuracy=accuracy) == []


def test_a_discriminator_that_has_won() -> None:
    monitor = new_monitor()
    assert watch(monitor, 99, accuracy=1.0) == []
    (alarm,) = watch(monitor, 1, first=100, accuracy=1.0)
    assert alarm.step == 100 and "discriminator has won" in alarm.text and "100.00%" in alarm.text


def test_a_few_sure_steps_are_no_victory() -> None:
    monitor = new_monitor()
    alarms = [alarm for i in range(30) for alarm in watch(monitor, 10, first=10 * i, accuracy=1.0 if i % 10 else 0.9)]
    assert alarms == []


@pytest.mark.parametrize(
    ("best_is", "first", "last", "speaks"),
    [
        ("lowest", 0.5, 0.49, True),
        ("lowest", 0.5, 0.8, True),
        ("lowest", 0.5, 0.3, False),
        ("highest", 15.0, 15.2, True),
        ("highest", 15.0, 19.0, False),
    ],
)
def test_guessing_is_bad_only_while_samples_are(best_is: str, first: float, last: float, speaks: bool) -> None:
    """Theory wants a discriminator that guesses in the end (Goodfellow et al. 2014, proposition 1)."""
    monitor = new_monitor(best_is=best_is)
    monitor.validated(first)
    monitor.validated(last)
    alarms = watch(monitor, 100, accuracy=0.51)
    assert ["guesses" in alarm.text for alarm in alarms] == [True] * speaks


def test_guessing_goes_unsaid_before_anything_was_measured_again() -> None:
    monitor = new_monitor(best_is="lowest")
    monitor.validated(0.5)  # of the untrained networks
    assert watch(monitor, 100, accuracy=0.51) == []


def test_guessing_goes_unsaid_where_nothing_is_measured() -> None:
    assert watch(new_monitor(), 100, accuracy=0.5) == []


def test_outputs_that_collapse_to_one_image() -> None:
    one = images(0)[:1]
    (alarm,) = watch(new_monitor(), 100, outputs=lambda step: one.expand(2, -1, -1, -1) + 1e-3 * images(step))
    assert "Outputs collapse" in alarm.text and "output varies" in alarm.text


def test_one_output_that_drifts_is_a_collapse_too() -> None:
    """As the generator learns, its one image changes from step to step, but slowly."""
    one, other = images(0)[:1], images(1)[:1]
    alarms = watch(new_monitor(), 100, outputs=lambda step: torch.lerp(one, other, step / 100).expand(2, -1, -1, -1))
    assert len(alarms) == 1 and "collapse" in alarms[0].text


@pytest.mark.parametrize(
    "outputs",
    [
        lambda step: 0.5 + 0.1 * images(step),  # duller than the data
        lambda step: images(step % 7),  # seven images
        lambda step: images(step)[:1],  # batches of one
        lambda step: torch.rand(2, 3, 8 + step % 3, 9, generator=torch.Generator().manual_seed(step)),  # any size
    ],
)
def test_outputs_that_vary_are_no_collapse(outputs: Callable[[int], Tensor]) -> None:
    assert watch(new_monitor(), 200, outputs=outputs) == []


def test_points_that_collapse() -> None:
    monitor, alarms = new_monitor(), []
    for step in range(1, 101):
        points = torch.randn(4, 2, generator=torch.Generator().manual_seed(step))
        alarms += monitor.observe(
            step=step, accuracy=0.8, skipped=False, data={"real": points}, outputs={"sample": 1 + 1e-3 * points}
        )
    assert len(alarms) == 1 and "sample varies" in alarms[0].text


def test_what_is_neither_image_nor_point_is_left_alone() -> None:
    """Such as features at so many positions, whose number changes with the size of the images."""
    assert watch(new_monitor(), 150, outputs=lambda step: torch.ones(2, 3 + step % 2, 5)) == []


def test_said_once_until_it_ends_and_comes_back() -> None:
    monitor = new_monitor()
    assert [alarm.step for alarm in watch(monitor, 400, accuracy=1.0)] == [100]
    assert watch(monitor, 100, first=401, accuracy=0.8) == []
    assert [alarm.step for alarm in watch(monitor, 200, first=501, accuracy=1.0)] == [600]


def test_gradients_that_are_not_finite() -> None:
    monitor = new_monitor()
    (alarm,) = skip(monitor, 1)
    assert alarm.step == 1 and "not finite" in alarm.text
    assert skip(monitor, 2) == []
    watch(monitor, 1, first=3)
    assert [alarm.step for alarm in skip(monitor, 4)] == [4]
    assert skip(monitor, 5) == []
    with pytest.raises(RunStopped, match=r"step 6.*3 steps in a row"):
        skip(monitor, 6)
    assert monitor.skipped_steps == 5


def test_skipped_steps_say_nothing_of_accuracy() -> None:
    """They end no alarm and begin none."""
    monitor = new_monitor(max_skipped_steps=1000)
    watch(monitor, 100, accuracy=1.0)
    for step in range(101, 301):
        skip(monitor, step)
    assert watch(monitor, 100, first=301, accuracy=1.0) == []


@pytest.mark.parametrize("at", [1, 50, 100, 150, 250])
def test_state_comes_back_in_the_middle(at: int) -> None:
    """Through torch.save with weights_only, as a run's state goes."""

    def faulty(monitor: Monitor, first: int, last: int) -> list[Alarm]:
        alarms = []
        for step in range(first, last + 1):
            if step % 40 == 0:
                alarms += skip(monitor, step)
            elif step < 220:
                alarms += watch(monitor, 1, first=step, accuracy=1.0)
            else:
                alarms += watch(monitor, 1, first=step, outputs=lambda _: images(0)[:1].expand(2, -1, -1, -1))
        return alarms

    whole = new_monitor()
    expected = faulty(whole, 1, 500)
    assert {alarm.text.split()[0] for alarm in expected} == {"Losses", "The", "Outputs"}

    before = new_monitor()
    alarms = faulty(before, 1, at)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = new_monitor()
    after.load_state_dict(torch.load(file, weights_only=True))
    assert alarms + faulty(after, at + 1, 500) == expected
    assert after.skipped_steps == whole.skipped_steps
