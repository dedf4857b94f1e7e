"""The plain GAN: what its networks see, its losses and penalties."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator
from i2i.layers.minibatch import Minibatch
from i2i.layers.norm import Norm
from i2i.losses.adversarial import Hinge, RelativisticAverage, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.gan import GAN, density_picture
from i2i.methods.shared import penalty_remarks


class Noted(nn.Module):
    """Affine, of its input and one-hot classes; remembers what it was shown."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.latent_channels = inputs
        self.classes = classes
        self.linear = nn.Linear(inputs + classes, outputs)
        self.seen: list[Tensor] = []
        self.labels: list[Tensor] = []

    def forward(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen.append(points)
        if labels is not None:
            self.labels.append(labels)
            points = torch.cat([points, F.one_hot(labels, self.classes)], dim=1)
        return self.linear(points).squeeze(1)


def make(*, classes: int = 0, **arguments: object) -> tuple[GAN, Noted, Noted]:
    generator, discriminator = Noted(4, 2, classes), Noted(2, 1, classes)
    return GAN(generator=generator, discriminator=discriminator, **arguments), generator, discriminator  # type: ignore


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
    method, _, discriminator = make(objective=Wasserstein(), penalties=Penalties(gradient_penalty=10.0, r1=3.0))
    real = torch.randn(6, 2)
    out = method.translate({"real": real}, 0)
    losses = method.discriminator_losses({"real": real}, out, 0)
    terms = losses.terms
    weight = discriminator.linear.weight[0].detach()
    torch.testing.assert_close(terms["gradient_penalty"].detach(), 10 * (weight.norm() - 1) ** 2)
    torch.testing.assert_close(terms["r1"].detach(), 3 * weight.norm() ** 2 / 2)
    expected = (out["sample"].mean(0) - real.mean(0)) @ weight
    torch.testing.assert_close(terms["discriminator"].detach(), expected.detach())
    torch.testing.assert_close(losses.figures["wasserstein"].detach(), -expected.detach())


def test_r1_at_every_third_step_with_three_times_its_weight() -> None:
    method, _, discriminator = make(penalties=Penalties(r1=2.0, every_steps=3))
    batch = {"real": torch.randn(6, 2)}
    out = method.translate(batch, 0)
    terms = [method.discriminator_losses(batch, out, step).terms for step in range(7)]
    assert [step for step in range(7) if "r1" in terms[step]] == [0, 3, 6]
    torch.testing.assert_close(terms[3]["r1"], 3 * 2.0 / 2 * discriminator.linear.weight.square().sum())


class Marked(nn.Module):
    def forward(self, samples: Tensor) -> Tensor:
        return samples + 100


def test_samples_are_augmented_and_their_labels_are_not() -> None:
    penalties = Penalties(gradient_penalty=1.0, r1=1.0)
    method, _, discriminator = make(
        classes=3, objective=RelativisticAverage(), augment=Marked(), penalties=penalties, feature_matching_weight=0.0
    )
    batch = {"real": torch.randn(4, 2), "label": torch.tensor([2, 0, 1, 2])}
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0)
    method.discriminator_losses(batch, out, 0)
    fake, real = out["sample"] + 100, batch["real"] + 100
    *judged, between, penalised = discriminator.seen
    for seen, expected in zip([*judged, penalised], [fake, real, torch.cat([real, fake]), real], strict=True):
        assert torch.equal(seen, expected)
    assert between.min() > 90
    for labels in discriminator.labels:
        assert torch.equal(labels, batch["label"].repeat(len(labels) // 4))


def test_a_wasserstein_critic_is_not_judged_by_accuracy() -> None:
    for objective, judged in ((Wasserstein(), False), (Hinge(), True)):
        method, _, _ = make(objective=objective)
        batch = {"real": torch.randn(6, 2)}
        losses = method.discriminator_losses(batch, method.translate(batch, 0), 0)
        assert (losses.accuracy() is not None) == judged


def test_labels_reach_both_networks() -> None:
    method, generator, discriminator = make(classes=3, penalties=Penalties(gradient_penalty=1.0))
    batch = {"real": torch.randn(4, 2), "label": torch.tensor([2, 0, 1, 2])}
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0)
    losses = method.discriminator_losses(batch, out, 0)
    assert "gradient_penalty" in losses.terms and [len(labels) for labels in discriminator.labels] == [4, 8, 4]
    for labels in [*generator.labels, *discriminator.labels]:
        assert torch.equal(labels, batch["label"].repeat(len(labels) // 4))
    with pytest.raises(InputError, match='3 classes: expected batches with "label"'):
        method.translate({"real": batch["real"]}, 0)


@pytest.mark.parametrize(("minibatch", "passes"), [("none", 1), ("stddev", 2)])
def test_real_and_fake_share_a_pass_where_they_cannot_interfere(minibatch: Minibatch, passes: int) -> None:
    torch.manual_seed(0)
    judge = MLPDiscriminator(in_channels=2, width=8, minibatch=minibatch)
    method = GAN(generator=MLPGenerator(latent_channels=2, out_channels=2, width=8), discriminator=judge)
    calls: list[int] = []
    judge.register_forward_hook(lambda *_: calls.append(1))
    real, fake = torch.randn(5, 2), torch.randn(5, 2)
    losses = method.discriminator_losses({"real": real}, {"sample": fake}, 0)
    assert len(calls) == passes
    torch.testing.assert_close(losses.real_scores[0], judge(real))
    torch.testing.assert_close(losses.fake_scores[0], judge(fake))


def test_networks_must_agree_on_their_classes() -> None:
    with pytest.raises(InputError, match="equally many classes, got 2 and 3"):
        GAN(generator=Noted(4, 2, 2), discriminator=Noted(2, 1, 3))


def test_feature_matching_written_out() -> None:
    """Of what goes into the last layer, besides the adversarial loss or instead of it."""
    torch.manual_seed(0)
    networks = {
        "generator": MLPGenerator(latent_channels=4, out_channels=2, width=8),
        "discriminator": MLPDiscriminator(in_channels=2, width=8),
    }
    batch = {"real": torch.randn(6, 2)}
    plain, both = GAN(**networks), GAN(**networks, feature_matching_weight=3.0, adversarial_weight=0.5)
    out = plain.translate(batch, 0)
    features = networks["discriminator"].hidden
    assert isinstance(features, nn.Module)
    expected = 3 * (features(out["sample"]).mean(0) - features(batch["real"]).mean(0)).square().mean()
    adversarial = plain.generator_losses(batch, out, 0).terms["adversarial"]
    terms = both.generator_losses(batch, out, 0).terms
    torch.testing.assert_close(terms, {"feature_matching": expected, "adversarial": 0.5 * adversarial})
    alone = GAN(**networks, feature_matching_weight=3.0, adversarial_weight=0.0)
    assert list(alone.generator_losses(batch, out, 0).terms) == ["feature_matching"]
    assert not networks["discriminator"].head._forward_pre_hooks  # type: ignore
    with pytest.raises(InputError, match="for the generator to go by"):
        GAN(**networks, adversarial_weight=0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_matching_weight": -1.0}, "feature_matching_weight to be at least 0 and finite, got -1"),
        ({"adversarial_weight": float("nan")}, "adversarial_weight to be at least 0 and finite, got nan"),
        ({"mismatched_share": 1.0}, "at least 0 and below 1, got 1.0"),
        ({"mismatched_share": -0.1}, "at least 0 and below 1, got -0.1"),
        ({"mismatched_share": 0.5, "objective": Wasserstein()}, "set mismatched_share to 0"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(classes=3, **arguments)
    make(classes=3, mismatched_share=0.5, objective=Hinge())


def image_gan(classes: int = 0) -> GAN:
    return GAN(
        generator=DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=16, classes=classes),
        discriminator=DCGANDiscriminator(in_channels=3, width=4, size=16, classes=classes),
    )


class Repeating(nn.Module):
    """Draws images of the data: of all of them, or of the first alone."""

    latent_channels, classes = 2, 0

    def __init__(self, images: Tensor, *, collapsed: bool) -> None:
        super().__init__()
        self.images, self.collapsed = images, collapsed

    def forward(self, latents: Tensor) -> Tensor:
        return self.images[:1].expand(len(latents), -1, -1, -1) if self.collapsed else self.images[: len(latents)]


def test_held_out_figures_tell_collapse_and_distance() -> None:
    real = torch.rand(40, 3, 32, 32) * torch.rand(40, 3, 1, 1)
    judge = DCGANDiscriminator(size=32, width=4)
    for images, collapsed in ((real, False), (real, True), (0.5 * real, False)):
        method = GAN(generator=Repeating(images, collapsed=collapsed), discriminator=judge)
        batches = [method.validate({"real": part}) for part in real.split(40)]
        tensors = [name for name, value in batches[0].items() if isinstance(value, Tensor)]
        joined = {name: torch.cat([torch.as_tensor(b[name]) for b in batches]) for name in tensors}
        figures = method.distances(joined)
        if collapsed:
            assert figures["variety"] == 0 and figures["swd"] > 10
        elif images is real:
            assert figures["variety"] == 1 and figures["swd"] == 0
        else:
            assert figures["variety"] == pytest.approx(0.5) and figures["swd"] > 10


def test_points_have_no_held_out_figures() -> None:
    method, _, _ = make()
    assert method.distances(dict(method.validate({"real": torch.randn(5, 2)}))) == {}  # type: ignore


def test_a_preview_has_a_column_for_each_class() -> None:
    """Of the same latents, so that a row shows what the class alone changes."""
    method = image_gan(classes=3)
    real, label = torch.rand(5, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(3)
    pictures = method.preview({"real": real, "label": label})
    torch.manual_seed(3)
    latents = torch.randn(5, 4)
    assert list(pictures) == ["class 0", "class 1", "class 2", "real"]
    for name, number in (("class 0", 0), ("class 2", 2)):
        assert torch.equal(pictures[name], method.sample(latents, torch.full((5,), number)))


@pytest.mark.parametrize(
    ("norm", "minibatch", "precision", "penalties", "expected"),
    [
        ("none", "none", "fp32", Penalties(r1=1.0), []),
        ("none", "none", "bf16", Penalties(r1=1.0), ["computed in fp32, though the precision is bf16"]),
        ("batch", "none", "fp32", Penalties(r1=1.0), ["mixes those of a batch"]),
        ("batch", "stddev", "fp32", Penalties(r1=1.0), ["mixes those of a batch"]),
        ("none", "discrimination", "fp32", Penalties(r1=1.0), ["mixes those of a batch"]),
        ("none", "stddev", "fp32", Penalties(r1=1.0), []),
        ("batch", "none", "bf16", Penalties(), []),
    ],
)
def test_remarks_on_penalties(
    norm: str, minibatch: str, precision: str, penalties: Penalties, expected: list[str]
) -> None:
    judge = DCGANDiscriminator(size=16, width=4, norm=norm, minibatch=minibatch)  # type: ignore
    remarks = penalty_remarks(penalties, discriminator=judge, precision=precision)
    assert len(remarks) == len(expected)
    assert all(part in remark for part, remark in zip(expected, remarks, strict=True))


def test_preview_of_images_and_points() -> None:
    method, _, _ = make()
    pictures = method.preview({"real": torch.randn(500, 2)})
    assert list(pictures) == ["sample", "real"]
    for picture in pictures.values():
        assert picture.shape == (1, 1, 128, 128) and picture.min() == -1 and picture.max() == pytest.approx(1)

    images = torch.rand(4, 3, 16, 16)
    pictures = image_gan().preview({"real": images})
    assert list(pictures) == ["sample", "real"] and torch.equal(pictures["real"], images)


def test_density_is_bright_where_points_are() -> None:
    points = torch.tensor([[-0.9, 0.9]] * 3 + [[0.9, 0.9]] + [[5.0, 0.0]])
    picture = density_picture(points, reach=1.0, size=10)[0, 0]
    # The first coordinate goes right, the second up; what lies outside is left out.
    assert picture[0, 0] == 1 and -1 < picture[0, 9] < 1
    assert (picture == -1).sum() == 98


def test_a_share_of_what_discriminators_refuse_is_real_under_another_class() -> None:
    """L_D = −log s_r − w log(1 − s_w) − (1 − w) log(1 − s_f), written out with the classes that were drawn.

    Of 60 real samples the first 15 do, so that they are a fifth of the 75 that are refused.
    """
    method, _, discriminator = make(classes=3, mismatched_share=0.2)
    batch = {"real": torch.randn(60, 2), "label": torch.arange(60) % 3}
    out = method.translate(batch, 0)
    losses = method.discriminator_losses(batch, out, 0)
    wrong, labels, real = discriminator.labels[-1][120:], batch["label"], batch["real"]
    assert wrong.shape == (15,) and (wrong != labels[:15]).all()
    assert set((wrong - labels[:15]).remainder(3).tolist()) == {1, 2}
    s_r, s_w, s_f = (
        torch.sigmoid(discriminator(samples, classes))
        for samples, classes in ((real, labels), (real[:15], wrong), (out["sample"], labels))
    )
    real_term = -0.8 * s_r.log().mean() - 0.2 * s_r[:15].log().mean()
    expected = real_term - 0.2 * (1 - s_w).log().mean() - 0.8 * (1 - s_f).log().mean()
    torch.testing.assert_close(losses.terms["discriminator"], expected)
    plain, _, _ = make(mismatched_share=0.2)
    assert not plain.mismatched_share  # without classes there is nothing to match


@pytest.mark.parametrize(("discriminator_norm", "minibatch"), [("batch", "none"), ("none", "stddev")])
def test_batches_that_give_themselves_away_by_their_size_are_of_one_size(
    discriminator_norm: Norm, minibatch: Minibatch
) -> None:
    """Statistics over few samples are not those over many: a discriminator would go by them, and not by classes."""
    method = GAN(
        generator=DCGANGenerator(latent_channels=4, out_channels=3, width=4, size=16, classes=3),
        discriminator=DCGANDiscriminator(
            in_channels=3, width=4, size=16, classes=3, norm=discriminator_norm, minibatch=minibatch
        ),
        mismatched_share=0.2,
    )
    seen: list[tuple[Tensor, Tensor]] = []
    method.discriminators["discriminator"].register_forward_pre_hook(lambda module, given: seen.append(given))
    batch = {"real": torch.rand(16, 3, 16, 16), "label": torch.arange(16) % 3}
    out = method.translate(batch, 0)
    losses = method.discriminator_losses(batch, out, 0)
    real, fake, mismatched = seen
    assert [len(images) for images, _ in seen] == [16, 16, 16]
    assert torch.equal(mismatched[0], batch["real"]) and (mismatched[1] != batch["label"]).all()
    # −log s_r − w log(1 − s_w) − (1 − w) log(1 − s_f)
    s_r, s_f, s_w = (
        torch.sigmoid(method.discriminators["discriminator"](*given)) for given in (real, fake, mismatched)
    )
    expected = -s_r.log().mean() - 0.2 * (1 - s_w).log().mean() - 0.8 * (1 - s_f).log().mean()
    torch.testing.assert_close(losses.terms["discriminator"], expected)
