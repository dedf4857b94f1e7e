"""Label maps on their way into a network: class ids checked, edges between instances found, sizes made to fit."""

import torch
from torch import Tensor

from i2i.checkpoints.store import ImageSide
from i2i.errors import InputError
from i2i.inference.pictures import Picture, check_pixels, dtype_name
from i2i.layers.edges import instance_edges


def prepare_labels(
    picture: Picture, side: ImageSide, *, instances: Picture | None = None, size: tuple[int, int] | None = None
) -> Picture:
    """A label map in the form that `Codec.encode` takes pieces of.

    Args:
        picture: class ids (N, 1, H, W), as `side` says; colours (N, 3, H, W) uint8 of `side.palette`; or
            (N, side.channels, H, W), one-hot already.
        side: the network's input.
        instances: (N, C, H, W), a number or colour for each object. Unless given, the edges between instances are
            those between classes.
        size: height and width that both are resized to, by nearest neighbours; None keeps theirs.

    Returns:
        The picture with integers (N, 1 or 2, H', W'): ids, `side.classes` for "don't care"; where `side.instances`,
        also 1 at edges and 0 elsewhere. One-hot maps stay so, in a floating-point type.

    Raises:
        InputError: several channels that are not one-hot, ids or colours that are no integers or unknown, or
            instances that the network does not know or of another size.
    """
    check_pixels(picture)
    if side.palette is not None and picture.images.shape[1] in (3, 4) and picture.images.dtype == torch.uint8:
        picture = picture._replace(images=_looked_up(picture.images[:, :3], picture.name, side))
    if side.channels > 1 and picture.images.shape[1] == side.channels:
        return _prepare_one_hot(picture, instances, size)
    ids = _class_ids(picture, side)
    objects = picture.images if instances is None else _fitting_instances(instances, picture, side)
    if size is not None:
        ids, objects = _resize_nearest(ids, size), _resize_nearest(objects, size)
    channels = [ids]
    if side.instances:
        edges = instance_edges(objects).any(dim=1, keepdim=True)
        channels.append(edges.to(ids.device, ids.dtype))
    return picture._replace(images=torch.cat(channels, dim=1))


def _prepare_one_hot(picture: Picture, instances: Picture | None, size: tuple[int, int] | None) -> Picture:
    images = picture.images if picture.images.is_floating_point() else picture.images.float()
    low, high = (limit.item() for limit in images.aminmax())
    if not (low >= -0.5 and high <= 1.5):  # as resampling leaves them; nor NaN
        raise InputError(
            f"{picture.name} has as many channels as the network's one-hot label maps, but values from {low:g} to "
            f"{high:g}; expected 0 and 1, or one channel of class ids"
        )
    if instances is not None:
        raise InputError(f"{instances.name}: a one-hot label map holds its edges already; leave the instances out")
    return picture._replace(images=images if size is None else _resize_nearest(images, size))


def _class_ids(picture: Picture, side: ImageSide) -> Tensor:
    """Ids (N, 1, H, W) from 0 to `side.classes` − 1, and `side.classes` for "don't care"."""
    images, name = picture.images, picture.name
    first, end = side.first_id, side.first_id + side.classes
    known = f"{first} to {end - 1}"
    if images.shape[1] in (3, 4) and bool((images[:, :1] == images[:, 1:3]).all()):
        images = images[:, :1]  # grey, saved as colour
    if images.shape[1] != 1:
        raise InputError(
            f"{name}: expected a label map of one channel, class ids from {known}, got {images.shape[1]} channels "
            f"(shape {picture.shape}). If colours stand for classes, put a class id in the place of each"
        )
    if images.dtype.is_floating_point:
        raise InputError(f"{name} is {dtype_name(images.dtype)}; expected class ids, which are integers")
    ids = _as_signed(images)
    of_no_class = (ids < first) | (ids == side.dont_care_id)
    unknown = of_no_class | (ids >= end)
    if side.dont_care:
        unknown &= ~of_no_class
    if unknown.any():
        raise _unknown_ids(ids[unknown], name, known, side)
    small = torch.uint8 if side.channels <= 256 else torch.int32
    return (ids - first).masked_fill(of_no_class, side.classes).to(small)


def _looked_up(colours: Tensor, name: str, side: ImageSide) -> Tensor:
    """The class ids (N, 1, H, W) that colours (N, 3, H, W) stand for."""
    codes, known = _colour_codes(colours), _colour_codes(torch.tensor(side.palette).T.to(colours.device))
    known, order = known.sort()
    places = torch.searchsorted(known, codes.contiguous()).clamp(max=len(known) - 1)
    strange = known[places] != codes
    if strange.any():
        code = int(codes[strange][0])
        colour = (code >> 16, code >> 8 & 255, code & 255)
        raise InputError(
            f"{name} has the colour {colour} in {int((codes == code).sum())} pixels, and {int(strange.sum())} pixels "
            f"in all have colours that the network's palette has not; expected one of its {side.classes}, or class ids"
        )
    return side.first_id + order[places][:, None]


def _colour_codes(colours: Tensor) -> Tensor:
    """One number for each colour: (N, 3, H, W) to (N, H, W), (3, N) to (N,)."""
    red, green, blue = colours.long().unbind(-3 if colours.ndim == 4 else 0)
    return red << 16 | green << 8 | blue


def _unknown_ids(unknown: Tensor, name: str, known: str, side: ImageSide) -> InputError:
    labels, counts = unknown.unique(return_counts=True)
    label, count = int(labels[0]), int(counts[0])
    if label == side.dont_care_id:
        return InputError(
            f'{name} has {label}, which stands for "don\'t care", in {count} pixels; the network was trained without '
            f"don't care and knows {known}: map {label} to one of these. If it has a channel for such pixels, say so: "
            "dont_care=True, --dont-care"
        )
    return InputError(
        f"{name} has the class id {label} in {count} pixels; the network knows {known}: map it to one of these"
    )


def _fitting_instances(instances: Picture, labels: Picture, side: ImageSide) -> Tensor:
    if not side.instances:
        raise InputError(
            f"{instances.name}: the network was trained without edges between instances; leave the instances out. If "
            "its last channel is for them, say so: instance_edges=True, --instance-edges"
        )
    count, _, height, width = labels.images.shape
    found = instances.images.shape
    if (found[0], *found[2:]) != (count, height, width):
        raise InputError(
            f"{instances.name}: expected instances for {count} label map{'s' * (count != 1)} of {width} x {height} px, "
            f"got {found[0]} of {found[3]} x {found[2]} px; both must show the same"
        )
    return instances.images if instances.images.is_floating_point() else _as_signed(instances.images)


def _as_signed(numbers: Tensor) -> Tensor:
    """Integers of a type that torch compares on every device."""
    return numbers.to(torch.int32 if numbers.dtype.itemsize < 4 else torch.int64)


def _resize_nearest(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Each pixel of the result takes the one that its centre falls into."""
    rows, columns = (
        ((torch.arange(new) + 0.5) * (old / new)).long().to(images.device)
        for new, old in zip(size, images.shape[2:], strict=True)
    )
    return images[:, :, rows[:, None], columns]
