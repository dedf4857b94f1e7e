"""A trained generator that draws from noise, as a function of seeds and classes."""

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from i2i.checkpoints.store import GeneratorSpec, check_class_names
from i2i.errors import InputError
from i2i.inference.codec import Codec, stored_dtype
from i2i.inference.engine import PIXELS_PER_BATCH, PIXELS_PER_BATCH_ON_CPU, Options
from i2i.inference.precision import NotEnoughMemory, NotFinite, Precision, SafeRunner
from i2i.inference.styles import check_truncation, draw_latent, draw_truncated_latent, natural_number
from i2i.layers.norm import set_inference_mode

Found = TypeVar("Found")
One = TypeVar("One")
Many: TypeAlias = Sequence[One] | np.ndarray | Tensor

LISTED_CLASSES = 20  # in messages


class Sampler(nn.Module):
    """Draws with a trained generator; call it with a seed, a latent vector or styles, or with a list of these.

    >>> image = t(seed=1)
    >>> images = t(seed=range(64), truncation=0.7)
    >>> disc, star = t(seed=1, label=["disc", "star"])
    >>> halfway = t(latents=(t.draw_latent(1) + t.draw_latent(2)) / 2)
    >>> mixed = t(styles=torch.cat([t.styles(seed=1)[:3], t.styles(seed=2)[3:]]))

    Images come back as arrays (H, W, C), points as (C,), in the dtype and the units of the training data: uint8 or
    uint16, rounded, or float32. Each depends on its own seed and class alone, up to rounding, whatever is drawn beside
    it and on whichever device.

    Truncation takes variety. Generators with styles (StyleGAN) draw w towards its mean, w' = mean + truncation ·
    (w − mean) (Karras et al. 2019, arXiv:1812.04948, appendix B), and images grow more typical: at 0 all are the mean
    one, at 1 nothing changes. All others have values of the latent vector beyond the threshold drawn again (Brock et
    al. 2019, arXiv:1809.11096, section 3.1): 2 is weak, and at 0.5 most of them draw a blur, for they were not trained
    on vectors so short; orthogonal regularisation in training is to help against that.

    Nothing is recorded for gradients. Who needs them, or values in the network's own range, calls
    `t.generator(latents, labels)`: latents (N, latent_channels) float32, and with classes labels (N,) int64, on
    `t.device`.

    As an nn.Module it stays in inference mode whatever `.train()` or `.eval()` is called on it or around it.

    Args:
        generator: the network, with `latent_channels` and `classes`; it is put in inference mode.
        spec: what it returns, and what its classes are called.
        precision: the number type of the computation, "fp32", "bf16" or "fp16". "auto" is the fastest that is safe:
            fp16 on CUDA for 8-bit results, fp32 everywhere else. Results with NaN or infinity are computed again in
            bf16, then fp32.
        compile: use torch.compile, for long jobs.

    Attributes:
        latent_channels: length of the latent vectors.
        classes: how many classes there are to choose from; 0: none.
        style_layers: how many layers take a style, the coarsest first; 0: the generator has no styles.
        style_channels: length of each style; 0 likewise.

    Raises:
        InputError: the generator translates images, the names are not as many as its classes, or an unknown precision.
    """

    def __init__(
        self, *, generator: nn.Module, spec: GeneratorSpec, precision: Precision = "auto", compile: bool = False
    ) -> None:
        super().__init__()
        if spec.input is not None:
            raise InputError(f"{type(generator).__name__} translates images and draws none; i2i.Translator takes it")
        check_class_names(generator, spec)
        self.generator = generator
        self.spec = spec
        network: Any = generator
        self.latent_channels: int = network.latent_channels
        self.classes: int = network.classes
        self.style_layers: int = getattr(network, "style_layers", 0)
        self.style_channels: int = getattr(network, "style_channels", 0)
        self.codec = Codec(input=spec.output, output=spec.output, size_multiple=1, smallest_px=1, scale=1)
        # Styles are small, and are found in full precision; what makes images of them is the work.
        synthesis = network.synthesise if self.style_layers else network
        self._run = SafeRunner(synthesis, precision=precision, compile=compile)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Keep inference mode, whatever is asked for: normalisation and dropout are the spec's business."""
        super().train(False)
        set_inference_mode(self.generator, normalisation=self.spec.normalisation, dropout=self.spec.dropout)
        return self

    @property
    def device(self) -> torch.device:
        """Where the generator's parameters lie."""
        return next(self.generator.parameters()).device

    # no_grad, for a tensor made under inference_mode could not feed a network that trains.
    @torch.no_grad()
    def forward(
        self,
        *,
        seed: int | Many[int] | None = None,
        latents: Tensor | None = None,
        styles: Tensor | None = None,
        label: int | str | Many[int | str] | None = None,
        truncation: float | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Draw one image or point, or a list of them; the class says which dtypes and ranges.

        Args:
            seed: an integer from 0 to 2**63 - 1, or several: a list, or an array or tensor of one axis.
            latents: in place of seeds, a latent vector (latent_channels,), or (N, latent_channels) for a list.
            styles: in place of both, for a generator with styles, those of each layer: (style_layers, style_channels),
                or (N, style_layers, style_channels) for a list. They have a class, and go without label.
            label: the class to draw, by id or by name, or several likewise; for a generator with classes, and only for
                one. One class goes with many seeds, and one seed with many classes.
            truncation: from 0 on, see above; None: none. Latent vectors that are given are taken as they are by
                generators without styles, and styles by all.
            batch_size: how many go through the network together; as many as make a million pixels unless given, and
                fewer on a CPU.

        Returns:
            An array; a list of arrays where seeds, latents, styles or classes are many.

        Raises:
            InputError: not one of seed, latents and styles; no such seed or class; latents or styles other than the
                network takes; a label for a network without classes, or none for one with them; a truncation below 0,
                or one of what is taken as it is; lists of different lengths; results that are not finite; or not enough
                memory.
        """
        Options(batch_size=batch_size)  # which checks it
        if seed is None and latents is None and styles is None:
            raise InputError(
                "nothing to draw from: give seed=, latents= or, to a generator with styles, styles=, as in t(seed=1)"
            )
        if styles is not None:
            self._check_styles(styles, alone=seed is None and latents is None and label is None and truncation is None)
            drawn = self._draw(list(styles if styles.ndim == 3 else styles[None]), [], batch_size)
            return drawn if styles.ndim == 3 else drawn[0]
        points, ids, several = self._points(seed, latents, label, truncation)
        if self.style_layers:
            points, ids = list(self._find_styles(points, ids, truncation)), []
        drawn = self._draw(points, ids, batch_size)
        return drawn if several else drawn[0]

    @torch.no_grad()
    def styles(
        self,
        *,
        seed: int | Many[int] | None = None,
        latents: Tensor | None = None,
        label: int | str | Many[int | str] | None = None,
        truncation: float | None = None,
    ) -> Tensor:
        """The styles that an image is drawn with: `t(styles=t.styles(seed=1))` is `t(seed=1)`.

        Args:
            seed, latents, label, truncation: as in a call.

        Returns:
            float32 (style_layers, style_channels), the coarsest layer first, on the CPU; (N, style_layers,
            style_channels) where seeds, latents or classes are many.

        Raises:
            InputError: the generator has no styles, or as in a call.
        """
        self._expect_styles("styles")
        points, ids, several = self._points(seed, latents, label, truncation)
        found = self._find_styles(points, ids, truncation)
        return found if several else found[0]

    @property
    def mean_style(self) -> Tensor:
        """The style that truncation draws others to: float32 (style_channels,), on the CPU.

        Raises:
            InputError: the generator has no styles.
        """
        self._expect_styles("mean_style")
        network: Any = self.generator
        return network.mean_style.detach().float().cpu()

    def draw_latent(self, seed: int, *, truncation: float | None = None) -> Tensor:
        """The latent vector that `seed` stands for.

        Args:
            seed: an integer from 0 to 2**63 - 1.
            truncation: the largest absolute value of its values, where larger ones are drawn again; None: any. Not for
                generators with styles, which truncate these.

        Returns:
            float32 (latent_channels,) from N(0, 1), on the CPU.

        Raises:
            InputError: no such integer, a threshold below 0, or one for a generator with styles.
        """
        if truncation is None:
            return draw_latent(seed, channels=self.latent_channels)
        if self.style_layers:
            raise InputError(
                "truncation: this generator truncates styles, not latent vectors; use t.styles(seed=…, truncation=…)"
            )
        return draw_truncated_latent(seed, channels=self.latent_channels, truncation=truncation)

    def class_id(self, label: int | str) -> int:
        """The id of a class.

        Args:
            label: a name among `spec.classes`, or the id itself, as a number or as text; a name goes before an id.

        Raises:
            InputError: no such class, or a generator without classes.
        """
        if not self.classes:
            raise InputError("label: this generator has no classes to choose from; leave it out")
        names = self.spec.classes or ()
        if isinstance(label, str) and label in names:
            return names.index(label)
        number = natural_number(int(label) if isinstance(label, str) and label.isdecimal() else label)
        if not 0 <= number < self.classes:
            raise InputError(f"label: expected {self._classes_in_words()}, got {label!r}")
        return number

    def _classes_in_words(self) -> str:
        ids = f"a class id from 0 to {self.classes - 1}"
        if self.spec.classes is None:
            return ids
        more = f" and {self.classes - LISTED_CLASSES} more" if self.classes > LISTED_CLASSES else ""
        return f"{ids} or a name ({', '.join(self.spec.classes[:LISTED_CLASSES])}{more})"

    def _points(
        self,
        seed: int | Many[int] | None,
        latents: Tensor | None,
        label: int | str | Many[int | str] | None,
        truncation: float | None,
    ) -> tuple[list[Tensor], list[int], bool]:
        """Latent vectors, their class ids, and whether the caller asked for several."""
        if truncation is not None:
            check_truncation(truncation)
            if latents is not None and not self.style_layers:
                raise InputError(
                    "truncation: of latents that are given nothing is drawn again; leave it out, or draw them with "
                    "t.draw_latent(seed, truncation=…)"
                )
        starts, ids = self._starts(seed, latents, truncation), self._class_ids(label)
        counts = {len(given) for given in (starts, ids) if isinstance(given, list)}
        if len(counts) > 1:
            raise InputError(f"label: expected one, or as many as seeds or latents, {len(starts)}; got {len(ids)}")
        count = max(counts, default=1)
        return _repeat(starts, count), _repeat(ids, count), bool(counts)

    def _starts(self, seed: int | Many[int] | None, latents: Tensor | None, truncation: float | None) -> Any:
        """The latent vector, or one for each of several."""
        if (seed is None) == (latents is None):
            many = "neither" if seed is None else "both"
            raise InputError(f"expected either seed= or latents= to draw from, got {many}")
        if latents is None:
            own = None if self.style_layers else truncation
            return _each(lambda one: self.draw_latent(one, truncation=own), seed)
        if not isinstance(latents, Tensor) or latents.ndim not in (1, 2) or latents.shape[-1] != self.latent_channels:
            came = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
            shapes = f"({self.latent_channels},) or (N, {self.latent_channels})"
            raise InputError(f"latents: expected a tensor {shapes}, got {came}")
        if not latents.isfinite().all():
            raise InputError("latents: expected finite values, got NaN or infinite ones")
        return latents if latents.ndim == 1 else list(latents)

    def _expect_styles(self, name: str) -> None:
        if not self.style_layers:
            raise InputError(
                f"{name}: {type(self.generator).__name__} has no styles, as StyleGAN's generators have; draw from "
                "seeds or latents"
            )

    def _check_styles(self, styles: Tensor, *, alone: bool) -> None:
        self._expect_styles("styles")
        if not alone:
            raise InputError("styles: they say all that is drawn; leave out seed, latents, label and truncation")
        size = (self.style_layers, self.style_channels)
        if not isinstance(styles, Tensor) or styles.ndim not in (2, 3) or tuple(styles.shape[-2:]) != size:
            came = tuple(styles.shape) if isinstance(styles, Tensor) else type(styles).__name__
            raise InputError(f"styles: expected a tensor {size} or (N, {size[0]}, {size[1]}), got {came}")
        if not styles.isfinite().all():
            raise InputError("styles: expected finite values, got NaN or infinite ones")

    def _find_styles(self, latents: list[Tensor], ids: list[int], truncation: float | None) -> Tensor:
        """Styles (N, style_layers, style_channels) on the CPU."""
        network: Any = self.generator
        if not latents:
            return torch.zeros(0, self.style_layers, self.style_channels)
        inputs = [torch.stack(latents).to(next(network.parameters()))]
        if self.classes:
            inputs.append(torch.tensor(ids).to(self.device))
        found = network.styles(*inputs).float().cpu()
        return found if truncation is None else self.mean_style.lerp(found, truncation)

    def _class_ids(self, label: int | str | Many[int | str] | None) -> Any:
        """The class id, or one for each of several; None where there are no classes."""
        if label is None and self.classes:
            raise InputError(f"this generator draws {self.classes} classes: give label, {self._classes_in_words()}")
        return None if label is None else _each(self.class_id, label)

    def _draw(self, points: list[Tensor], ids: list[int], batch_size: int | None) -> list[np.ndarray]:
        """Images for latent vectors, or for styles of generators that have these."""
        dtype = stored_dtype(self.spec.output)
        like = next(self.generator.parameters())
        most_pixels = PIXELS_PER_BATCH_ON_CPU if self.device.type == "cpu" else PIXELS_PER_BATCH
        drawn: list[np.ndarray] = []
        count = batch_size or 1  # the first goes alone, to show how large they are
        while len(drawn) < len(points):
            batch = slice(len(drawn), len(drawn) + count)
            inputs = [torch.stack(points[batch]).to(like)]
            if ids and self.classes:
                inputs.append(torch.tensor(ids[batch]).to(self.device))
            values = self._compute(inputs)
            stored = self.codec.decode(values, dtype, torch.device("cpu")).movedim(1, -1).numpy()
            drawn += map(np.ascontiguousarray, stored)
            count = batch_size or max(1, most_pixels // values[0, 0].numel())
        return drawn

    def _compute(self, inputs: list[Tensor]) -> Tensor:
        try:
            return self._run(*inputs, eight_bits=self.spec.output.dtype == "uint8")
        except NotFinite:
            raise InputError(
                "the network returns NaN or infinite values, in fp32 too; its weights are damaged, or the latents lie "
                "far from N(0, 1)"
            ) from None
        except NotEnoughMemory:
            raise InputError(
                f"memory on {self.device} does not suffice to draw even one; close other programs, or use another "
                "device"
            ) from None


def _each(find: Callable[[Any], Found], given: Any) -> Found | list[Found]:
    """What `find` makes of the one, or of each of a list or of an array with one axis."""
    if isinstance(given, (np.ndarray, Tensor)) and given.ndim == 1:
        given = given.tolist()
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return [find(one) for one in given] if several else find(given)


def _repeat(given: Found | list[Found], count: int) -> list[Found]:
    return given if isinstance(given, list) else [given] * count
