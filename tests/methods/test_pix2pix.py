"""pix2pix's losses against the paper's formulas, written out."""

import pytest
import torch
from torch import Tensor, nn

from i2i.losses.adversarial import AdversarialLoss, LeastSquares, NonSaturating, RelativisticAverage, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.pix2pix import Pix2Pix


class Judge(nn.Module):
    """A score a pixel: of both images side by side, so that it depends on their order."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(5, 1, 1).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(images)


def make(**arguments: object) -> Pix2Pix:
    return Pix2Pix(generator=nn.Conv2d(2, 3, 3, padding=1).double(), discriminator=Judge(), **arguments)  # type: ignore


def make_batch() -> dict[str, Tensor]:
    return {"input": torch.randn(2, 2, 5, 7).double(), "target": torch.randn(2, 3, 5, 7).double()}


def scores(method: Pix2Pix, batch: dict[str, Tensor], image: Tensor) -> Tensor:
    mix = method.discriminators["discriminator"].mix
    both = torch.cat([batch["input"], image], dim=1)
    return torch.einsum("oi,nihw->nohw", mix.weight[:, :, 0, 0], both) + mix.bias


def probability(score: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-score))


@pytest.mark.parametrize("weight", [100.0, 7.0])
def test_the_papers_objective(weight: float) -> None:
    """Equations 1, 3 and 4, with −log D in place of log(1 − D) and D's loss halved, as section 3.3 has it."""
    method, batch = make(l1_weight=weight), make_batch()
    out = method.translate(batch, 0)
    output = method.generators["generator"](batch["input"])
    torch.testing.assert_close(out, {"output": output})
    fake, real = scores(method, batch, output), scores(method, batch, batch["target"])

    losses = method.generator_losses(batch, out, 0)
    torch.testing.assert_close(losses.terms["adversarial"], -probability(fake).log().mean())
    torch.testing.assert_close(losses.terms["l1"], weight * (output - batch["target"]).abs().sum() / output.numel())
    torch.testing.assert_close(losses.total, losses.terms["adversarial"] + losses.terms["l1"])

    judged = method.discriminator_losses(batch, {"output": output.detach()}, 0)
    expected = -(probability(real).log().mean() + (1 - probability(fake)).log().mean()) / 2
    torch.testing.assert_close(judged.terms, {"discriminator": expected})
    torch.testing.assert_close(judged.real_scores[0], real)
    torch.testing.assert_close(judged.fake_scores[0], fake)


def test_another_objective() -> None:
    method, batch = make(objective=LeastSquares()), make_batch()
    out = method.translate(batch, 0)
    fake, real = scores(method, batch, out["output"]), scores(method, batch, batch["target"])
    adversarial = method.generator_losses(batch, out, 0).terms["adversarial"]
    torch.testing.assert_close(adversarial, (fake - 1).square().mean())
    judged = method.discriminator_losses(batch, out, 0).terms["discriminator"]
    torch.testing.assert_close(judged, ((real - 1).square().mean() + fake.square().mean()) / 2)


def test_a_relativistic_generator_sees_real_scores() -> None:
    method, batch = make(objective=RelativisticAverage()), make_batch()
    out = method.translate(batch, 0)
    fake, real = scores(method, batch, out["output"]), scores(method, batch, batch["target"])
    expected = -(1 - probability(real - fake.mean())).log().mean() - probability(fake - real.mean()).log().mean()
    torch.testing.assert_close(method.generator_losses(batch, out, 0).terms["adversarial"], expected)


