"""CycleGAN's losses against the paper's formulas, written out."""

from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.generators import ResNetGenerator
from i2i.losses.adversarial import NonSaturating, RelativisticAverage, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.cyclegan import CycleGAN

CYCLE, IDENTITY = 10.0, 0.5


def make(*, channels_b: int = 3, norm: type[nn.Module] = nn.InstanceNorm2d, **arguments: Any) -> CycleGAN:
    def generator(inputs: int, outputs: int) -> nn.Module:
        network = nn.Sequential(nn.Conv2d(inputs, 4, 3, padding=1), norm(4), nn.Tanh(), nn.Conv2d(4, outputs, 1))
        network.in_channels = inputs
        return network.double()

    return CycleGAN(
        a_to_b=generator(3, channels_b),
        b_to_a=generator(channels_b, 3),
        discriminator_a=nn.Conv2d(3, 1, 2).double(),
        discriminator_b=nn.Conv2d(channels_b, 1, 2).double(),
        **arguments,
    )


def make_batch(*, channels_b: int = 3, size_b: tuple[int, int] = (6, 8)) -> dict[str, Tensor]:
    return {"a": torch.randn(2, 3, 6, 8).double(), "b": torch.randn(2, channels_b, *size_b).double()}


def mean_l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().sum() / x.numel()


@pytest.mark.parametrize("identity", [0.0, 0.5])
def test_the_papers_objective(identity: float) -> None:
    """Equations 2 and 3 with the identity loss of section 5.2, least squares as section 4 has it, D's loss halved."""
    method, batch = make(identity_weight=identity), make_batch()
    g, f = method.generators["a_to_b"], method.generators["b_to_a"]
    judge_a, judge_b = method.discriminators["a"], method.discriminators["b"]
    a, b = batch["a"], batch["b"]
    out = method.translate(batch, 0)
    torch.testing.assert_close(out["fake_b"], g(a))
    torch.testing.assert_close(out["fake_a"], f(b))

    expected = {
        "adversarial_b": (judge_b(g(a)) - 1).square().mean(),
        "adversarial_a": (judge_a(f(b)) - 1).square().mean(),
        "cycle_a": CYCLE * mean_l1(f(g(a)), a),
        "cycle_b": CYCLE * mean_l1(g(f(b)), b),
    }
    if identity:
        expected |= {
            "identity_b": CYCLE * IDENTITY * mean_l1(g(b), b),
            "identity_a": CYCLE * IDENTITY * mean_l1(f(a), a),
        }
    torch.testing.assert_close(method.generator_losses(batch, out, 0).terms, expected)

    judged = method.discriminator_losses(batch, {name: value.detach() for name, value in out.items()}, 0)
    for side, judge, real, fake in (("a", judge_a, a, f(b)), ("b", judge_b, b, g(a))):
        loss = ((judge(real) - 1).square().mean() + judge(fake).square().mean()) / 2
        torch.testing.assert_close(judged.terms[f"discriminator_{side}"], loss)
    assert len(judged.real_scores) == len(judged.fake_scores) == 2


def test_every_generator_learns_from_both_round_trips() -> None:
    method, batch = make(identity_weight=0.0), make_batch()
    out = method.translate(batch, 0)
    terms = method.generator_losses(batch, out, 0).terms
    for term in ("cycle_a", "cycle_b"):
        for network in method.generators.values():
            gradients = torch.autograd.grad(terms[term], list(network.parameters()), retain_graph=True)
            assert all(gradient.isfinite().all() for gradient in gradients)
            assert gradients[0].any() and gradients[-1].any()


@pytest.mark.parametrize(
    ("norm", "size_b", "calls"),
    [(nn.InstanceNorm2d, (6, 8), 1), (nn.InstanceNorm2d, (8, 6), 2), (nn.BatchNorm2d, (6, 8), 2)],
)
def test_two_batches_go_through_at_once_only_where_that_changes_nothing(
    norm: type[nn.Module], size_b: tuple[int, int], calls: int
) -> None:
    method, batch = make(norm=norm), make_batch(size_b=size_b)
    counted: list[int] = []
    method.generators["a_to_b"].register_forward_hook(lambda *_: counted.append(1))
    out = method.translate(batch, 0)
    assert len(counted) == calls
    torch.testing.assert_close(out["fake_b"], method.generators["a_to_b"](batch["a"]))
    torch.testing.assert_close(out["same_b"], method.generators["a_to_b"](batch["b"]))


