"""Small methods that ask more of the training loop than pix2pix does, and a run of any of them.

Used by several test files here, in this process and in the two processes that toy_jobs.py is launched as.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.sampler import Draw
from i2i.discriminators import MLPDiscriminator
from i2i.generators import MLPGenerator
from i2i.losses.adversarial import NonSaturating, RelativisticAverage, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.base import Batch, Losses, Method, Outputs
from i2i.methods.gan import GAN
from i2i.methods.stabilisers import (
    HistoricalAveraging,
    InstanceNoise,
    OrthogonalRegularisation,
    Replay,
    WeightClipping,
)
from i2i.methods.unrolled import Unrolled
from i2i.training.config import TrainingSettings
from i2i.training.ema import ExponentialMovingAverage
from i2i.training.loop import RunResult, train
from i2i.training.report import RunFacts

POINTS = GeneratorSpec(input=None, output=ImageSide(channels=2, dtype="float32", data_range=(-1, 1)))


class Ring(Dataset[dict[str, Tensor]]):
    """Points near a circle; each follows from its draw's seed."""

    def __init__(self, length: int = 50) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        seed = draw.seed % 2**62 if isinstance(draw, Draw) else draw
        point = torch.randn(2, generator=torch.Generator().manual_seed(seed))
        return {"real": point / point.norm() + 0.1 * point}


def networks() -> dict[str, nn.Module]:
    return {
        "generator": MLPGenerator(latent_channels=2, out_channels=2, width=8, layers=2),
        "discriminator": MLPDiscriminator(in_channels=2, width=8, layers=2),
    }


class ToyGAN(GAN):
    """The plain GAN on points, with held-out metrics that the networks have no part in."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**networks(), **arguments)

    def validate(self, batch: Batch) -> dict[str, float | Tensor]:
        return {"x": batch["real"][:, 0].mean().item(), "points": batch["real"]}

    def distances(self, descriptors: dict[str, Tensor]) -> dict[str, float]:
        return {"median": descriptors["points"][:, 0].median().item()}


class Shift(nn.Module):
    """An augmentation of points for `AdaptiveAugmentation`: each is moved with `probability`."""

    probability = 0.0

    def forward(self, points: Tensor) -> Tensor:
        moved = torch.rand(len(points), 1, device=points.device) < self.probability
        return points + moved * 0.1 * torch.randn_like(points)


def adaptive() -> Method:
    """Sixty-four points shown make it certain, so that the probability changes within four steps: it rises always."""
    augment = Shift()
    return AdaptiveAugmentation(ToyGAN(augment=augment), augment=augment, target=-0.99, ramp_images=64, every_steps=2)


def nested() -> Method:
    """Stabilisers around stabilisers, whose state and stand-ins have to find through one another."""
    return InstanceNoise(
        Unrolled(Replay(HistoricalAveraging(ToyGAN(), weight=0.1), capacity=5), steps=2, learning_rate=0.1),
        deviation=0.1,
        steps=3,
    )


class Perceptual(ToyGAN):
    """Samples also match the data's mean features in a network that never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = {"features": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh())}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        fake, real = (self.frozen["features"](points).mean(0) for points in (out["sample"], batch["real"]))
        return replace(losses, terms={**losses.terms, "features": (fake - real).square().sum()})


