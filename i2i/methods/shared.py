"""What several methods share: joint passes, and how far two sets of images are apart."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from i2i.layers.minibatch import MinibatchLayer
from i2i.metrics import patch_descriptors, sliced_wasserstein


def can_join(network: nn.Module, batches: Sequence[Tensor]) -> bool:
    """Whether a network makes of several batches at once what it makes of each: nothing mixes images, sizes agree."""
    mixes_images = any(isinstance(module, (_BatchNorm, MinibatchLayer)) for module in network.modules())
    return not mixes_images and len({batch.shape[1:] for batch in batches}) == 1


def describe_sides(side: str, *, fake: Tensor, real: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """For `Method.validate`: patches of generated images of a side and of its real ones, both (N, C, H, W).

    seed: decides where patches lie.
    """
    return {
        f"{kind}_{side}/{level}": patches
        for kind, images in (("fake", fake), ("real", real))
        for level, patches in patch_descriptors(images, seed=seed).items()
    }


def side_distance(side: str, descriptors: dict[str, Tensor]) -> float:
    """For `Method.distances`: the sliced Wasserstein distance of what `describe_sides` described."""
    real, fake = (
        {name.removeprefix(kind): patches for name, patches in descriptors.items() if name.startswith(kind)}
        for kind in (f"real_{side}/", f"fake_{side}/")
    )
    return sliced_wasserstein(real, fake)["swd"]