def test_identity_falls_linearly_to_nothing() -> None:
    method, batch = make(identity_steps=4), make_batch()
    weights = []
    for step in range(6):
        out = method.translate(batch, step)
        term = method.generator_losses(batch, out, step).terms.get("identity_a")
        assert (term is None) == ("same_a" not in out)
        weights.append(0.0 if term is None else (term / mean_l1(out["same_a"], batch["a"])).item())
    assert weights == pytest.approx([5.0, 3.75, 2.5, 1.25, 0.0, 0.0])


def test_sides_with_different_channels() -> None:
    with pytest.raises(InputError, match=r"number of channels \(3 and 1\).*identity_weight=0"):
        make(channels_b=1)
    method, batch = make(channels_b=1, identity_weight=0.0), make_batch(channels_b=1)
    out = method.translate(batch, 0)
    assert out["fake_b"].shape == batch["b"].shape and out["fake_a"].shape == batch["a"].shape
    assert method.generator_losses(batch, out, 0).total.isfinite()
    assert set(method.preview(batch)) == {"A", "A → B", "A → B → A", "B", "B → A", "B → A → B"}


def test_discriminators_are_shown_the_pool() -> None:
    """A pool of one image hands out the first one half of the time, and both sides have their own."""
    method, batch = make(pool_size=1, identity_weight=0.0), make_batch()
    first = {"fake_a": torch.full((1, 3, 6, 8), 0.5).double(), "fake_b": torch.full((1, 3, 6, 8), -0.5).double()}
    method.discriminator_losses(batch, first, 0)
    seen: dict[str, set[float]] = {"a": set(), "b": set()}
    for side in seen:
        method.discriminators[side].register_forward_pre_hook(
            lambda _, inputs, side=side: seen[side].add(round(float(inputs[0].mean()), 3))
        )
    torch.manual_seed(0)
    new = {name: torch.full_like(image, 0.125) for name, image in first.items()}
    for _ in range(8):
        method.discriminator_losses(batch, new, 1)
    assert {0.5, 0.125} <= seen["a"] and {-0.5, 0.125} <= seen["b"]
    assert -0.5 not in seen["a"] and 0.5 not in seen["b"]

    state = method.state_dict()
    again = make(pool_size=1, identity_weight=0.0)
    again.load_state_dict(state)
    assert torch.equal(again.pools["b"].items[0][0], method.pools["b"].items[0][0])


def test_scores_are_told_with_their_objective() -> None:
    objective = Wasserstein()
    method, batch = make(objective=objective), make_batch()
    judged = method.discriminator_losses(batch, method.translate(batch, 0), 0)
    assert judged.objective is objective and judged.accuracy() is None