class Projected(ToyGAN):
    """Samples are compared with the data in a space that the generators' side learns."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = {"projector": nn.Linear(2, 3)}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        losses = super().generator_losses(batch, out, step)
        fake, real = (self.auxiliary["projector"](points) for points in (out["sample"], batch["real"]))
        return replace(losses, terms={**losses.terms, "projected": -F.cosine_similarity(fake, real).mean()})


class Regression(Method):
    """No discriminator at all: a stage that only regresses."""

    def __init__(self) -> None:
        super().__init__(generators={"generator": networks()["generator"]}, discriminators={})

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"output": self.generators["generator"](batch["real"])}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return Losses(terms={"l2": (out["output"] - batch["real"].flip(1)).square().mean()})

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        return {"output": torch.zeros(1, 1, 4, 4)}

    def validate(self, batch: Batch) -> dict[str, float]:
        return {"l2": self.generator_losses(batch, self.translate(batch, 0), 0).total.item()}


TOYS: dict[str, Callable[[], Method]] = {
    "plain": ToyGAN,
    "pool": lambda: Replay(ToyGAN(), capacity=10),
    "relativistic": lambda: ToyGAN(objective=RelativisticAverage()),
    "unrolled": lambda: Unrolled(ToyGAN(penalties=Penalties(r1=1.0)), steps=2, learning_rate=0.1),
    "frozen": Perceptual,
    "auxiliary": Projected,
    "critic": lambda: ToyGAN(objective=Wasserstein(), penalties=Penalties(gradient_penalty=1.0)),
    "smoothed_r1": lambda: ToyGAN(objective=NonSaturating(real_label=0.9), penalties=Penalties(r1=1.0)),
    "clipping": lambda: WeightClipping(ToyGAN(objective=Wasserstein()), limit=0.3),
    "history": lambda: HistoricalAveraging(ToyGAN(), weight=0.1),
    "orthogonal": lambda: OrthogonalRegularisation(ToyGAN(), weight=0.1),
    "noise": lambda: InstanceNoise(ToyGAN(penalties=Penalties(r1=1.0)), deviation=0.2, steps=3),
    "adaptive": adaptive,
    "matching": lambda: ToyGAN(feature_matching_weight=1.0),
    "nested": nested,
    "regression": Regression,
}


def settings_for(toy: str, **changes: Any) -> TrainingSettings:
    settings = TrainingSettings(
        steps=4,
        batch_size=4,
        critic_steps={"critic": 5, "history": 2, "adaptive": 3}.get(toy, 1),
        schedule="constant",
        generator_learning_rate=1e-2,
        discriminator_learning_rate=1e-2,
        ema_decay=0.9,
        validate_every_steps=3,
        save_every_steps=2,
        workers=0,
        # Left to itself where there is but a CPU, as most people leave it; two processes must find one another then.
        device="cpu" if torch.accelerator.is_available() else "auto",
    )
    return replace(settings, **changes)


def train_toy(
    toy: str,
    out: Path,
    *,
    method: Method | None = None,
    validation_data: Dataset | None = None,
    stage: int = 0,
    average: ExponentialMovingAverage | None = None,
    **changes: Any,
) -> tuple[RunResult, Method]:
    """Train a toy from the same initial weights each time; the settings' `changes` apply.

    The report is left out: its curves take longer to draw than the networks to train.
    """
    torch.manual_seed(1)
    method = method or TOYS[toy]()
    with patch("i2i.training.loop.write_report"), patch("i2i.training.record.write_report"):
        result = train(
            method=method,
            training_data=Ring(),
            validation_data=validation_data or Ring(),
            specs={"generator": POINTS},
            settings=settings_for(toy, **changes),
            out=out,
            facts=RunFacts(title=toy, about="", settings={"toy": toy}, fingerprint="ring"),
            stage=stage,
            average=average,
        )
    return result, method


def weights(method: Method) -> dict[str, Tensor]:
    """All parameters of the networks that train."""
    networks = {**method.generators, **method.discriminators, **method.auxiliary}
    return {f"{n}.{name}": weight for n, network in networks.items() for name, weight in network.named_parameters()}


def digest(method: Method) -> str:
    return hashlib.sha256(b"".join(w.detach().numpy().tobytes() for w in weights(method).values())).hexdigest()


def logged_losses(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "losses" in line]


def logged_numbers(out: Path) -> list[dict[str, float]]:
    """Losses and figures of each step."""
    return [{**line["losses"], **line.get("figures", {})} for line in logged_losses(out)]


def go_through(toy: str, out: Path, *, resume: bool, **changes: Any) -> dict[str, Any]:
    """Train a toy, and once more in two halves if asked. What came out, to be held against the contract."""
    torch.manual_seed(1)
    initial = {name: weight.detach().clone() for name, weight in weights(TOYS[toy]()).items()}
    _, method = train_toy(toy, out / "whole", **changes)
    trained = weights(method)
    outcome = {
        "losses": logged_numbers(out / "whole"),
        "finite": all(weight.isfinite().all().item() for weight in trained.values()),
        "unmoved": [name for name in trained if torch.equal(trained[name], initial[name])],
        "digest": digest(method),
    }
    if resume:
        train_toy(toy, out / "halves", steps=2, **changes)
        _, resumed = train_toy(toy, out / "halves", **changes)
        outcome["resumed digest"] = digest(resumed)
        outcome["resumed losses"] = logged_numbers(out / "halves")
    return outcome
