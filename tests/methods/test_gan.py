"""The plain GAN: what its networks see, its losses and penalties."""

import pytest
import torch
from torch import Tensor, nn

from i2i.losses.adversarial import Hinge, RelativisticAverage, Wasserstein
from i2i.methods.gan import GAN, density_picture


class Noted(nn.Module):
    """Affine; remembers what it was shown."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.seen: list[Tensor] = []

    def forward(self, points: Tensor) -> Tensor:
        self.seen.append(points)
        return self.linear(points).squeeze(1)


class NotedMaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.mean((1, 2, 3))


def make(*, classes: int = 0, **arguments: object) -> tuple[GAN, Noted, Noted]:
    generator, discriminator = Noted(4 + classes, 2), Noted(2 + classes, 1)
    method = GAN(
        generator=generator,
        discriminator=discriminator,
        latent_channels=4,
        classes=classes,
        **arguments,  # type: ignore
    )
    return method, generator, discriminator


def test_samples_come_from_standard_normal_noise() -> None:
    method, generator, _ = make()
    out = method.translate({"real": torch.zeros(4000, 2)}, 0)
    (latent,) = generator.seen
    assert latent.shape == (4000, 4) and out["sample"].shape == (4000, 2)
    torch.testing.assert_close(latent.mean(0), torch.zeros(4), rtol=0, atol=0.06)
    torch.testing.assert_close(latent.T.cov(), torch.eye(4), rtol=0, atol=0.08)
    method.translate({"real": torch.zeros(4000, 2)}, 0)
    assert not torch.equal(generator.seen[1], latent)


def test_losses_written_out() -> None:
    method, _, discriminator = make()
    real = torch.randn(6, 2)
    out = method.translate({"real": real}, 0)
    weight, bias = discriminator.linear.weight[0], discriminator.linear.bias
    real_scores, fake_scores = real @ weight + bias, out["sample"] @ weight + bias
    losses = method.generator_losses({"real": real}, out, 0)
    torch.testing.assert_close(losses.terms, {"adversarial": -torch.sigmoid(fake_scores).log().mean()})
    assert len(discriminator.seen) == 1  # the real ones are not looked at in vain

    losses = method.discriminator_losses({"real": real}, out, 0)
    expected = -torch.sigmoid(real_scores).log().mean() - (1 - torch.sigmoid(fake_scores)).log().mean()
    torch.testing.assert_close(losses.terms, {"discriminator": expected})
    torch.testing.assert_close(losses.real_scores[0], real_scores)
    torch.testing.assert_close(losses.fake_scores[0], fake_scores)


def test_penalties_of_an_affine_critic() -> None:
    """Its gradient is its weight everywhere."""
    method, _, discriminator = make(objective=Wasserstein(), gradient_penalty_weight=10.0, r1_weight=3.0)
    real = torch.randn(6, 2)
    out = method.translate({"real": real}, 0)
    terms = method.discriminator_losses({"real": real}, out, 0).terms
    weight = discriminator.linear.weight[0].detach()
    torch.testing.assert_close(terms["gradient_penalty"].detach(), 10 * (weight.norm() - 1) ** 2)
    torch.testing.assert_close(terms["r1"].detach(), 3 * weight.norm() ** 2 / 2)
    expected = (out["sample"].mean(0) - real.mean(0)) @ weight
    torch.testing.assert_close(terms["discriminator"].detach(), expected.detach())


def test_r1_at_every_third_step_with_three_times_its_weight() -> None:
    method, _, discriminator = make(r1_weight=2.0, r1_every_steps=3)
    batch = {"real": torch.randn(6, 2)}
    out = method.translate(batch, 0)
    terms = [method.discriminator_losses(batch, out, step).terms for step in range(7)]
    assert [step for step in range(7) if "r1" in terms[step]] == [0, 3, 6]
    torch.testing.assert_close(terms[3]["r1"], 3 * 2.0 / 2 * discriminator.linear.weight.square().sum())


class Marked(nn.Module):
    def forward(self, samples: Tensor) -> Tensor:
        return samples + 100


def test_samples_are_augmented_and_their_labels_are_not() -> None:
    method, _, discriminator = make(
        classes=3, objective=RelativisticAverage(), augment=Marked(), gradient_penalty_weight=1.0, r1_weight=1.0
    )
    batch = {"real": torch.randn(4, 2), "label": torch.tensor([2, 0, 1, 2])}
    one_hot = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).float()
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0)
    method.discriminator_losses(batch, out, 0)
    fake, real = (torch.cat([samples + 100, one_hot], dim=1) for samples in (out["sample"], batch["real"]))
    *judged, between, penalised = discriminator.seen
    for seen, expected in zip([*judged, penalised], [fake, real, real, fake, real], strict=True):
        assert torch.equal(seen, expected)
    assert between[:, :2].min() > 90


def test_a_wasserstein_critic_is_not_judged_by_accuracy() -> None:
    for objective, judged in ((Wasserstein(), False), (Hinge(), True)):
        method, _, _ = make(objective=objective)
        batch = {"real": torch.randn(6, 2)}
        losses = method.discriminator_losses(batch, method.translate(batch, 0), 0)
        assert (losses.accuracy() is not None) == judged


def test_labels_reach_both_networks() -> None:
    method, generator, discriminator = make(classes=3, gradient_penalty_weight=1.0)
    batch = {"real": torch.randn(4, 2), "label": torch.tensor([2, 0, 1, 2])}
    one_hot = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).float()
    out = method.translate(batch, 0)
    assert torch.equal(generator.seen[0][:, 4:], one_hot)
    method.generator_losses(batch, out, 0)
    losses = method.discriminator_losses(batch, out, 0)
    assert "gradient_penalty" in losses.terms
    of_generator, real, fake, between = discriminator.seen
    for seen, points in ((of_generator, out["sample"]), (real, batch["real"]), (fake, out["sample"])):
        assert torch.equal(seen, torch.cat([points, one_hot], dim=1))
    torch.testing.assert_close(between[:, 2:], one_hot)


def test_labels_are_maps_beside_images() -> None:
    judge = NotedMaps()
    method = GAN(generator=nn.Identity(), discriminator=judge, latent_channels=1, classes=2)
    images = torch.randn(2, 3, 4, 5)
    method.generator_losses({"real": images, "label": torch.tensor([1, 0])}, {"sample": images}, 0)
    (seen,) = judge.seen
    assert torch.equal(seen[:, :3], images)
    maps = torch.stack([torch.zeros(4, 5), torch.ones(4, 5)])
    assert torch.equal(seen[:, 3:], torch.stack([maps, maps.flip(0)]))


def test_preview_of_images_and_points() -> None:
    method, _, _ = make()
    pictures = method.preview({"real": torch.randn(500, 2)})
    assert list(pictures) == ["sample", "real"]
    for picture in pictures.values():
        assert picture.shape == (1, 1, 128, 128) and picture.min() == -1 and picture.max() == pytest.approx(1)

    method = GAN(generator=nn.Unflatten(1, (1, 1, 1)), discriminator=nn.Identity(), latent_channels=1)
    images = torch.rand(4, 1, 1, 1)
    assert torch.equal(method.preview({"real": images})["real"], images)


def test_density_is_bright_where_points_are() -> None:
    points = torch.tensor([[-0.9, 0.9]] * 3 + [[0.9, 0.9]] + [[5.0, 0.0]])
    picture = density_picture(points, reach=1.0, size=10)[0, 0]
    # The first coordinate goes right, the second up; what lies outside is left out.
    assert picture[0, 0] == 1 and -1 < picture[0, 9] < 1
    assert (picture == -1).sum() == 98
