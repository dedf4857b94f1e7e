"""Which latent vector, or which styles, give an image: found by descent (Karras et al. 2020, arXiv:1912.04958, app. D).

Many points drawn at random are looked at first, for descent finds the nearest valley, which is hardly ever the deepest.
The best few are then moved together, as one batch, and most of them given up on the way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.inference.codec import stored_dtype
from i2i.inference.pictures import AnyImage, fit_channels, open_picture
from i2i.inference.sampler import Sampler
from i2i.latents.pictures import grid
from i2i.latents.space import LatentSpace, Space
from i2i.metrics import Lpips

SCREENED_PX = 32  # candidates are compared at most at this size
STAGES = 6  # how many states on the way are kept to be looked at
GIVE_UP_AT = 0.3  # of the steps, when three of four starts are given up


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How points are searched for.

    Attributes:
        steps: of Adam.
        starts: how many points are moved for each image, at first; from a third of the way on, a quarter of them.
        candidates: points drawn at random, of which those whose images come nearest are the starts.
        learning_rate: Adam's, in standard deviations of the points' own distribution; it rises over the first twentieth
            of the steps and falls along half a cosine over the last half.
        noise: standard deviation, in the same units, of what is added to points of w at first; it falls to 0 at three
            quarters of the steps.
        per_layer: in w, a style of its own for each layer (w+; Abdal et al. 2019, arXiv:1904.03189): nearer to the
            image, and farther from what the generator draws by itself.
        seed: of candidates and noise.
        perceptual: LPIPS (`i2i.metrics.load_lpips`), added to the differences of pixels; None: left out.

    Raises:
        InputError: a count below 1, or a rate or noise that is negative or not finite.
    """

    steps: int = 300
    starts: int = 16
    candidates: int = 2000
    learning_rate: float = 0.1
    noise: float = 0.3
    per_layer: bool = False
    seed: int = 0
    perceptual: Lpips | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "starts", "candidates"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected a finite number from 0 on, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Points whose images come near to targets, N of them.

    Attributes:
        points: (N, channels), or in w with a style per layer (N, style_layers, channels), on the CPU.
        labels: (N,) class ids, 0 without classes.
        images: (N, C, H, W) of them, in the network's range, on the CPU.
        history: (steps, N) mean squared error of the nearest start at each step, as a share of the squared range.
        stages: points as they were at a few steps, with these steps.
    """

    points: Tensor
    labels: Tensor
    images: Tensor
    history: Tensor
    stages: list[tuple[int, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """An image, and what the generator makes of the point that comes nearest to it.

    Attributes:
        space: that the point lies in.
        point: (channels,), or (style_layers, channels) with a style per layer.
        label: class that it is drawn with; None without classes.
        image: (H, W, C) drawn from it, as the sampler gives it; `t(latents=point)` or `t(styles=…)` draws it again.
        target: the image that was given, in the same units.
        psnr: between the two, in dB.
        history: PSNR after each step, of the start that was nearest then.
        stages: images on the way, with the step that each was drawn at.
    """

    space: Space
    point: Tensor
    label: int | None
    image: np.ndarray
    target: np.ndarray
    psnr: float
    history: list[float]
    stages: list[tuple[int, np.ndarray]]
    sampler: Sampler

    @property
    def latents(self) -> Tensor:
        """The latent vector (latent_channels,); InputError for a point of w."""
        if self.space == "w":
            raise InputError('the image was projected to w: use .styles, or project(…, space="z")')
        return self.point

    @property
    def styles(self) -> Tensor:
        """The styles (style_layers, style_channels), for `t(styles=…)`; of a point of z, those that it stands for."""
        if self.space == "z":
            return self.sampler.styles(latents=self.point, label=self.label)
        return LatentSpace(self.sampler, "w").by_layer(self.point[None])[0]

    def picture(self) -> np.ndarray:
        """Target | reconstruction | stages on the way, (H', W', 3) uint8."""
        row = [self.target, self.image, *(image for _, image in self.stages)]
        headings = ["target", f"{self.psnr:.1f} dB", *(f"step {step}" for step, _ in self.stages)]
        return grid([row], side=self.sampler.spec.output, headings=headings)


def project(
    t: Sampler,
    image: AnyImage | Sequence[AnyImage],
    *,
    space: Space | None = None,
    label: int | str | None = None,
    steps: int = 300,
    starts: int = 16,
    candidates: int = 2000,
    per_layer: bool = False,
    seed: int = 0,
    perceptual: Lpips | None = None,
    progress: bool = False,
) -> Any:
    """Find the point of a generator's latent space whose image is nearest to an image.

    The loss is the mean squared difference of pixels and of their means over 2×2, 4×4 … px, so that places that are off
    by a little are seen from afar; with `perceptual`, LPIPS is added.

    Args:
        t: the generator.
        image: of the generator's own size: a path, PIL image, array (H, W, C) or tensor (C, H, W), with values as `t`
            draws them; or a list of such images, which are searched for together.
        space: "z" or "w"; None: w where there are styles, and z elsewhere.
        label: the class to draw; None: whichever comes nearest, where there are classes.
        steps, starts, candidates, per_layer, seed, perceptual: see `Descent`.
        progress: show a bar.

    Returns:
        A `Projection`, or a list of them for a list of images.

    Raises:
        InputError: an image of another size or with other channels, w of a generator without styles, a style per layer
            in z, or numbers out of range.
    """
    place = LatentSpace(t, space)
    descent = Descent(
        steps=steps, starts=starts, candidates=candidates, per_layer=per_layer, seed=seed, perceptual=perceptual
    )
    several = isinstance(image, list | tuple)
    if isinstance(image, list | tuple):
        if not image:
            return []
        targets = encode_images(place, image)
    else:
        targets = encode_image(place, cast(AnyImage, image), "image")[None]
    with bar(progress, "projecting") as tell:
        found = descend(place, targets, label=label, descent=descent, progress=tell)
    results = [_projection(place, targets, found, number) for number in range(len(targets))]
    return results if several else results[0]


def encode_image(space: LatentSpace, image: AnyImage, name: str) -> Tensor:
    """An image of the generator's own size as (C, H, W) in the network's range, on the CPU.

    Raises:
        InputError: no image, several, another size, other channels, or values that the generator does not draw.
    """
    codec = space.sampler.codec
    picture = fit_channels(open_picture(image, name), channels=codec.output.channels, restores=True)
    codec.check(picture)
    if len(picture.images) != 1:
        raise InputError(f"{picture.name}: expected one image, got {len(picture.images)}; give a list of images")
    (height, width), (own_height, own_width) = picture.images.shape[2:], space.size
    if (height, width) != (own_height, own_width):
        raise InputError(
            f"{picture.name} is {width} x {height} px, and this generator draws {own_width} x {own_height} px: cut out "
            f"what it should find, and resize that to {own_width} x {own_height} px, as the training images were"
        )
    return codec.encode(picture.images[0], range(height), range(width), torch.device("cpu"))


def as_list(images: AnyImage | Sequence[AnyImage]) -> list[Any]:
    """Images as a list, of one where there is but one: a path, a PIL image, an array (H, W, C), a tensor (C, H, W)."""
    several = images.ndim > 3 if isinstance(images, np.ndarray | Tensor) else isinstance(images, Sequence)
    return list(cast(Any, images)) if several and not isinstance(images, str) else [images]


def encode_images(space: LatentSpace, images: Sequence[AnyImage]) -> Tensor:
    """Many images likewise: (N, C, H, W)."""
    return torch.stack([encode_image(space, image, f"images[{number}]") for number, image in enumerate(images)])


def pyramid(images: Tensor, *, most_px: int | None = None) -> Tensor:
    """Images (N, C, H, W) as vectors (N, D) whose squared distances are the mean squared differences over all scales.

    The scales are the images themselves and means over 2×2, 4×4 … px, down to 4 px; each counts alike.

    most_px: begin with the first scale whose smaller side is no larger; None: with the images.
    """
    levels = []
    while True:
        smallest = min(images.shape[2:])
        if most_px is None or smallest <= most_px or smallest < 8:
            levels.append(images.flatten(1) / math.sqrt(math.prod(images.shape[1:])))
        if smallest < 8:
            return torch.cat(levels, dim=1)
        images = F.avg_pool2d(images, 2)


def descend(
    space: LatentSpace,
    targets: Tensor,
    *,
    label: int | str | None = None,
    descent: Descent,
    bank: "Bank | None" = None,
    progress: Callable[[float], None] | None = None,
) -> Found:
    """Search for many images at once; each is searched for as if it were alone, up to rounding.

    Args:
        targets: (N, C, H, W) in the network's range.
        label: the class of all; None: whichever comes nearest.
        bank: candidates, drawn before; None: drawn here.
        progress: told the share that is done.
    """
    if descent.per_layer and space.name == "z":
        raise InputError("per_layer: only styles differ from layer to layer; leave it out in z")
    bank = bank or Bank(space, count=descent.candidates, seed=descent.seed, label=label)
    per_batch = max(1, space.batch_size // descent.starts)
    parts = []
    for start in range(0, len(targets), per_batch):
        some = targets[start : start + per_batch]

        def tell(share: float, start: int = start, count: int = len(some)) -> None:
            if progress is not None:
                progress((start + share * count) / len(targets))

        parts.append(_descend_batch(space, some, bank, descent, tell))
    return Found(
        points=torch.cat([part.points for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        images=torch.cat([part.images for part in parts]),
        history=torch.cat([part.history for part in parts], dim=1),
        stages=[
            (stage[0][0], torch.cat([points for _, points in stage]))
            for stage in zip(*(part.stages for part in parts), strict=True)
        ],
    )


class Bank:
    """Points drawn at random, and what their images look like, to find the ones nearest to any image.

    Attributes:
        points, labels: (K, channels), (K,).
        mean, deviation: of the points: (channels,) and one number.
    """

    def __init__(self, space: LatentSpace, *, count: int, seed: int, label: int | str | None = None) -> None:
        self.labels = space.labels(label, count)
        self.points = space.draw(count, seed=seed, labels=self.labels)
        if space.name == "z":
            self.mean, self.deviation = torch.zeros(space.channels), 1.0
        else:
            self.mean = self.points.mean(dim=0)
            self.deviation = max(float((self.points - self.mean).square().mean().sqrt()), 1e-6)
            # The mean style is where StyleGAN2's own projector starts.
            self.points, self.labels = (
                torch.cat([self.mean[None], self.points]),
                torch.cat([self.labels[:1], self.labels]),
            )
        batches = zip(self.points.split(space.batch_size), self.labels.split(space.batch_size), strict=True)
        self.vectors = torch.cat([pyramid(space.draw_images(*batch), most_px=SCREENED_PX) for batch in batches])

    def nearest(self, targets: Tensor, count: int) -> Tensor:
        """Places in the bank, (N, count), of those nearest to each of the images (N, C, H, W)."""
        distances = torch.cdist(pyramid(targets, most_px=SCREENED_PX), self.vectors)
        return distances.topk(min(count, len(self.points)), largest=False).indices


def _descend_batch(
    space: LatentSpace, targets: Tensor, bank: Bank, descent: Descent, tell: Callable[[float], None]
) -> Found:
    device = space.sampler.device
    low, high = space.sampler.spec.output.network_range
    nearest = bank.nearest(targets, descent.starts)
    count, starts = nearest.shape
    # (N, S, …): in units of the bank's deviation about its mean, in which one learning rate suits all generators.
    mean = bank.mean.to(device)
    moved = ((bank.points[nearest].to(device) - mean) / bank.deviation).float()
    if descent.per_layer:
        moved = moved[:, :, None].repeat(1, 1, space.sampler.style_layers, 1)
    labels = bank.labels[nearest].to(device)
    targets = targets.to(device)
    vectors = pyramid(targets)
    perceptual = None if descent.perceptual is None else descent.perceptual.to(device)
    each = torch.arange(count, device=device)
    first, second = torch.zeros_like(moved), torch.zeros_like(moved)
    losses = torch.zeros(count, starts, device=device)
    random = torch.Generator().manual_seed(descent.seed)
    history: list[Tensor] = []
    stages: list[tuple[int, Tensor]] = []
    shown = {round(share * descent.steps) for share in np.geomspace(0.01, 1, STAGES)[:-1]} | {0}

    def points_of(moved: Tensor) -> Tensor:
        return (mean + bank.deviation * moved).flatten(0, 1)

    for step in range(descent.steps + 1):
        share = step / descent.steps
        if step == max(1, round(GIVE_UP_AT * descent.steps)) and starts > 1:
            starts = -(-starts // 4)
            kept = losses.topk(starts, largest=False).indices
            moved, labels, first, second = (_take(values, kept) for values in (moved, labels, first, second))
        noise = descent.noise * max(0.0, 1 - share / 0.75) ** 2 if space.name == "w" else 0.0
        with torch.enable_grad():
            moved = moved.detach().requires_grad_()
            noisy = moved
            if noise:
                # The same for all images, so that what is found for one does not depend on its neighbours.
                noisy = moved + noise * torch.randn(moved.shape[1:], generator=random).to(moved)
            images = space.synthesise(points_of(noisy), labels.flatten())
            errors = pyramid(images).unflatten(0, (count, starts)) - vectors[:, None]
            losses = errors.square().sum(dim=2) / (high - low) ** 2
            if perceptual is not None:
                repeated = targets[:, None].expand(-1, starts, -1, -1, -1).flatten(0, 1)
                losses = losses + perceptual(images, repeated).unflatten(0, (count, starts)).to(losses)
            (gradient,) = torch.autograd.grad(losses.sum(), moved)
        moved, losses = moved.detach(), losses.detach()
        best = losses.argmin(dim=1)
        pixels = errors.detach()[each, best, : math.prod(targets.shape[1:])]
        history.append(pixels.square().sum(dim=1).cpu() / (high - low) ** 2)
        if step in shown or step == descent.steps:
            stages.append((step, _take(moved, best[:, None])[:, 0].cpu()))
        if step < descent.steps:
            # Adam (Kingma & Ba 2015, algorithm 1), each start for itself.
            first, second = first.lerp(gradient, 0.1), second.lerp(gradient.square(), 0.001)
            size = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            ramp = (
                min(1.0, share / 0.05 + 1 / descent.steps) * 0.5 * (1 - math.cos(math.pi * min(1.0, 2 * (1 - share))))
            )
            moved = moved - descent.learning_rate * ramp * size
        tell(share)
    points = bank.mean + bank.deviation * stages[-1][1]
    chosen = labels[each, best].cpu()
    return Found(
        points=points,
        labels=chosen,
        images=space.draw_images(points, chosen),
        history=torch.stack(history[1:]),
        stages=[(step, bank.mean + bank.deviation * state) for step, state in stages[:-1]],
    )


def _take(values: Tensor, places: Tensor) -> Tensor:
    """Of (N, S, …) those starts whose places (N, K) are given: (N, K, …)."""
    return values[torch.arange(len(values), device=values.device)[:, None], places]


def _projection(space: LatentSpace, targets: Tensor, found: Found, number: int) -> Projection:
    t, one = space.sampler, slice(number, number + 1)
    low, high = t.spec.output.data_range
    stored = t.codec.decode(targets[number], stored_dtype(t.spec.output), torch.device("cpu"))
    target = np.ascontiguousarray(stored.movedim(0, -1).numpy())
    image = space.images(found.points[one], found.labels[one])[0]
    error = float(np.square((image.astype(np.float64) - target) / (high - low)).mean())
    return Projection(
        space=space.name,
        point=found.points[number],
        label=int(found.labels[number]) if t.classes else None,
        image=image,
        target=target,
        psnr=-10 * math.log10(error) if error else math.inf,
        history=[-10 * math.log10(max(float(error), 1e-12)) for error in found.history[:, number]],
        stages=[(step, space.images(points[one], found.labels[one])[0]) for step, points in found.stages],
        sampler=t,
    )


@contextmanager
def bar(shown: bool, name: str) -> Iterator[Callable[[float], None] | None]:
    """A bar on the terminal, where it is asked for: what tells it the share that is done."""
    if not shown:
        yield None
        return
    from rich.progress import Progress

    with Progress() as shown_bar:
        task = shown_bar.add_task(name, total=1.0)
        yield lambda share: shown_bar.update(task, completed=share)
