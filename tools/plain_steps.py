"""Training steps as a person writes them without a library: eager, no checks, nothing recorded."""

from collections.abc import Callable, Iterable
from itertools import chain, cycle

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training_work import BETAS, CYCLE_WEIGHT, IDENTITY_WEIGHT, L1_WEIGHT, LEARNING_RATE, TrainingWork, autocast

from i2i.training.loop import to_device

Step = Callable[[], object]


def pix2pix_step(work: TrainingWork, device: torch.device, *, fused_adam: bool) -> Step:
    """One generator pass, and three discriminator passes (Isola et al. 2017)."""
    networks = _placed(work, device)
    generator, discriminator = networks["generator"], networks["discriminator"]
    generator_adam = _adam([generator], fused=fused_adam)
    discriminator_adam = _adam([discriminator], fused=fused_adam)
    mixed, scaler = autocast(work.precision, device), _scaler(work, device)
    batches, settings = cycle(work.batches()), work.settings()

    def judge(condition: Tensor, image: Tensor, *, real: bool) -> Tensor:
        scores = discriminator(torch.cat([condition, image], dim=1)).float()
        return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))

    def step() -> None:
        batch = to_device(next(batches), device, settings)
        with mixed:
            fake = generator(batch["input"])
            discriminator.requires_grad_(False)
            loss = judge(batch["input"], fake, real=True) + L1_WEIGHT * F.l1_loss(fake, batch["target"])
        generator_adam.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()

        discriminator.requires_grad_(True)
        with mixed:
            loss = judge(batch["input"], fake.detach(), real=False) + judge(batch["input"], batch["target"], real=True)
        discriminator_adam.zero_grad(set_to_none=True)
        scaler.scale(0.5 * loss).backward()

        scaler.step(generator_adam)
        scaler.step(discriminator_adam)
        scaler.update()

    return step


def cyclegan_step(work: TrainingWork, device: torch.device, *, fused_adam: bool) -> Step:
    """Six generator passes and six discriminator passes, each image by itself (Zhu et al. 2017)."""
    networks = _placed(work, device)
    a_to_b, b_to_a = networks["a_to_b"], networks["b_to_a"]
    discriminators = {"a": networks["discriminator_a"], "b": networks["discriminator_b"]}
    generator_adam = _adam([a_to_b, b_to_a], fused=fused_adam)
    discriminator_adam = _adam(discriminators.values(), fused=fused_adam)
    mixed, scaler = autocast(work.precision, device), _scaler(work, device)
    batches, settings = cycle(work.batches()), work.settings()
    pools: dict[str, list[Tensor]] = {"a": [], "b": []}

    def judge(side: str, images: Tensor, *, real: bool) -> Tensor:
        scores = discriminators[side](images).float()
        return F.mse_loss(scores, torch.full_like(scores, float(real)))

    def step() -> None:
        batch = to_device(next(batches), device, settings)
        a, b = batch["a"], batch["b"]
        for discriminator in discriminators.values():
            discriminator.requires_grad_(False)
        with mixed:
            fake_b, fake_a = a_to_b(a), b_to_a(b)
            adversarial = judge("b", fake_b, real=True) + judge("a", fake_a, real=True)
            cycle_loss = F.l1_loss(b_to_a(fake_b), a) + F.l1_loss(a_to_b(fake_a), b)
            identity_loss = F.l1_loss(b_to_a(a), a) + F.l1_loss(a_to_b(b), b)
            loss = adversarial + CYCLE_WEIGHT * (cycle_loss + IDENTITY_WEIGHT * identity_loss)
        generator_adam.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()

        for discriminator in discriminators.values():
            discriminator.requires_grad_(True)
        discriminator_adam.zero_grad(set_to_none=True)
        for side, real, fake in (("a", a, fake_a), ("b", b, fake_b)):
            shown = _swapped(pools[side], fake.detach(), capacity=work.pool_size)
            with mixed:
                loss = judge(side, real, real=True) + judge(side, shown, real=False)
            scaler.scale(0.5 * loss).backward()

        scaler.step(generator_adam)
        scaler.step(discriminator_adam)
        scaler.update()

    return step


def _swapped(pool: list[Tensor], images: Tensor, *, capacity: int) -> Tensor:
    """The images, of which half are swapped for older ones once the pool is full."""
    shown = []
    for image in images:
        if len(pool) < capacity:
            pool.append(image.clone())
        elif torch.rand(()) < 0.5:
            place = int(torch.randint(capacity, ()))
            pool[place], image = image.clone(), pool[place]
        shown.append(image)
    return torch.stack(shown)


def _placed(work: TrainingWork, device: torch.device) -> dict[str, nn.Module]:
    layout = torch.channels_last if work.channels_last else torch.preserve_format
    return {name: network.to(device).to(memory_format=layout) for name, network in work.networks().items()}


def _adam(networks: Iterable[nn.Module], *, fused: bool) -> torch.optim.Optimizer:
    parameters = chain.from_iterable(network.parameters() for network in networks)
    # None leaves the choice of implementation to PyTorch.
    return torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=BETAS, fused=True if fused else None)


def _scaler(work: TrainingWork, device: torch.device) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.type, enabled=work.precision == "fp16")
