"""Says in words when adversarial training has gone wrong.

It watches four things, all but the first over a window of steps so that a bad moment is not taken for a bad run:
gradients that are not finite, a discriminator that always knows or only guesses, and outputs that are all
one image. A condition is reported once when it begins and may be reported again after it has ended.
"""

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from i2i.errors import RunStopped
from i2i.metrics.meanings import GoodEnd, badness


@dataclass(frozen=True, kw_only=True)
class Alarm:
    step: int
    text: str


class Monitor:
    """Watches a run step by step; all of its memory is in `state_dict`, so alarms resume exactly too.

    Accuracy is the share of pairs (real, fake) that the discriminator ranks rightly. Variety is how much
    pictures differ from one another, next to how large their values are; the outputs' is compared with that
    of the data. Both are taken over one window of steps after another.
    """

    WINDOW = 100  # steps after which a judgement is made
    WON = 0.9999  # ranking of fakes so sure that a saturating loss teaches the generator nothing
    GUESSING = 0.05  # distance from 0.5 within which the discriminator only guesses
    COLLAPSED = 0.05  # outputs' variety next to the data's
    IMPROVED = 0.05  # share by which the held-out metric must have moved for samples to count as better

    def __init__(self, *, max_skipped_steps: int, best_is: GoodEnd) -> None:
        self.max_skipped_steps = max_skipped_steps
        self.best_is = best_is
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self.first_metric: float | None = None
        self.last_metric: float | None = None
        self.active: set[str] = set()
        self._open_window()

    def _open_window(self) -> None:
        self.observed = 0
        self.accuracies: list[float] = []
        # Sums of squared differences (halved: a variance) and of squares, and the last image, per tensor.
        self.variety: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def observe(
        self,
        *,
        step: int,
        accuracy: float | None,
        skipped: bool,
        data: dict[str, Tensor],
        outputs: dict[str, Tensor],
    ) -> list[Alarm]:
        """Take note of one step; what is newly wrong comes back.

        Raises:
            RunStopped: `max_skipped_steps` steps in a row had gradients that were not finite.
        """
        if skipped:
            return self._skipped(step)
        self.skipped_in_a_row = 0
        self.active.discard("not finite")
        self.observed += 1
        if accuracy is not None:
            self.accuracies.append(accuracy)
        self._note_variety({f"data/{name}": value for name, value in data.items()})
        self._note_variety({f"output/{name}": value for name, value in outputs.items()})
        if self.observed < self.WINDOW:
            return []
        alarms = self._judge(step)
        self._open_window()
        return alarms

    def validated(self, value: float) -> None:
        """Take note of the chosen held-out metric; the first one is that of the untrained networks."""
        if self.first_metric is None:
            self.first_metric = value
        else:
            self.last_metric = value

    def _skipped(self, step: int) -> list[Alarm]:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.max_skipped_steps:
            raise RunStopped(
                f"Stopped at step {step}: losses or gradients were not finite {self.skipped_in_a_row} steps in "
                "a row. The weights are those from before. Try a lower learning rate, --clip-norm 1, or "
                "--precision bf16 or fp32."
            )
        return self._report(
            step,
            {"not finite": "Losses or gradients are not finite; such steps are skipped whole, and counted."},
            {"not finite"},
        )

    def _judge(self, step: int) -> list[Alarm]:
        wrong = {}
        accuracy = statistics.fmean(self.accuracies) if self.accuracies else None
        if accuracy is not None and accuracy >= self.WON:
            wrong["won"] = (
                f"The discriminator has won: it ranks {accuracy:.2%} of real and generated pairs rightly, so "
                "the generator learns little from it. Lower --discriminator-learning-rate, or look whether "
                "something gives the real images away."
            )
        if accuracy is not None and abs(accuracy - 0.5) <= self.GUESSING and self._no_better():
            wrong["guessing"] = (
                f"The discriminator guesses (it ranks {accuracy:.2%} rightly) while the held-out metric is no "
                "better than before training: it is too weak or its learning rate is wrong."
            )
        variety = {
            name: float((differences / squares.clamp(min=1e-12)).sqrt())
            for name, (differences, squares, _) in self.variety.items()
        }
        of_data = [value for name, value in variety.items() if name.startswith("data/")]
        for name, value in variety.items():
            if name.startswith("output/") and of_data and value < self.COLLAPSED * min(of_data):
                wrong[f"collapse {name}"] = (
                    f"Outputs collapse to one image: {name.removeprefix('output/')} varies {value:.4f} from image to "
                    f"image, the data at least {min(of_data):.4f}. Strengthen the generator's other losses or lower "
                    "the learning rates."
                )
        return self._report(step, wrong, {key for key in self.active if key != "not finite"} | wrong.keys())

    def _report(self, step: int, wrong: dict[str, str], judged: set[str]) -> list[Alarm]:
        new = [Alarm(step=step, text=text) for key, text in wrong.items() if key not in self.active]
        self.active = (self.active - judged) | wrong.keys()
        return new

    def _no_better(self) -> bool:
        if self.first_metric is None or self.last_metric is None:
            return False
        first, last = (badness(value, self.best_is) for value in (self.first_metric, self.last_metric))
        return first - last < self.IMPROVED * abs(first)

    def _note_variety(self, tensors: dict[str, Tensor]) -> None:
        for name, value in tensors.items():
            if value.ndim not in (2, 4) or not value.is_floating_point():
                continue  # neither points nor images
            value = value.detach().float()
            # Size differs from image to image in some data, so maps are compared at 8 × 8.
            small = (F.adaptive_avg_pool2d(value, 8) if value.ndim == 4 else value).flatten(1)
            differences, squares, last = self.variety.get(name, (0.0, 0.0, small[:1]))
            # Each image against the one before: a slow drift of all images together is no variety.
            steps = torch.cat([last.to(small.device), small]).diff(dim=0)
            self.variety[name] = (differences + steps.square().sum() / 2, squares + small.square().sum(), small[-1:])

    def state_dict(self) -> dict[str, Any]:
        memory = {name: value for name, value in vars(self).items() if name not in ("max_skipped_steps", "best_is")}
        return memory | {"active": sorted(self.active)}  # loading with weights_only=True knows no sets

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"active": set(state["active"])})