@pytest.mark.parametrize("objective", [NonSaturating(), RelativisticAverage()])
def test_gradients_reach_their_side(objective: AdversarialLoss) -> None:
    method, batch = make(objective=objective, l1_weight=0.0), make_batch()
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0).total.backward()
    gradients = [parameter.grad for parameter in method.generators["generator"].parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


class Noted(nn.Module):
    """Multiplies; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, pairs: Tensor) -> Tensor:
        self.seen.append(pairs)
        return pairs * 0.5


def test_all_that_the_discriminator_sees_is_augmented() -> None:
    """Input and image joined, real and fake, on both sides; a halved affine judge is one with half the weights."""
    augment = Noted()
    method, batch = make(objective=RelativisticAverage(), augment=augment), make_batch()
    out = method.translate(batch, 0)
    losses = [method.generator_losses(batch, out, 0), method.discriminator_losses(batch, out, 0)]
    fake, real = (torch.cat([batch["input"], image], dim=1) for image in (out["output"], batch["target"]))
    assert all(torch.equal(a, b) for a, b in zip(augment.seen, [fake, real, real, fake], strict=True))

    method.augment = nn.Identity()
    with torch.no_grad():
        method.discriminators["discriminator"].mix.weight.mul_(0.5)
    expected = [method.generator_losses(batch, out, 0), method.discriminator_losses(batch, out, 0)]
    for found, plain in zip(losses, expected, strict=True):
        torch.testing.assert_close(found.terms, plain.terms)


def test_r1_at_every_fourth_step_with_four_times_its_weight() -> None:
    """The gradient of an affine judge's summed scores is its weight at every pixel of the 5 x 7."""
    method, batch = make(penalties=Penalties(r1=3.0, every_steps=4), augment=Noted()), make_batch()
    weight = method.discriminators["discriminator"].mix.weight
    out = method.translate(batch, 0)
    for step in range(9):
        terms = method.discriminator_losses(batch, {"output": out["output"].detach()}, step).terms
        assert ("r1" in terms) == (step % 4 == 0)
    torch.testing.assert_close(terms["r1"], 4 * 3.0 / 2 * 5 * 7 * weight.square().sum())
    assert list(make().discriminator_losses(batch, out, 0).terms) == ["discriminator"]


def test_any_penalty_can_be_had() -> None:
    """An affine judge has one slope everywhere: its weight at every pixel of the 5 x 7."""
    method, batch = make(penalties=Penalties(gradient_penalty=10.0, dragan=7.0, r2=3.0)), make_batch()
    terms = method.discriminator_losses(batch, method.translate(batch, 0), 0).terms
    square = 5 * 7 * method.discriminators["discriminator"].mix.weight.square().sum()
    assert list(terms) == ["discriminator", "gradient_penalty", "dragan", "r2"]
    torch.testing.assert_close(terms["gradient_penalty"], 10 * (square.sqrt() - 1).square())
    torch.testing.assert_close(terms["dragan"], 7 * (square.sqrt() - 1).square())
    torch.testing.assert_close(terms["r2"], 3 / 2 * square)


def test_penalties_are_at_pairs_as_they_are_judged() -> None:
    """Halved, R1 at real ones and R2 at what was made; the slope of Σ x² at x is 2 x."""

    class Square(nn.Module):
        def forward(self, pairs: Tensor) -> Tensor:
            return pairs.square().sum(dim=(1, 2, 3))

    method, batch = make(penalties=Penalties(r1=3.0, r2=5.0), augment=Noted()), make_batch()
    method.discriminators["discriminator"] = Square()
    output = torch.randn_like(batch["target"])
    terms = method.discriminator_losses(batch, {"output": output}, 0).terms
    for name, weight, image in (("r1", 3.0, batch["target"]), ("r2", 5.0, output)):
        pairs = torch.cat([batch["input"], image], dim=1)
        torch.testing.assert_close(terms[name], weight / 2 * (2 * pairs / 2).square().sum() / 2)


def test_preview_shows_input_output_truth() -> None:
    method, batch = make(), make_batch()
    pictures = method.preview(batch)
    assert list(pictures) == ["input", "output", "truth"]
    assert torch.equal(pictures["input"], batch["input"]) and torch.equal(pictures["truth"], batch["target"])
    torch.testing.assert_close(pictures["output"], method.translate(batch, 0)["output"])


def test_validate_is_the_mean_over_images() -> None:
    method = Pix2Pix(generator=nn.Conv2d(1, 1, 1), discriminator=Judge())
    batch = {"input": torch.rand(2, 1, 16, 16) * 2 - 1, "target": torch.rand(2, 1, 16, 16) * 2 - 1}
    output = method.translate(batch, 0)["output"]
    metrics = method.validate(batch)
    assert metrics["l1"] == pytest.approx((output - batch["target"]).abs().mean().item() / 2, rel=1e-5)
    each = (output - batch["target"]).square().flatten(1).mean(1)
    assert metrics["psnr"] == pytest.approx((10 * torch.log10(4 / each)).mean().item(), rel=1e-5)


def test_a_critic_has_no_accuracy() -> None:
    """It tells all pairs apart when all is well; the others' scores are judgements."""
    for objective in (Wasserstein(), NonSaturating()):
        method, batch = make(objective=objective), make_batch()
        judged = method.discriminator_losses(batch, method.translate(batch, 0), 0)
        assert (judged.accuracy() is None) == isinstance(objective, Wasserstein)
