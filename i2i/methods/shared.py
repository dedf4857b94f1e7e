"""What several methods share: joint passes, remarks on penalties, how far two sets of images are apart, variety."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from i2i.layers.minibatch import MinibatchLayer, MinibatchStdDev
from i2i.losses.penalties import Penalties
from i2i.metrics import mean_distances, patch_descriptors, sliced_wasserstein, small_images


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def mixes_samples(network: nn.Module) -> bool:
    """Whether what a network makes of one sample depends on the others in its batch while it trains."""
    return has_batch_norm(network) or any(isinstance(module, MinibatchLayer) for module in network.modules())


def can_join(network: nn.Module, batches: Sequence[Tensor]) -> bool:
    """Whether a network makes of several batches at once what it makes of each: nothing mixes images, sizes agree."""
    return not mixes_samples(network) and len({batch.shape[1:] for batch in batches}) == 1


def penalty_remarks(penalties: Penalties, *, discriminator: nn.Module, precision: str) -> list[str]:
    """What whoever starts a run should know about its penalties, a sentence each; nothing without penalties."""
    if not penalties.any:
        return []
    remarks = []
    if precision != "fp32":
        remarks.append(f"Gradient penalties are computed in fp32, though the precision is {precision}.")
    # One number for each group of samples changes their gradients little: progressive growing and StyleGAN have both.
    told_little = any(isinstance(module, MinibatchStdDev) for module in discriminator.modules())
    if has_batch_norm(discriminator) or (mixes_samples(discriminator) and not told_little):
        remarks.append(
            "Warning: gradient penalties are of single samples, but this discriminator mixes those of a batch: take "
            "one without batch norm or minibatch discrimination."
        )
    return remarks


def describe_sides(side: str, *, fake: Tensor, real: Tensor, pairs: bool = False) -> dict[str, Tensor]:
    """For `Method.validate`: patches of generated images of a side and of its real ones, both (N, C, H, W).

    pairs: real ones are what the generated ones should be, and patches of both lie in the same places.
    """
    return {
        f"{kind}_{side}/{level}": patches
        for kind, images in (("fake", fake), ("real", real))
        for level, patches in patch_descriptors(images, like=real if pairs else None).items()
    }


def side_distance(side: str, descriptors: dict[str, Tensor]) -> float:
    """For `Method.distances`: the sliced Wasserstein distance of what `describe_sides` described."""
    real, fake = (
        {name.removeprefix(kind): patches for name, patches in descriptors.items() if name.startswith(kind)}
        for kind in (f"real_{side}/", f"fake_{side}/")
    )
    return sliced_wasserstein(real, fake)["swd"]


def describe_variety(*, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """For `Method.validate`: generated and real images (N, C, H, W), small enough that details do not count."""
    return {f"variety_{kind}": small_images(images) for kind, images in (("fake", fake), ("real", real))}


def relative_variety(descriptors: dict[str, Tensor]) -> float:
    """For `Method.distances`: mean distance of two generated images, next to that of two real ones.

    0: they are all alike; 1: they differ as much as real ones do.
    """
    of_fake, of_real = (mean_distances(descriptors[f"variety_{kind}"]).mean() for kind in ("fake", "real"))
    return (of_fake / of_real.clamp(min=1e-12)).item()
