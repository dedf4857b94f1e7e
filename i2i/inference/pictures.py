"""What a person hands in as an image, as a tensor, and the way back to its kind."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from i2i.data.image_io import ImageFile, read_image_file
from i2i.errors import InputError
from i2i.inference.transparency import AlphaUpsampler, confine, fill_hidden, is_soft, visibility

AnyImage: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's and OpenCV's conversion to grey


class Picture(NamedTuple):
    """One image, or a batched tensor of them.

    Attributes:
        images: (N, C, H, W), values as they came.
        shape: as it was handed in, for messages.
        name: for messages.
        rebuild: makes the kind that was handed in from the translated (N, C, H, W).
        alpha: whether the last channel is known to be transparency, as files and PIL images tell.
        grey: whether the other channels are known to be one of brightness, as in an array without channels.
    """

    images: Tensor
    shape: tuple[int, ...]
    name: str
    rebuild: Callable[[Tensor], Any]
    alpha: bool = False
    grey: bool = False


def open_picture(image: object, name: str, *, labels: bool = False) -> Picture:
    """Take an image of any kind.

    Args:
        image: a path, a PIL image, an array (H, W, C) or (H, W), a tensor (C, H, W) or (N, C, H, W).
        name: what to call it in messages; a file is called by its own name.
        labels: whether its numbers are names: those that are stored, rather than colours, are taken.

    Raises:
        InputError: none of these, or no numbers; labels from a JPEG.
    """
    match image:
        case str() | Path():
            return _open_file(Path(image), labels=labels)
        case Image.Image() if labels:
            array = _pil_to_labels(image, name)
            return Picture(array_to_tensor(array, name), array.shape, name, _tensor_to_pil)
        case Image.Image():
            array = _pil_to_array(image)
            alpha, grey = image.has_transparency_data, image.mode not in ("P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
            return Picture(array_to_tensor(array, name), array.shape, name, _tensor_to_pil, alpha, grey)
        case np.ndarray():
            image = image.astype(np.uint8) if labels and image.dtype == bool else image
            rebuild = _tensor_to_flat_array if image.ndim == 2 else tensor_to_array
            return Picture(array_to_tensor(image, name), image.shape, name, rebuild, grey=image.ndim == 2)
        case Tensor():
            return _open_tensor(image, name, labels=labels)
    raise InputError(
        f"{name} is of type {type(image).__name__}; expected a path, a PIL image, a NumPy array (H, W, C) or "
        "(H, W), a tensor (C, H, W) or (N, C, H, W), or a list of these"
    )


def open_page(page: np.ndarray, *, alpha: bool, name: str) -> Picture:
    """Take one page (H, W, C) of an image file; `alpha` says whether its last channel is transparency."""
    grey = page.shape[2] - alpha == 1
    return Picture(array_to_tensor(page, name), page.shape, name, tensor_to_array, alpha, grey)


def check_pixels(picture: Picture) -> None:
    """Raise InputError where a picture has none."""
    if 0 in picture.images.shape:
        raise InputError(f"{picture.name} has no pixels: its shape is {picture.shape}")


def open_pages(file: ImageFile, name: str) -> list[Picture]:
    """Take all pages of an image file."""
    names = [name] if len(file.pages) == 1 else [f"{name}, page {n}" for n in range(1, len(file.pages) + 1)]
    return [open_page(page, alpha=file.alpha, name=n) for page, n in zip(file.pages, names, strict=True)]


def rebuild_file(file: ImageFile, pages: tuple[np.ndarray, ...]) -> ImageFile:
    """The translated pages with what can be kept of the file's transparency and colour profile."""
    before, after = file.pages[0].shape[2], pages[0].shape[2]
    notes = list(file.notes)
    alpha = file.alpha and after in (2, 4)
    if file.alpha and not alpha:
        notes.append("transparency was left out: the network returns values in units of its own")
    profile = file.icc_profile if after - alpha == before - file.alpha else None
    if file.icc_profile is not None and profile is None:
        notes.append("the colour profile was left out: it is for another kind of image than the result")
    return ImageFile(pages=pages, alpha=alpha, icc_profile=profile, notes=tuple(notes))


