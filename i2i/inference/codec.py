"""Between images in the data's own units and what a network takes and returns."""

import torch
from torch import Tensor

from i2i.checkpoints.store import ImageSide
from i2i.data.image_io import dtype_range, rescale
from i2i.errors import InputError
from i2i.inference.pictures import Picture, check_pixels, dtype_name, round_to
from i2i.layers.labels import one_hot

PHYSICAL = ("float32", "any")  # dtypes of sides whose values are in units of their own


class Codec:
    """Encodes images for a network and decodes its results, whole or piece by piece.

    Args:
        input, output: what the network was trained on and trained to return.
        size_multiple: the network takes sides that are multiples of it, in pixels.
        smallest_px: and sides that are no smaller.
        scale: how many times larger its results are.
        only_size: the height and width that it takes, where it takes no others.
    """

    def __init__(
        self,
        *,
        input: ImageSide,
        output: ImageSide,
        size_multiple: int,
        smallest_px: int,
        scale: int,
        only_size: tuple[int, int] | None = None,
    ) -> None:
        self.input = input
        self.output = output
        self.size_multiple = size_multiple
        self.smallest_px = smallest_px
        self.scale = scale
        self.only_size = only_size

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size not below `height` and `width` that the network takes."""
        height, width = max(height, self.smallest_px), max(width, self.smallest_px)
        return height + -height % self.size_multiple, width + -width % self.size_multiple

    def result_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """In which dtype the translation of an image of `dtype` comes back."""
        physical = "float32" in (self.input.dtype, self.output.dtype)
        integers = not dtype.is_floating_point
        if self.input.labels:
            return stored_dtype(self.output)
        return torch.float32 if integers and physical else dtype

    def encode(
        self, image: Tensor, rows: range, columns: range, device: torch.device, *, label_ids: bool = False
    ) -> Tensor:
        """A piece of an image for the network.

        Args:
            image: (C, H, W), on any device; a label map as `i2i.inference.labels.prepare_labels` makes it, or float,
                one-hot.
            rows, columns: which; beyond the image's last pixel it is continued as in a mirror.
            device: where the result is wanted.
            label_ids: leave the ids of a label map as they are, for a network that looks weights up by them.

        Returns:
            float32 (C', rows, columns) in the network's own range; with `label_ids` the piece of a label map.
        """
        piece = image[:, rows.start : rows.stop, columns.start : columns.stop]
        if piece.shape[1:] != (len(rows), len(columns)):
            y, x = _mirror(rows, image.shape[1]), _mirror(columns, image.shape[2])
            piece = image[:, y[:, None], x]
        # Integers cross to the device at their own depth; float64 does not exist on Apple's.
        piece = (piece.float() if piece.is_floating_point() else piece).to(device)
        if self.input.labels:
            return (
                piece
                if label_ids or piece.is_floating_point()
                else one_hot(piece[None], channels=self.input.channels)[0]
            )
        return rescale(piece, source=_range_of(self.input, image.dtype), target=self.input.network_range)

    def decode(self, values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The network's values, of any shape, as results of `dtype` on `device`."""
        return self._store(values, self.output.network_range, dtype, device)

    def store(self, results: Tensor, dtype: torch.dtype) -> Tensor:
        """Results of float32, which further work was done on, as results of `dtype`."""
        return self._store(results, _range_of(self.output, results.dtype), dtype, results.device)

    def as_results(self, images: Tensor) -> Tensor:
        """Images as float32 in the units in which results of float32 come, to be compared with them."""
        target = _range_of(self.output, torch.float32)
        return rescale(images, source=_range_of(self.input, images.dtype), target=target)

    def takes_alpha(self, dtype: torch.dtype) -> bool:
        """Whether transparency of images of `dtype` spans what the network calls black and white."""
        full = (0.0, 1.0) if dtype.is_floating_point else dtype_range(dtype_name(dtype))
        return all(_range_of(side, dtype) == full for side in (self.input, self.output))

    def _store(self, values: Tensor, source: tuple[float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
        values = rescale(values, source=source, target=_range_of(self.output, dtype))
        if dtype.is_floating_point:
            if self.output.dtype not in PHYSICAL:
                values = values.clamp(0.0, 1.0)  # as integers are: the network was trained to stay within
            return values.to(device).to(dtype)
        return round_to(values, dtype).to(device)

    def check(self, picture: Picture) -> None:
        """Raise InputError unless the network can take the picture, which is no label map."""
        side, images, name = self.input, picture.images, picture.name
        check_pixels(picture)
        if images.shape[1] != side.channels:
            raise InputError(
                f"{name}: expected {side.channels} channels, as the network takes, got {images.shape[1]} (shape "
                f"{picture.shape}). Arrays are (H, W, C) or (H, W), tensors (C, H, W) or (N, C, H, W); "
                "convert the image"
            )
        if images.dtype.is_floating_point:
            self._check_floats(images, name)
        elif side.dtype not in PHYSICAL and images.dtype not in (torch.uint8, torch.uint16):
            raise InputError(
                f"{name} is {dtype_name(images.dtype)}; expected uint8, uint16, or float in [0, 1], "
                f"for the network was trained on {side.dtype} images; convert it"
            )

    def _check_floats(self, images: Tensor, name: str) -> None:
        # Half the memory of looking at each value: NaN and infinity carry over to the extremes.
        low, high = (limit.item() for limit in images.aminmax())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            bad = int((~images.isfinite()).sum())
            raise InputError(
                f"{name} has {bad} NaN or infinite values among {images.numel()}; "
                "expected finite values: replace them first"
            )
        # Resampling overshoots a little; values of another convention, such as 0 to 255, go far beyond.
        if self.input.dtype not in PHYSICAL and not (low >= -0.5 and high <= 1.5):
            raise InputError(
                f"{name} has values from {low:g} to {high:g}; expected floats in [0, 1], uint8 or uint16, for the "
                f"network was trained on {self.input.dtype} images: convert it, or say what is black and white in its "
                "units (input_range, --input-range LOW HIGH)"
            )


def stored_dtype(side: ImageSide) -> torch.dtype:
    """In which dtype images of this side are stored: that of the training images, or float32 for physical values."""
    return torch.float32 if side.dtype in PHYSICAL else getattr(torch, side.dtype)


def _range_of(side: ImageSide, dtype: torch.dtype) -> tuple[float, float]:
    """The values that stand for the side's data_range in an image of this dtype."""
    if side.dtype in (*PHYSICAL, dtype_name(dtype)):
        return side.data_range
    if dtype.is_floating_point:
        return (0.0, 1.0)
    full = dtype_range(dtype_name(dtype))
    assert full is not None
    return full


def _mirror(places: range, length: int) -> Tensor:
    """The places of an axis continued beyond its end by mirroring, or by its last pixel where it is too short."""
    index = torch.arange(places.start, places.stop)
    beyond = places.stop - length
    if beyond < length:
        return torch.where(index < length, index, 2 * (length - 1) - index)
    return index.clamp(max=length - 1)
