"""What methods hand out for metrics that suit any of them: generated images, real ones and the truth, in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor, nn

from i2i.discriminators import DCGANDiscriminator, ProgressiveDiscriminator
from i2i.generators import DCGANGenerator, ProgressiveGenerator, ResNetGenerator
from i2i.methods.base import Comparison, Method
from i2i.methods.cut import CUT
from i2i.methods.cyclegan import CycleGAN
from i2i.methods.gan import GAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.progressive import ProgressiveGAN
from i2i.methods.spade import SemanticSynthesis
from i2i.methods.stabilisers import HistoricalAveraging, Replay
from i2i.methods.superres import SuperResolution


class Doubled(nn.Module):
    scale = 2

    def forward(self, images: Tensor) -> Tensor:
        return 3 * images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # some of it beyond white


class Painter(nn.Module):
    in_channels = 3

    def forward(self, labels: Tensor) -> Tensor:
        return labels * 2 - 1


def resnet() -> ResNetGenerator:
    return ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1, downsamplings=1).eval()


def images(count: int = 2, px: int = 32) -> Tensor:
    return torch.rand(count, 3, px, px) * 2 - 1


@torch.no_grad()
def compared(method: Method, batch: dict[str, Tensor]) -> dict[str, Comparison]:
    torch.manual_seed(7)
    return {name: value for name, value in method.validate(batch).items() if isinstance(value, Comparison)}


@torch.no_grad()
def assert_made(comparison: Comparison, generated: Tensor, real: Tensor, truth: Tensor | None) -> None:
    torch.testing.assert_close(comparison.generated, generated)
    torch.testing.assert_close(comparison.real, real)
    assert (comparison.truth is None) == (truth is None)
    if truth is not None:
        torch.testing.assert_close(comparison.truth, truth)


def test_paired_translation() -> None:
    generator, batch = resnet(), {"input": images(), "target": images()}
    found = compared(Pix2Pix(generator=generator, discriminator=nn.Identity()), batch)
    assert list(found) == ["compared"]
    assert_made(found["compared"], generator(batch["input"]), batch["target"], batch["target"])


def test_unpaired_translation_both_ways() -> None:
    a_to_b, b_to_a = resnet(), resnet()
    method = CycleGAN(a_to_b=a_to_b, b_to_a=b_to_a, discriminator_a=nn.Identity(), discriminator_b=nn.Identity())
    batch = {"a": images(), "b": images(), "truth_b": images()}
    found = compared(method, batch)
    assert list(found) == ["compared", "compared_b_to_a"]
    assert_made(found["compared"], a_to_b(batch["a"]), batch["b"], batch["truth_b"])
    assert_made(found["compared_b_to_a"], b_to_a(batch["b"]), batch["a"], None)


def test_unpaired_translation_one_way() -> None:
    generator, batch = resnet(), {"a": images(), "b": images()}
    method = CUT(generator=generator, discriminator=nn.Identity(), taps=(0,))
    assert_made(compared(method, batch)["compared"], generator(batch["a"]), batch["b"], None)
    batch["truth_b"] = images()
    assert_made(compared(method, batch)["compared"], generator(batch["a"]), batch["b"], batch["truth_b"])


def test_super_resolution_leaves_its_own_range() -> None:
    batch = {"input": torch.rand(2, 3, 16, 16), "target": torch.rand(2, 3, 32, 32)}
    found = compared(SuperResolution(generator=Doubled()), batch)["compared"]
    expected = Doubled()(batch["input"]).clamp(max=1) * 2 - 1
    assert_made(found, expected, batch["target"] * 2 - 1, batch["target"] * 2 - 1)
    assert found.generated.max() == 1 and found.real.min() < -0.5


def test_semantic_synthesis() -> None:
    method = SemanticSynthesis(generator=Painter(), discriminator=nn.Identity(), palette=np.zeros((3, 3), np.uint8))
    method.draw_styles = lambda count: None  # type: ignore[method-assign]
    labels, image = torch.randint(3, (2, 1, 32, 32)), images()
    hot = torch.stack([(labels[:, 0] == c).float() for c in range(3)], dim=1)
    assert_made(compared(method, {"labels": labels, "image": image})["compared"], hot * 2 - 1, image, image)


def test_samples_and_what_stands_around_a_method() -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(latent_channels=4, size=32, width=4).eval()
    gan = GAN(generator=generator, discriminator=DCGANDiscriminator(size=32, width=4))
    real = images(3)
    torch.manual_seed(7)
    expected = generator(torch.randn(3, 4))
    for method in (gan, Replay(HistoricalAveraging(gan, weight=1.0), capacity=3)):
        assert_made(compared(method, {"real": real})["compared"], expected, real, None)
    assert compared(gan, {"real": torch.randn(3, 2)}) == {}


def test_samples_of_a_stage_are_enlarged() -> None:
    generator = ProgressiveGenerator(latent_channels=5, width=4, size=8).eval()
    method = ProgressiveGAN(generator=generator, discriminator=ProgressiveDiscriminator(width=4, size=8))
    real = images(3)
    torch.manual_seed(7)
    expected = generator(torch.randn(3, 5)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert_made(compared(method, {"real": real})["compared"], expected, real, None)