def test_r1_is_lazy_and_weighted_by_what_it_leaves_out() -> None:
    """The critic is linear in each image, so that ½‖∇‖² is known."""
    method, batch = make(penalties=Penalties(r1=3.0, every_steps=4), objective=NonSaturating()), make_batch()
    out = {name: value.detach() for name, value in method.translate(batch, 0).items()}
    x = batch["a"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(method.discriminators["a"](x).sum(), x)
    for step in range(9):
        terms = method.discriminator_losses(batch, out, step).terms
        assert ("r1_a" in terms) == ("r1_b" in terms) == (step % 4 == 0)
        if step % 4 == 0:
            expected = 3.0 * 4 * gradient.square().sum(dim=(1, 2, 3)).mean() / 2
            torch.testing.assert_close(terms["r1_a"].double(), expected)


def test_penalties_are_of_each_sides_own_images() -> None:
    """As they are shown, here doubled, R2 at what the generators made; the slope of Σ x² at x is 2 x."""

    class Judge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.square().sum(dim=(1, 2, 3))

    class Doubled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * images

    method, batch = make(penalties=Penalties(r1=1.0, r2=1.0), augment=Doubled(), pool_size=0), make_batch()
    method.discriminators = {"a": Judge(), "b": Judge()}
    out = {name: value.detach() for name, value in method.translate(batch, 0).items()}
    terms = method.discriminator_losses(batch, out, 0).terms
    for side in ("a", "b"):
        torch.testing.assert_close(terms[f"r1_{side}"], 2 * (2 * batch[side]).square().sum() / 2)
        torch.testing.assert_close(terms[f"r2_{side}"], 2 * (2 * out[f"fake_{side}"]).square().sum() / 2)


def test_what_is_judged_is_augmented() -> None:
    class Negative(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return -images

    method, batch = make(augment=Negative(), objective=RelativisticAverage(), pool_size=0), make_batch()
    judged: list[Tensor] = []
    method.discriminators["b"].register_forward_pre_hook(lambda _, inputs: judged.append(inputs[0]))
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0)
    method.discriminator_losses(batch, out, 0)
    expected = [-out["fake_b"], -batch["b"], -out["fake_b"], -batch["b"]]
    assert all(torch.equal(x, y) for x, y in zip(judged, expected, strict=True))


def test_held_out_figures_and_pictures() -> None:
    torch.manual_seed(0)
    networks = [ResNetGenerator(in_channels=3, out_channels=3, width=2, blocks=1).eval() for _ in range(2)]
    method = CycleGAN(
        a_to_b=networks[0],
        b_to_a=networks[1],
        discriminator_a=nn.Identity(),
        discriminator_b=nn.Identity(),
        figures=lambda output, truth: {"of mine": float(mean_l1(output, truth))},
    )
    a, b = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        batch = {"a": a, "b": b, "truth_b": b.clone(), "truth_a": networks[1](b)}
        measured = dict(method.validate(batch))
        numbers = {name: value for name, value in measured.items() if isinstance(value, float)}
        assert numbers.pop("of mine") == pytest.approx(float(mean_l1(networks[0](a), b)))
        assert numbers.keys() == {f"{name}_b_to_a" for name in ("psnr", "ssim", "l1", "sharpness")}
        assert numbers["l1_b_to_a"] == 0
        tensors = {name: value for name, value in measured.items() if isinstance(value, Tensor)}
        distances = method.distances(tensors)
        assert distances.keys() == {"swd", "swd_b_to_a"} and min(distances.values()) > 100

        pictures = method.preview(batch)
        torch.testing.assert_close(pictures["A → B → A"], networks[1](networks[0](a)))
        torch.testing.assert_close(pictures["B → A → B"], networks[0](networks[1](b)))
        assert torch.equal(pictures["truth of B → A"], networks[1](b))
        assert "truth of A → B" not in pictures  # it is what B shows

        perfect = {key: tensors["real_b" + key.removeprefix("fake_b")] for key in tensors if key.startswith("fake_b")}
        assert method.distances({**tensors, **perfect})["swd"] == 0


def test_noise_meets_translations_only_on_their_way_back() -> None:
    method, batch = make(identity_weight=0.0, cycle_noise=0.3), make_batch()
    out = method.translate(batch, 0)
    torch.testing.assert_close(out["fake_b"], method.generators["a_to_b"](batch["a"]))
    given: list[Tensor] = []
    method.generators["b_to_a"].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    method.generator_losses(batch, out, 0)
    noise = given[0] - out["fake_b"]
    assert noise.std().item() == pytest.approx(0.3, rel=0.15) and noise.mean().abs() < 0.1


def test_what_is_judged_is_blurred_less_and_less() -> None:
    """Real and fake alike, through Gaussians of 2, 1 and then no px."""
    method, batch = make(blur_px=2.0, blur_steps=10, pool_size=0, identity_weight=0.0), make_batch()
    judged: list[Tensor] = []
    method.discriminators["a"].register_forward_pre_hook(lambda _, inputs: judged.append(inputs[0].detach()))
    out = {name: value.detach() for name, value in method.translate(batch, 0).items()}
    for step, deviation_px in ((0, 2.0), (5, 1.0), (10, 0.0), (99, 0.0)):
        judged.clear()
        method.discriminator_losses(batch, out, step)
        for images, seen in zip((out["fake_a"], batch["a"]), judged, strict=True):
            expected = gaussian_filter(images.numpy(), (0, 0, deviation_px, deviation_px), mode="nearest", truncate=3)
            torch.testing.assert_close(seen, torch.from_numpy(expected))
