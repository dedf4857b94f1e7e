"""Network interpolation (ESRGAN, Wang et al. 2018, §3.4): two generators mixed weight by weight."""

from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from i2i.checkpoints.foreign import Checkpoint
from i2i.errors import InputError


def blend(a: Checkpoint, b: Checkpoint, *, alpha: float) -> Checkpoint:
    """The generator whose weights are (1 - alpha) · a + alpha · b, ESRGAN's equation 6.

    It works where one of the two was trained on from the other, or both from one start, and gives results between
    theirs: ESRGAN goes from PSNR-trained weights to GAN-trained ones, Real-ESRGAN from a generator that leaves noise
    in to one that removes it.

    Args:
        a: result for alpha 0.
        b: result for alpha 1.
        alpha: from 0 to 1. Beyond, running variances may turn negative.

    Returns:
        As `a`, with a network of its own, on the CPU, in eval mode.

    Raises:
        InputError: alpha is out of range, one of the two is no generator, their networks or what they expect of images
            differ, or they are spectrally normalised.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha: expected a number from 0 (the first weights alone) to 1 (the second), got {alpha}")
    for checkpoint in (a, b):
        if checkpoint.spec is None:
            raise InputError(f"{checkpoint.path} is a {checkpoint.family}; only generators can be blended")
    if differences := _differences(a, b):
        raise InputError(
            f"{a.path} and {b.path} cannot be blended, for they differ: {'; '.join(differences)}. Give two generators "
            "of one kind, of which one was trained on from the other"
        )
    if any(is_parametrized(module) for module in a.network.modules()):
        raise InputError(
            f"{a.path} ({a.family}) is spectrally normalised, and means of such weights do not make a mean network: "
            "give a generator without spectral norm"
        )
    network: nn.Module = deepcopy(a.network)
    second = b.network.state_dict()
    # What is no floating-point number is a count of batches, without effect on results.
    network.load_state_dict(
        {
            name: first.lerp(second[name], alpha) if first.is_floating_point() else first
            for name, first in a.network.state_dict().items()
        }
    )
    return replace(a, network=network)


def _differences(a: Checkpoint, b: Checkpoint) -> list[str]:
    if type(a.network) is not type(b.network):
        return [f"{type(a.network).__name__} and {type(b.network).__name__}"]
    first, second = _facts(a), _facts(b)
    return [f"{name} is {value!r} and {second[name]!r}" for name, value in first.items() if value != second[name]]


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """How a network is built and used, by what people call it."""
    spec = checkpoint.spec
    assert spec is not None
    facts: dict[str, Any] = dict(vars(checkpoint.network)["arguments"])
    for name, side in (("input", spec.input), ("output", spec.output)):
        if side is not None:
            facts |= {f"{name}'s {field}": value for field, value in asdict(side).items()}
    return facts | {"normalisation at inference": spec.normalisation, "dropout at inference": spec.dropout}
