"""Blended generators against the two that they lie between, and pairs that cannot be blended."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from i2i.checkpoints import Checkpoint, GeneratorSpec, ImageSide, open_checkpoint
from i2i.checkpoints.blend import blend
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import CompactGenerator, MSRResNetGenerator, SPADEGenerator, SRResNetGenerator

SIDE = ImageSide(channels=3, dtype="uint8", data_range=(0, 255), network_range=(0, 1))
SPEC = GeneratorSpec(input=SIDE, output=SIDE)


def checkpoint(network: nn.Module, *, spec: GeneratorSpec | None = SPEC, name: str = "a") -> Checkpoint:
    return Checkpoint(path=Path(name), family="toy", network=network.eval(), spec=spec, findings=())


def compact(*, scale: int = 2, name: str = "a", spec: GeneratorSpec = SPEC) -> Checkpoint:
    network = CompactGenerator(in_channels=3, out_channels=3, width=4, convs=2, scale=scale)
    return checkpoint(network, spec=spec, name=name)


@pytest.mark.parametrize("alpha", [0, 0.25, 0.8, 1])
def test_each_weight_lies_between(alpha: float) -> None:
    first, second = (checkpoint(SRResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1)) for _ in range(2))
    first.network.train()(torch.rand(2, 3, 8, 8))  # so that the statistics of the two differ
    before = [{key: tensor.clone() for key, tensor in c.network.state_dict().items()} for c in (first, second)]
    mixed = blend(first, second, alpha=alpha)
    for key, tensor in mixed.network.state_dict().items():
        a, b = (state[key] for state in before)
        if key.endswith("num_batches_tracked"):
            assert tensor == a
        else:
            torch.testing.assert_close(tensor, (1 - alpha) * a + alpha * b)
    for each, state in zip((first, second), before, strict=True):
        torch.testing.assert_close(dict(each.network.state_dict()), state, rtol=0, atol=0)
    assert mixed.spec == SPEC


@torch.no_grad()
def test_images_are_blended_as_the_last_convolution_is() -> None:
    first, second = compact(), compact()
    second.network.body[:-1].load_state_dict(first.network.body[:-1].state_dict())
    images = torch.rand(2, 3, 5, 6)
    expected = 0.3 * first.network(images) + 0.7 * second.network(images)
    torch.testing.assert_close(blend(first, second, alpha=0.7).network(images), expected)


@pytest.mark.data
def test_the_ends_are_the_two_files(data_dir: Path) -> None:
    first = open_checkpoint(data_dir / "weights" / "realesr-animevideov3.pth")
    second = open_checkpoint(data_dir / "weights" / "realesr-animevideov3.pth")
    for parameter in second.network.parameters():
        nn.init.normal_(parameter)
    for alpha, end in ((0, first), (1, second)):
        mixed = blend(first, second, alpha=alpha).network.state_dict()
        for key, tensor in end.network.state_dict().items():
            assert torch.equal(mixed[key], tensor), key


def norm_free() -> Checkpoint:
    return checkpoint(MSRResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1, scale=2), name="b")


def other_range() -> Checkpoint:
    sixteen = replace(SIDE, dtype="uint16", data_range=(0, 65535))
    return compact(spec=replace(SPEC, output=sixteen), name="b")


def judge() -> Checkpoint:
    return checkpoint(PatchDiscriminator(in_channels=3, width=4), spec=None, name="b")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (norm_free, "a and b cannot be blended, .* CompactGenerator and MSRResNetGenerator"),
        (lambda: compact(scale=4, name="b"), "a and b cannot be blended, .* scale is 2 and 4"),
        (other_range, r"a and b cannot be blended, .* output's data_range is \(0, 255\) and \(0, 65535\)"),
        (judge, "b is a toy; only generators"),
    ],
    ids=["network", "scale", "range", "discriminator"],
)
def test_others_are_refused(other: Callable[[], Checkpoint], says: str) -> None:
    with pytest.raises(InputError, match=says):
        blend(compact(), other(), alpha=0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(InputError, match=rf"alpha: expected a number from 0 .* got {alpha}"):
        blend(compact(), compact(), alpha=alpha)


def test_spectral_norm_is_refused() -> None:
    network = SPADEGenerator(in_channels=3, width=1, hidden_width=2)
    with pytest.raises(InputError, match="spectrally normalised"):
        blend(checkpoint(network), checkpoint(network), alpha=0.5)