def fit_channels(
    picture: Picture, *, channels: int, restores: bool, alpha_upsampler: AlphaUpsampler = "bicubic"
) -> Picture:
    """Set transparency aside and spread grey over three channels, where the network wants it so; both come back.

    Nothing is done to the channels of arrays and tensors, which may mean anything.

    Args:
        channels: what the network takes.
        restores: whether the network returns the same picture, so that grey comes back grey, and colours hidden by
            transparency are replaced by visible ones before they reach it.
        alpha_upsampler: how transparency is enlarged. "network": images of it in grey follow those of the colours,
            and whoever translates them hands back as many; only for networks that restore. "auto": so unless it is
            soft.
    """
    images, rebuild = picture.images, picture.rebuild
    colours = images.shape[1] - picture.alpha
    spread = picture.grey and colours == 1 and channels == 3
    if not spread and colours != channels:
        return picture
    alpha, images = images[:, colours:], images[:, :colours]
    shown = visibility(alpha)
    through_network = False
    if picture.alpha and restores and (shown < 1).any():
        images = round_to(fill_hidden(images.float(), shown), images.dtype)
        through_network = alpha_upsampler == "network" or (alpha_upsampler == "auto" and not is_soft(shown))
    images = images.expand(-1, channels, -1, -1)
    if through_network:
        images = torch.cat([images, alpha.expand(-1, channels, -1, -1)])

    def rebuild_all(result: Tensor) -> Any:
        enlarged = None
        if through_network:
            result, enlarged = result.chunk(2)
            enlarged = round_to(enlarged.float().mean(dim=1, keepdim=True), enlarged.dtype)
        if spread and restores and result.shape[1] == 3:
            result = _luma(result)
        # Where the result is in physical units, transparency in others would be no channel of its kind.
        if picture.alpha and result.shape[1] in (1, 3) and result.dtype == picture.images.dtype:
            enlarged = resize(alpha, result.shape[2:]) if enlarged is None else enlarged
            result = torch.cat([result, confine(enlarged, alpha)], dim=1)
        return rebuild(result)

    return picture._replace(images=images, rebuild=rebuild_all, alpha=False, grey=False)


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images (N, C, H, W) at another height and width, in their own dtype: bicubic, averaged where that shrinks."""
    if images.shape[2:] == tuple(size):
        return images
    resized = F.interpolate(images.float(), size=tuple(size), mode="bicubic", antialias=True)
    return round_to(resized, images.dtype)


def round_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values as `dtype`: rounded and clipped to its range where it holds integers."""
    if dtype.is_floating_point:
        return values.to(dtype)
    limits = torch.iinfo(dtype)
    return values.round().clamp(limits.min, limits.max).to(dtype)


def array_to_tensor(array: np.ndarray, name: str) -> Tensor:
    """(H, W, C) or (H, W) → (1, C, H, W), sharing memory where torch can."""
    if array.ndim not in (2, 3):
        raise InputError(f"{name}: expected an array (H, W, C) or (H, W), got shape {array.shape}")
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected an array of integers or floats, got {array.dtype}")
    # torch takes neither read-only memory, nor negative strides, nor another byte order.
    if not (array.flags.writeable and array.flags.c_contiguous and array.dtype.isnative):
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)[None]


def tensor_to_array(result: Tensor) -> np.ndarray:
    """(1, C, H, W) → (H, W, C)."""
    return np.ascontiguousarray(result[0].permute(1, 2, 0).numpy())


def dtype_name(dtype: torch.dtype) -> str:
    """ "uint8" for torch.uint8."""
    return str(dtype).removeprefix("torch.")


def _open_file(path: Path, *, labels: bool) -> Picture:
    file = read_image_file(path, labels=labels)
    if len(file.pages) > 1:
        raise InputError(
            f"{path} has {len(file.pages)} pages; `i2i translate` takes them all, or read them with "
            "i2i.data.image_io.read_image_file and hand in a list"
        )
    return open_page(file.pages[0], alpha=file.alpha, name=str(path))


def _open_tensor(image: Tensor, name: str, *, labels: bool) -> Picture:
    if labels:
        image = image.to(torch.uint8) if image.dtype == torch.bool else image
        image = image[None] if image.ndim == 2 else image
    if image.ndim not in (3, 4):
        raise InputError(f"{name}: expected a tensor (C, H, W) or (N, C, H, W), got {tuple(image.shape)}")
    if image.dtype == torch.bool or image.dtype.is_complex:
        raise InputError(f"{name}: expected a tensor of integers or floats, got {dtype_name(image.dtype)}")

    def rebuild(result: Tensor) -> Tensor:
        # torchvision's Image and its like are tensors too, and v2 transforms ask which.
        return (result if image.ndim == 4 else result[0]).as_subclass(type(image))

    plain = image.detach().as_subclass(Tensor)
    return Picture(plain if plain.ndim == 4 else plain[None], tuple(plain.shape), name, rebuild)


def _pil_to_array(image: Image.Image) -> np.ndarray:
    match image.mode:
        case "1":
            image = image.convert("L")
        case "P":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "CMYK" | "YCbCr" | "LAB" | "HSV":
            image = image.convert("RGB")
    return np.asarray(image)


def _pil_to_labels(image: Image.Image, name: str) -> np.ndarray:
    if image.format == "JPEG":
        raise InputError(f"{name} was read from a JPEG, which changes class ids; expected a label map from a PNG")
    array = np.asarray(image)  # of a palette, the indices
    return array.astype(np.uint8) if array.dtype == bool else array


def _tensor_to_flat_array(result: Tensor) -> np.ndarray:
    array = tensor_to_array(result)
    return array[..., 0] if array.shape[2] == 1 else array


def _tensor_to_pil(result: Tensor) -> Image.Image:
    array = _tensor_to_flat_array(result)
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels > 4 or (channels > 1 and array.dtype != np.uint8):
        raise InputError(
            f"PIL has no image of {channels} channels of {array.dtype}, which the network returns; "
            "hand in a NumPy array or a tensor instead"
        )
    return Image.fromarray(array)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=torch.float64, device=images.device)[:, None, None]
    return round_to((images.double() * weights).sum(dim=1, keepdim=True), images.dtype)
