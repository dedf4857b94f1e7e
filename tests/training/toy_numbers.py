"""A pix2pix in float64 on fixed numbers, for comparing ways to train that should come to the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.discriminators import MLPDiscriminator
from i2i.generators import MLPGenerator
from i2i.methods.base import Batch, Method, Outputs, unwrapped
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.stylegan import StyleGAN, StyleSettings
from i2i.training.config import TrainingSettings
from i2i.training.loop import Trainer, make_accelerator

SETTINGS = TrainingSettings(
    steps=6,
    schedule="constant",
    generator_learning_rate=1e-2,
    discriminator_learning_rate=2e-2,
    device="cpu",
)
# One batch a step: 8 points of 3 input and 2 target channels.
BATCHES = list(torch.randn(SETTINGS.steps, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def double_pix2pix() -> Pix2Pix:
    torch.manual_seed(0)
    return Pix2Pix(
        generator=MLPGenerator(latent_channels=3, out_channels=2, width=8, layers=2).double(),
        discriminator=MLPDiscriminator(in_channels=5, width=8, layers=2).double(),
    )


class Noisy(Pix2Pix):
    """Notes a random number at each call."""

    def __init__(self) -> None:
        method = double_pix2pix()
        super().__init__(**method.generators, **method.discriminators)
        self.noise: list[float] = []

    def translate(self, batch: Batch, step: int) -> Outputs:
        self.noise.append(torch.rand(()).item())
        return super().translate(batch, step)


class StyledPoints(nn.Module):
    """A generator of points with two layers that take styles."""

    latent_channels, classes, style_layers = 3, 0, 2

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Linear(3, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])

    def forward(self, latents: Tensor) -> Tensor:
        return self.synthesise(self.styles(latents))

    def styles(self, latents: Tensor) -> Tensor:
        return self.mapping(latents).tanh().unsqueeze(1).expand(-1, 2, -1)

    def synthesise(self, styles: Tensor) -> Tensor:
        first, second = (layer(style) for layer, style in zip(self.layers, styles.unbind(1), strict=True))
        return first * second.tanh()


class Styled(StyleGAN):
    """Path lengths, at every second step, of the fixed numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            generator=StyledPoints().double(),
            discriminator=MLPDiscriminator(in_channels=2, width=8, layers=2).double(),
            styles=StyleSettings(mixing=0.0, path_length_every_steps=2, path_length_decay=0.5),
        )

    def prepare(self, batch: Batch, step: int) -> Batch:
        return {"real": batch["target"], "latents": batch["input"]}

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"sample": self.sample(batch["latents"])}

    def _path_lengths(self, batch: Batch) -> Tensor:
        generator: Any = unwrapped(self.generators["generator"])
        styles = generator.styles(batch["latents"])
        (slope,) = torch.autograd.grad(generator.synthesise(styles).sum(), styles, create_graph=True)
        return slope.flatten(1).norm(dim=1)


def as_batch(numbers: Tensor) -> Batch:
    return {"input": numbers[:, :3], "target": numbers[:, 3:]}


def trainer_for(method: Method, settings: TrainingSettings, batches: list[Batch]) -> Trainer:
    return Trainer(
        method=method,
        settings=settings,
        accelerator=make_accelerator(settings, Path()),
        batches=iter(batches),
    )


def trained(method: Method, micro_batches: list[Tensor], **changes: Any) -> list[Tensor]:
    """The weights after SETTINGS.steps steps, generator's first; the settings' `changes` apply."""
    settings = replace(SETTINGS, **changes)
    trainer = trainer_for(method, settings, [as_batch(numbers) for numbers in micro_batches])
    for step in range(settings.steps):
        trainer.step(step)
    trainer.release()
    return weights_of(method)


def trained_by_hand(*, clip_norm: float | None = None) -> list[Tensor]:
    """The same training in plain PyTorch: one Adam a side, both on the losses at the weights before the step."""
    method = double_pix2pix()
    generator, discriminator = method.generators["generator"], method.discriminators["discriminator"]
    generator_adam = torch.optim.Adam(
        generator.parameters(), lr=SETTINGS.generator_learning_rate, betas=SETTINGS.adam_betas
    )
    discriminator_adam = torch.optim.Adam(
        discriminator.parameters(), lr=SETTINGS.discriminator_learning_rate, betas=SETTINGS.adam_betas
    )
    for numbers in BATCHES:
        given, truth = numbers[:, :3], numbers[:, 3:]
        output = generator(given)
        fake = discriminator(torch.cat([given, output], 1))
        generator_loss = _binary(fake, 1.0) + 100 * (output - truth).abs().mean()
        of_generator = torch.autograd.grad(generator_loss, list(generator.parameters()))
        real = discriminator(torch.cat([given, truth], 1))
        fake = discriminator(torch.cat([given, output.detach()], 1))
        discriminator_loss = (_binary(real, 1.0) + _binary(fake, 0.0)) / 2
        of_discriminator = torch.autograd.grad(discriminator_loss, list(discriminator.parameters()))
        for network, gradients in ((generator, of_generator), (discriminator, of_discriminator)):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        generator_adam.step()
        discriminator_adam.step()
    return weights_of(method)


def _binary(scores: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def weights_of(method: Method) -> list[Tensor]:
    networks = [*method.generators.values(), *method.discriminators.values()]
    return [weight.detach() for network in networks for weight in network.parameters()]
