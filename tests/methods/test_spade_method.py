"""Semantic synthesis against the rules of the SPADE and pix2pixHD papers, written out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.discriminators import MultiscaleDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, SPADEGenerator
from i2i.losses.adversarial import LeastSquares, RelativisticAverage
from i2i.losses.penalties import Penalties
from i2i.methods.spade import SemanticSynthesis
from i2i.metrics import patch_descriptors, sliced_wasserstein
from i2i.metrics.semantic import SegmentationJudge

PALETTE = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)
STYLED = {"latent_channels": 4, "latent_height": 1, "latent_width": 1, "style_encoder_width": 2, "style_px": 32}


class Difference(nn.Module):
    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        return (fake - real).square().mean()


class Brightness(nn.Module):
    """A segmenter: what is brighter than grey is class 1, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        level = images.mean(1, keepdim=True)
        return torch.cat([-level, level, torch.full_like(level, -9.0)], dim=1)

    def features(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def make_batch(*, count: int = 3) -> dict[str, Tensor]:
    classes = torch.randint(0, 3, (count, 1, 32, 32))
    edges = torch.randint(0, 2, (count, 1, 32, 32))
    return {"labels": torch.cat([classes, edges], dim=1), "image": torch.rand(count, 3, 32, 32) * 2 - 1}


def make_method(*, style: bool = True, **settings: object) -> SemanticSynthesis:
    torch.manual_seed(0)
    return SemanticSynthesis(
        generator=SPADEGenerator(in_channels=4, width=2, hidden_width=4, **(STYLED if style else {})),
        discriminator=MultiscaleDiscriminator(in_channels=7, width=4, layers=2, scales=2, spectral=False),
        palette=PALETTE,
        **settings,
    )


def judge_by_hand(method: SemanticSynthesis, images: Tensor, labels: Tensor) -> list[list[Tensor]]:
    """Both discriminators on one-hot classes, edges and image, in this order."""
    hot = torch.stack([(labels[:, 0] == c).float() for c in range(3)], dim=1)
    seen = torch.cat([hot, labels[:, 1:].float(), images], dim=1)
    return method.discriminators["discriminator"](seen)


def test_generator_losses_are_hinge_feature_matching_perceptual_and_kl():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method(perceptual=Difference(), feature_weight=3.0, perceptual_weight=5.0)
    out = method.translate(batch, 0)
    terms = method.generator_losses(batch, out, 0).terms

    fake = judge_by_hand(method, out["output"], batch["labels"])
    real = judge_by_hand(method, batch["image"], batch["labels"])
    adversarial = sum(-scale[-1].mean() for scale in fake) / 2
    features = sum((f - r).abs().mean() for k in range(2) for f, r in zip(fake[k][:2], real[k][:2], strict=True)) / 2
    mean, log_variance = method.generators["generator"].style_encoder(batch["image"])
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()

    torch.testing.assert_close(terms["adversarial"], adversarial)
    torch.testing.assert_close(terms["features"], 3 * features)
    weights = list(method.discriminators["discriminator"].parameters())  # which depend on the generator when unrolled
    slopes = [torch.autograd.grad(f, weights, materialize_grads=True) for f in (terms["features"], 3 * features)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(terms["perceptual"], 5 * F.mse_loss(out["output"], batch["image"]))
    torch.testing.assert_close(terms["kl"], 0.05 * kl)


def test_discriminator_loss_is_the_hinge_of_every_scale():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method()
    out = {name: value.detach() for name, value in method.translate(batch, 0).items()}
    losses = method.discriminator_losses(batch, out, 0)
    fake = judge_by_hand(method, out["output"], batch["labels"])
    real = judge_by_hand(method, batch["image"], batch["labels"])
    expected = sum((1 - r[-1]).relu().mean() + (1 + f[-1]).relu().mean() for f, r in zip(fake, real, strict=True)) / 2
    torch.testing.assert_close(losses.total, expected)
    assert losses.objective is method.objective
    assert len(losses.real_scores) == len(losses.fake_scores) == 2


def test_r1_is_of_all_scores_of_an_image_and_not_of_its_labels():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method(penalties=Penalties(r1=3.0, every_steps=2))
    out = {"output": -batch["image"]}
    image = batch["image"].clone().requires_grad_()
    scores = sum(scale[-1].sum() for scale in judge_by_hand(method, image, batch["labels"]))
    (gradient,) = torch.autograd.grad(scores, image)
    terms = method.discriminator_losses(batch, out, 4).terms
    assert set(terms) == {"discriminator", "r1"}
    torch.testing.assert_close(terms["r1"], 2 * 3.0 / 2 * gradient.square().sum() / 3)
    assert set(method.discriminator_losses(batch, out, 5).terms) == {"discriminator"}


def test_losses_of_one_side_reach_the_generator_and_its_encoder_and_not_the_photo():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method()
    method.generator_losses(batch, method.translate(batch, 0), 0).total.backward()
    without = [n for n, p in method.generators["generator"].named_parameters() if p.grad is None]
    assert without == []


def test_pix2pixhd_is_the_same_with_its_own_generator_and_least_squares():
    torch.manual_seed(1)
    batch = make_batch()
    generator = ResNetGenerator(in_channels=4, out_channels=3, width=2, blocks=1, takes_labels=True)
    method = make_method()
    method = SemanticSynthesis(
        generator=generator,
        discriminator=method.discriminators["discriminator"],
        palette=PALETTE,
        objective=LeastSquares(),
        feature_weight=0.0,
    )
    out = method.translate(batch, 0)
    hot = torch.stack([(batch["labels"][:, 0] == c).float() for c in range(3)] + [batch["labels"][:, 1].float()], dim=1)
    torch.testing.assert_close(out["output"], generator(hot))
    fake = judge_by_hand(method, out["output"], batch["labels"])
    expected = sum((scale[-1] - 1).square().mean() for scale in fake) / 2
    assert {"adversarial"} == set(method.generator_losses(batch, out, 0).terms)
    torch.testing.assert_close(method.generator_losses(batch, out, 0).total, expected)


def test_without_an_encoder_nothing_depends_on_the_photo():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method(style=False)
    method.generators["generator"].eval()  # spectral norm goes on while training
    before = method.translate(batch, 0)
    after = method.translate(batch | {"image": -batch["image"]}, 0)
    assert set(before) == {"output"}
    torch.testing.assert_close(before["output"], after["output"])
    assert not method.has_style_encoder and method.draw_styles(3) is None


def test_held_out_figures_are_those_of_all_images_together():
    torch.manual_seed(1)
    judge = SegmentationJudge(segmenter=Brightness(), classes=3)
    method = make_method(judge=judge)
    method.generators["generator"].eval()
    batches = [make_batch(count=4), make_batch(count=4)]
    with torch.no_grad():
        torch.manual_seed(5)
        described = [method.validate(batch) for batch in batches]
        tensors = [name for name, value in described[0].items() if isinstance(value, torch.Tensor)]
        joined = {name: torch.cat([part[name] for part in described]) for name in tensors}
        figures = method.distances(joined)

        torch.manual_seed(5)
        fakes = [method.paint(b["labels"], styles=torch.randn(4, 4)) for b in batches]
    labels = torch.cat([b["labels"][:, 0] for b in batches])
    read = (torch.cat(fakes).mean(1) > 0).long()
    assert figures["read_accuracy"] == pytest.approx(float((read == labels).float().mean()))
    parts = [[patch_descriptors(images) for images in side] for side in ([b["image"] for b in batches], fakes)]
    real, fake = ({name: torch.cat([p[name] for p in side]) for name in side[0]} for side in parts)
    assert figures["swd"] == pytest.approx(sliced_wasserstein(real, fake)["swd"])
    assert figures["frechet"] > 0


def test_preview_shows_label_map_fake_and_real():
    torch.manual_seed(1)
    batch, method = make_batch(), make_method()
    shown = method.preview(batch)
    assert list(shown) == ["label", "fake", "real"]
    assert all(picture.shape == (3, 3, 32, 32) for picture in shown.values())
    place = torch.nonzero((batch["labels"][0, 0] == 1) & (batch["labels"][0, 1] == 0))[0]
    assert shown["label"][0, :, *place].tolist() == [1.0, -1.0, -1.0]


def test_relativistic_objectives_are_refused():
    with pytest.raises(InputError, match="no relativistic"):
        make_method(objective=RelativisticAverage())
