"""A trained generator as a function of images: any kind, depth and size goes in, the same comes out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from i2i.checkpoints.store import GeneratorSpec, ImageSide, find_generator, load_generator
from i2i.data.image_io import dtype_range, read_image, rescale
from i2i.errors import InputError
from i2i.layers.norm import Normalisation, set_inference_mode

AnyImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

# Sixteen images of 256 px: enough to keep a device busy, little enough for a laptop.
PIXELS_PER_BATCH = 2**20
# Networks mirror at the border of maps that they have halved; smaller images would leave nothing to mirror.
SMALLEST_PX = 8


def load(
    path: str | Path,
    *,
    device: str | torch.device | None = None,
    normalisation: Normalisation | None = None,
    dropout: bool | None = None,
) -> "Translator":
    """Load a trained generator, ready to translate images.

    Args:
        path: a generator's folder (`generator.safetensors` and `config.json`), or the folder of a run with
            exactly one generator in it.
        device: where it runs; the CPU unless given. "auto" takes an accelerator (CUDA, MPS, …) if any.
        normalisation: "eval" (BatchNorm's running statistics) or "per_image" (statistics of each image alone,
            never of its neighbours in a batch); what is stored with the weights unless given.
        dropout: True leaves dropout on, so that results vary; what is stored with the weights unless given.

    Raises:
        InputError: no generator or several at `path`, a damaged file, or a device that is not there.
    """
    generator, spec = load_generator(find_generator(path))
    spec = replace(
        spec,
        normalisation=spec.normalisation if normalisation is None else normalisation,
        dropout=spec.dropout if dropout is None else dropout,
    )
    translator = Translator(generator=generator, spec=spec)
    try:
        return translator.to(_find_device(device))
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA fails an assertion
        raise InputError(f'device {str(device)!r} cannot be used: {error}; try "auto" or "cpu"') from error


class Translator(nn.Module):
    """Translates images with a trained generator; call it with an image or with a list of images.

    An image is one of these, and comes back as the same kind:

    - a path of a file that `i2i.data.image_io.read_image` reads; an array (H, W, C) comes back;
    - a PIL image of 8 bits, or of one channel of 16 bits or float;
    - a NumPy array (H, W, C), or (H, W), which comes back as (H, W) where one channel comes out;
    - a tensor (C, H, W) or (N, C, H, W) on any device, which comes back there.

    What its values mean follows from its dtype and that of the training images (`spec.input`, `spec.output`):

    - the training dtype: the data's own units;
    - float, for training on integers: [0, 1] stands for the data range, as in torchvision and kornia;
    - uint8 or uint16, for training on the other: its full range stands for the data range;
    - anything, for training on float: the data's own units.

    It comes back in the dtype in which it came, integers rounded and clipped; but where one side was trained
    on float, integers come back as float32.

    Any height and width: images are padded inside to what the network needs, and the result is cropped to
    (H · scale, W · scale). Nothing is recorded for gradients.

    As an nn.Module it stands in `nn.Sequential`, torchvision's v2 `Compose` and kornia's containers. It stays
    in inference mode whatever `.train()` or `.eval()` is called on it or around it.

    Args:
        generator: the network, with `size_multiple` and `scale`; it is put in inference mode.
        spec: what it expects and returns.

    Raises:
        InputError: the generator takes latent vectors, no images.
    """

    def __init__(self, *, generator: nn.Module, spec: GeneratorSpec) -> None:
        super().__init__()
        size_multiple, scale = (getattr(generator, name, None) for name in ("size_multiple", "scale"))
        if spec.input is None or not isinstance(size_multiple, int) or not isinstance(scale, int):
            raise InputError(
                f"{type(generator).__name__} draws from latent vectors and translates no images; "
                "build it with i2i.checkpoints.store.load_generator and call it yourself"
            )
        self.generator = generator
        self.spec = spec
        self._input, self._output = spec.input, spec.output
        self._size_multiple, self._scale = size_multiple, scale
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
    def forward(self, images: AnyImage | Sequence[AnyImage], *, batch_size: int | None = None) -> Any:
        """Translate an image or a list of images; the class says which kinds, dtypes and ranges.

        Args:
            images: one image, a batched tensor, or a list or tuple of these.
            batch_size: how many images of equal padded size go through the network together; as many as
                make a million pixels unless given.

        Returns:
            The translation of each image: the same kind, dtype and device.

        Raises:
            InputError: not an image, the wrong number of channels, an unusable dtype, NaN or infinite values,
                floats far outside [0, 1] for a network trained on integers, or no pixels at all.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        if not isinstance(images, (list, tuple)):
            return self._translate([_open(images, "the image")], batch_size)[0]
        return self._translate([_open(image, f"images[{i}]") for i, image in enumerate(images)], batch_size)

    def _translate(self, pictures: list["_Picture"], batch_size: int | None) -> list[Any]:
        groups = defaultdict(list)
        for p, picture in enumerate(pictures):
            self._check(picture)
            for n, image in enumerate(picture.images):
                groups[_padded_size(image, self._size_multiple)].append((p, n))

        results: dict[tuple[int, int], Tensor] = {}
        for (height, width), members in groups.items():
            count = batch_size or max(1, PIXELS_PER_BATCH // (height * width))
            for start in range(0, len(members), count):
                batch = members[start : start + count]
                translations = self._translate_batch([pictures[p].images[n] for p, n in batch])
                results.update(zip(batch, translations, strict=True))

        return [
            picture.rebuild(torch.stack([results[p, n] for n in range(len(picture.images))]))
            for p, picture in enumerate(pictures)
        ]

    def _translate_batch(self, images: list[Tensor]) -> list[Tensor]:
        """Images (C, H, W) of equal padded size, each translated to its own size, dtype and device."""
        inputs = torch.stack([self._encode(image) for image in images])
        outputs = self.generator(inputs)
        return [self._decode(output, like=image) for output, image in zip(outputs, images, strict=True)]

    def _encode(self, image: Tensor) -> Tensor:
        parameter = next(self.generator.parameters())
        # Integers cross to the device at their own depth; float64 does not exist on Apple's.
        values = (image.float() if image.is_floating_point() else image).to(parameter.device)
        source = _range_of(self._input, image.dtype)
        values = rescale(values, source=source, target=self._input.network_range)
        return _pad(values, _padded_size(image, self._size_multiple)).to(parameter.dtype)

    def _decode(self, output: Tensor, *, like: Tensor) -> Tensor:
        height, width = (length * self._scale for length in like.shape[-2:])
        dtype = like.dtype
        if not dtype.is_floating_point and "float32" in (self._input.dtype, self._output.dtype):
            dtype = torch.float32
        target = _range_of(self._output, dtype)
        values = rescale(output[:, :height, :width], source=self._output.network_range, target=target)
        if dtype.is_floating_point:
            return values.to(like.device).to(dtype)
        limits = torch.iinfo(dtype)
        return values.round().clamp(limits.min, limits.max).to(dtype).to(like.device)

    def _check(self, picture: "_Picture") -> None:
        side, images, name = self._input, picture.images, picture.name
        if 0 in images.shape:
            raise InputError(f"{name} has no pixels: its shape is {picture.shape}")
        if images.shape[1] != side.channels:
            raise InputError(
                f"{name} has {images.shape[1]} channels (shape {picture.shape}); the network was trained on "
                f"{side.channels}. Arrays are (H, W, C) or (H, W), tensors (C, H, W) or (N, C, H, W); "
                "convert the image"
            )
        if images.dtype.is_floating_point:
            self._check_floats(images, name)
        elif side.dtype != "float32" and images.dtype not in (torch.uint8, torch.uint16):
            raise InputError(
                f"{name} is {_name(images.dtype)}; expected uint8, uint16, or float in [0, 1], "
                f"for the network was trained on {side.dtype} images; convert it"
            )

    def _check_floats(self, images: Tensor, name: str) -> None:
        bad = int((~images.isfinite()).sum())
        if bad:
            raise InputError(
                f"{name} has {bad} NaN or infinite values among {images.numel()}; "
                "expected finite values: replace them first"
            )
        low, high = images.min().item(), images.max().item()
        # Resampling overshoots a little; values of another convention, such as 0 to 255, go far beyond.
        if self._input.dtype != "float32" and not (low >= -0.5 and high <= 1.5):
            raise InputError(
                f"{name} is float and goes from {low:g} to {high:g}; expected [0, 1], for the network was "
                f"trained on {self._input.dtype} images: rescale it, or convert it to that dtype"
            )


class _Picture(NamedTuple):
    """What a person handed in, and the way back to its kind."""

    images: Tensor  # (N, C, H, W), values as they came
    shape: tuple[int, ...]  # as it was handed in
    name: str  # for messages
    rebuild: Callable[[Tensor], Any]  # from the translated (N, C, H, W)


def _open(image: object, name: str) -> _Picture:
    match image:
        case str() | Path():
            array = read_image(Path(image))
            return _Picture(_array_to_tensor(array, str(image)), array.shape, str(image), _tensor_to_array)
        case Image.Image():
            array = _pil_to_array(image)
            return _Picture(_array_to_tensor(array, name), array.shape, name, _tensor_to_pil)
        case np.ndarray():
            rebuild = _tensor_to_flat_array if image.ndim == 2 else _tensor_to_array
            return _Picture(_array_to_tensor(image, name), image.shape, name, rebuild)
        case Tensor():
            return _open_tensor(image, name)
    raise InputError(
        f"{name} is of type {type(image).__name__}; expected a path, a PIL image, a NumPy array (H, W, C) or "
        "(H, W), a tensor (C, H, W) or (N, C, H, W), or a list of these"
    )


def _open_tensor(image: Tensor, name: str) -> _Picture:
    if image.ndim not in (3, 4):
        raise InputError(f"{name}: expected a tensor (C, H, W) or (N, C, H, W), got {tuple(image.shape)}")
    if image.dtype == torch.bool or image.dtype.is_complex:
        raise InputError(f"{name}: expected a tensor of integers or floats, got {_name(image.dtype)}")

    def rebuild(result: Tensor) -> Tensor:
        # torchvision's Image and its like are tensors too, and v2 transforms ask which.
        return (result if image.ndim == 4 else result[0]).as_subclass(type(image))

    plain = image.detach().as_subclass(Tensor)
    return _Picture(plain if plain.ndim == 4 else plain[None], tuple(plain.shape), name, rebuild)


def _array_to_tensor(array: np.ndarray, name: str) -> Tensor:
    if array.ndim not in (2, 3):
        raise InputError(f"{name}: expected an array (H, W, C) or (H, W), got shape {array.shape}")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected an array of integers or floats, got {array.dtype}")
    # A copy, for torch takes neither read-only memory, nor negative strides, nor another byte order.
    copy = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(copy if copy.ndim == 3 else copy[..., None]).permute(2, 0, 1)[None]


def _tensor_to_array(result: Tensor) -> np.ndarray:
    return np.ascontiguousarray(result[0].permute(1, 2, 0).numpy())


def _tensor_to_flat_array(result: Tensor) -> np.ndarray:
    array = _tensor_to_array(result)
    return array[..., 0] if array.shape[2] == 1 else array


def _pil_to_array(image: Image.Image) -> np.ndarray:
    match image.mode:
        case "1":
            image = image.convert("L")
        case "P":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "CMYK" | "YCbCr" | "LAB" | "HSV":
            image = image.convert("RGB")
    return np.asarray(image)


def _tensor_to_pil(result: Tensor) -> Image.Image:
    array = _tensor_to_flat_array(result)
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels > 4 or (channels > 1 and array.dtype != np.uint8):
        raise InputError(
            f"PIL has no image of {channels} channels of {array.dtype}, which the network returns; "
            "hand in a NumPy array or a tensor instead"
        )
    return Image.fromarray(array)


def _range_of(side: ImageSide, dtype: torch.dtype) -> tuple[float, float]:
    """The values that stand for the side's data_range in an image of this dtype."""
    if side.dtype in ("float32", _name(dtype)):
        return side.data_range
    if dtype.is_floating_point:
        return (0.0, 1.0)
    full = dtype_range(_name(dtype))
    assert full is not None
    return full


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _padded_size(image: Tensor, multiple: int) -> tuple[int, int]:
    height, width = (max(length, SMALLEST_PX) for length in image.shape[-2:])
    return height + -height % multiple, width + -width % multiple


def _pad(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad (C, H, W) below and to the right by mirroring, or by repeating the edge where it is too small."""
    height, width = image.shape[-2:]
    below, right = size[0] - height, size[1] - width
    image = F.pad(image[None], (0, right, 0, 0), mode="reflect" if right < width else "replicate")
    return F.pad(image, (0, 0, 0, below), mode="reflect" if below < height else "replicate")[0]


def _find_device(device: str | torch.device | None) -> torch.device:
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    return torch.device(device or "cpu")
