"""What steadies adversarial training, each against its equation written out, and around other methods."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from i2i.discriminators import DCGANDiscriminator, MLPDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator, MLPGenerator
from i2i.layers.conv import add_spectral_norm
from i2i.layers.norm import Norm
from i2i.losses.adversarial import AdversarialLoss, LeastSquares, Minimax, NonSaturating, make_objective
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.base import Batch, Losses, Method, Outputs, in_full_precision, unwrapped
from i2i.methods.gan import GAN
from i2i.methods.stabilisers import (
    HistoricalAveraging,
    InstanceNoise,
    OrthogonalRegularisation,
    Replay,
    Stabiliser,
    WeightClipping,
)
from i2i.methods.unrolled import Unrolled


class Scale(nn.Module):
    """x ↦ w · x."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        return self.weight * values


class Game(Method):
    """min_g max_d  g·d·x − d²/2: by hand d's gradient ascent is d ← d + η (g·x − d)."""

    def __init__(self, g: float = 3.0, d: float = 1.0) -> None:
        super().__init__(generators={"g": Scale(g)}, discriminators={"d": Scale(d)})
        self.objective: AdversarialLoss = NonSaturating()
        self.calls = 0
        self.seen: list[Tensor] = []

    def translate(self, batch: Batch, step: int) -> Outputs:
        return {"gx": self.generators["g"](batch["x"])}

    def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        return Losses(terms={"value": self._value(out)})

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        self.calls += 1
        self.seen.append(out["gx"])
        return Losses(terms={"minus value": -self._value(out)}, real_scores=[batch["x"]], objective=self.objective)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]

    def _value(self, out: Outputs) -> Tensor:
        one = torch.ones((), dtype=torch.float64)
        return self.discriminators["d"](out["gx"]).mean() - self.discriminators["d"](one).square() / 2

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        return self.generators["g"].weight, self.discriminators["d"].weight  # type: ignore


def game_batch(*values: float) -> Batch:
    return {"x": torch.tensor(values, dtype=torch.float64)}


def test_one_unrolled_step_by_hand() -> None:
    """d' = d + η (g·x − d); the value g·x·d' − d'²/2 is minimised over g, d' depending on it."""
    game, rate, x = Game(g=3.0, d=1.0), 0.1, 2.0
    method = Unrolled(game, steps=1, learning_rate=rate)
    losses = method.generator_losses(game_batch(x), method.translate(game_batch(x), 0), 0)
    ahead = 1 + rate * (3 * x - 1)
    assert losses.terms["value"].item() == pytest.approx(3 * x * ahead - ahead**2 / 2)
    losses.total.backward()
    g, d = game.weights
    assert g.grad is not None and g.grad.item() == pytest.approx(x * ahead + (3 * x - ahead) * rate * x)
    assert d.grad is None and d.item() == 1


def test_unrolled_far_enough_the_discriminator_is_the_best_answer() -> None:
    """d → g·x, where the value is (g·x)²/2."""
    game = Game(g=3.0, d=1.0)
    method = Unrolled(game, steps=60, learning_rate=0.5)
    losses = method.generator_losses(game_batch(2.0), method.translate(game_batch(2.0), 0), 0)
    losses.total.backward()
    assert losses.terms["value"].item() == pytest.approx(18) and game.weights[0].grad.item() == pytest.approx(12)  # type: ignore


def point_gan(**arguments: Any) -> GAN:
    torch.manual_seed(0)
    return GAN(
        generator=MLPGenerator(latent_channels=2, out_channels=2, width=6, layers=2).double(),
        discriminator=MLPDiscriminator(in_channels=2, width=6, layers=2).double(),
        **arguments,
    )


def points(count: int = 5) -> Batch:
    return {"real": torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}


def test_no_steps_are_the_method_itself() -> None:
    plain = point_gan()
    batch = points()
    out = plain.translate(batch, 0)
    expected = plain.generator_losses(batch, out, 0).terms
    torch.testing.assert_close(
        Unrolled(plain, steps=0, learning_rate=1.0).generator_losses(batch, out, 0).terms, expected
    )
    ahead = Unrolled(plain, steps=1, learning_rate=1.0).generator_losses(batch, out, 0).terms
    assert abs(ahead["adversarial"] - expected["adversarial"]) > 1e-4


def pooled(*, capacity: int, filled: int) -> Method:
    method = Replay(point_gan(), capacity=capacity)
    if filled:
        batch = {"real": torch.randn(filled, 2, dtype=torch.float64)}
        out = {name: value.detach() for name, value in method.translate(batch, 0).items()}
        method.discriminator_losses(batch, out, 0)
    return method


@pytest.mark.parametrize(
    "make",
    [
        point_gan,
        lambda: point_gan(penalties=Penalties(r1=1.0)),
        lambda: point_gan(penalties=Penalties(r2=1.0)),
        lambda: point_gan(penalties=Penalties(gradient_penalty=10.0)),
        lambda: point_gan(penalties=Penalties(dragan=10.0)),
        lambda: point_gan(feature_matching_weight=1.0, adversarial_weight=0.0),
        lambda: pooled(capacity=8, filled=0),
        lambda: pooled(capacity=8, filled=8),
        lambda: pooled(capacity=2, filled=2),  # which hands out items of the batch to one another
    ],
    ids=[
        "plain",
        "r1",
        "r2",
        "gradient_penalty",
        "dragan",
        "feature_matching",
        "empty_pool",
        "full_pool",
        "small_pool",
    ],
)
def test_the_gradient_of_the_answer_is_its_slope(make: Callable[[], Method]) -> None:
    """Against central differences over the steps alone, with the third derivatives of a penalty too."""
    plain = make()
    judge, weight = plain.discriminators["discriminator"], plain.generators["generator"].head.weight
    assert isinstance(weight, nn.Parameter)
    batch, remembered = points(), plain.state_dict()
    torch.manual_seed(2)
    known = {name: value.detach() for name, value in plain.translate(batch, 0).items()}
    initial = {name: value.clone() for name, value in judge.state_dict().items()}

    def answer() -> float:
        """Three plain steps by an optimiser, then −L_D of the samples as they were."""
        torch.manual_seed(2)
        samples = {name: value.detach() for name, value in plain.translate(batch, 0).items()}
        optimiser = torch.optim.SGD(judge.parameters(), lr=0.5)
        for _ in range(3):
            optimiser.zero_grad()
            plain.discriminator_losses(batch, samples, 0).total.backward()
            optimiser.step()
            plain.load_state_dict(remembered)
        value = -plain.discriminator_losses(batch, known, 0).total.item()
        plain.load_state_dict(remembered)
        judge.load_state_dict(initial)
        return value

    method = Unrolled(plain, steps=3, learning_rate=0.5)
    torch.manual_seed(2)
    losses = method.generator_losses(batch, method.translate(batch, 0), 0)
    (gradient,) = torch.autograd.grad(losses.terms["answer"], weight)
    assert losses.terms["answer"].item() == pytest.approx(answer(), rel=1e-9)
    for row, column in ((0, 0), (1, 4)):
        difference = 0.0
        for sign in (1, -1):
            weight.data[row, column] += sign * 1e-6
            difference += sign * answer()
            weight.data[row, column] -= sign * 1e-6
        assert gradient[row, column].item() == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-8)


def test_the_whole_gradient_is_the_slope_of_the_papers_surrogate() -> None:
    """In the game of the paper, L_G = −L_D, both parts together are the slope of −L_D(θ_G, θ_D^K(θ_G)) (eq. 9)."""
    method = Unrolled(point_gan(objective=Minimax()), steps=3, learning_rate=0.5)
    batch, weight = points(), method.generators["generator"].head.weight
    assert isinstance(weight, nn.Parameter)

    def losses() -> Losses:
        torch.manual_seed(2)
        return method.generator_losses(batch, method.translate(batch, 0), 0)

    (gradient,) = torch.autograd.grad(losses().total, weight)
    difference = 0.0
    for sign in (1, -1):
        weight.data[1, 2] += sign * 1e-6
        difference += sign * losses().terms["answer"].item()  # −L_D, of the samples that the steps saw
        weight.data[1, 2] -= sign * 1e-6
    assert gradient[1, 2].item() == pytest.approx(difference / 2e-6, rel=1e-5)


class NormJudge(nn.Module):
    """With running statistics and spectral norm's vectors, all of them buffers that training writes into."""

    latent_channels, classes = 2, 0

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4))
        self.head = nn.Linear(4, 1)
        add_spectral_norm(self)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(self.body(values)).squeeze(1)


def test_unrolling_leaves_nothing_behind() -> None:
    """No gradient, no statistics, no pooled sample."""
    torch.manual_seed(0)
    judge = NormJudge()
    pooled = Replay(GAN(generator=MLPGenerator(latent_channels=2, out_channels=2, width=6), discriminator=judge))
    method, batch = Unrolled(pooled, steps=2, learning_rate=0.1), {"real": torch.randn(6, 2)}
    method.discriminator_losses(batch, method.translate(batch, 0), 0)
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    assert len(pooled.pool.items) == 6 and len(before) > 10
    method.generator_losses(batch, method.translate(batch, 0), 0).total.backward()
    assert len(pooled.pool.items) == 6
    torch.testing.assert_close(judge.state_dict(), before, rtol=0, atol=0)
    assert all(weight.grad is None for weight in judge.parameters())
    assert method.discriminators["discriminator"] is judge


def test_unrolled_steps_are_in_full_precision() -> None:
    """Under bf16 the loss and its gradient are those of fp32, for the same samples."""
    torch.manual_seed(0)
    judge = MLPDiscriminator(in_channels=2, width=32)
    method = Unrolled(
        GAN(generator=MLPGenerator(latent_channels=2, out_channels=2), discriminator=judge), steps=2, learning_rate=0.1
    )
    batch, sample = {"real": torch.randn(6, 2)}, torch.randn(6, 2, requires_grad=True)

    def loss_and_gradient() -> tuple[Tensor, Tensor]:
        loss = method.generator_losses(batch, {"sample": sample}, 0).total
        return loss.detach(), *torch.autograd.grad(loss, sample)  # type: ignore

    exact = loss_and_gradient()
    rounded = judge(sample)
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    method.discriminators = {"discriminator": accelerator.prepare_model(judge)}
    assert not torch.equal(method.discriminators["discriminator"](sample), rounded)
    torch.testing.assert_close(loss_and_gradient(), exact, rtol=0, atol=0)


def stepped(method: Method, step: int = 0, *, critic_only: bool = False) -> None:
    with torch.no_grad():
        method.stepped(step, critic_only=critic_only)


def test_weights_are_clipped() -> None:
    game = Game(g=3.0, d=1.0)
    method = WeightClipping(game, limit=0.25)
    stepped(method, critic_only=True)
    assert [weight.item() for weight in game.weights] == [3.0, 0.25]
    with torch.no_grad():
        game.weights[1].fill_(-0.1)
    stepped(method)
    assert game.weights[1].item() == -0.1


def test_history_by_hand_over_three_steps() -> None:
    game = Game(g=3.0, d=1.0)
    method = HistoricalAveraging(game, weight=0.5)
    batch = game_batch(2.0)

    def move(g: float, d: float, *, critic_only: bool = False) -> None:
        with torch.no_grad():
            game.weights[0].fill_(g)
            game.weights[1].fill_(d)
        stepped(method, critic_only=critic_only)

    def history(side: str) -> Tensor:
        out = method.translate(batch, 0)
        losses = method.generator_losses if side == "generators" else method.discriminator_losses
        return losses(batch, out, 0).terms[f"history_of_{side}"]

    assert list(method.generator_losses(batch, method.translate(batch, 0), 0).terms) == ["value"]  # no past yet
    move(3.0, 1.0)
    move(3.0, 4.0, critic_only=True)  # the generators' own weights do not count a second time
    move(6.0, 7.0)
    before = method.state_dict()
    move(-3.0, 2.0)
    assert history("generators").item() == pytest.approx(0.5 * (-3 - (3 + 6 - 3) / 3) ** 2)
    assert history("discriminators").item() == pytest.approx(0.5 * (2 - (1 + 4 + 7 + 2) / 4) ** 2)
    (gradient,) = torch.autograd.grad(history("discriminators"), game.weights[1])
    assert gradient.item() == pytest.approx(2 * 0.5 * (2 - 14 / 4))

    method.load_state_dict(before)  # a round that failed: the past is as it was, whatever came since
    assert history("discriminators").item() == pytest.approx(0.5 * (2 - (1 + 4 + 7) / 3) ** 2)


def test_filters_that_are_not_at_right_angles_cost_the_generators() -> None:
    gan = point_gan()
    method, batch = OrthogonalRegularisation(gan, weight=0.25), points()
    generator = gan.generators["generator"]
    expected = 0.0
    for name, weight in generator.named_parameters():
        if name.endswith("weight"):
            products = weight.detach().numpy() @ weight.detach().numpy().T
            expected += 0.25 * ((products - np.diag(np.diag(products))) ** 2).sum()
    out = method.translate(batch, 0)
    plain = gan.generator_losses(batch, out, 0)
    losses = method.generator_losses(batch, out, 0)
    assert losses.terms.keys() == {*plain.terms, "orthogonality"}
    assert losses.terms["orthogonality"].item() == pytest.approx(expected) and expected > 0.01
    assert losses.terms["adversarial"].item() == plain.terms["adversarial"].item()
    assert "orthogonality" not in method.discriminator_losses(batch, out, 0).terms
    losses.terms["orthogonality"].backward()
    assert all(p.grad is not None and p.grad.any() for name, p in generator.named_parameters() if "weight" in name)
    assert all(p.grad is None for p in gan.discriminators["discriminator"].parameters())


def test_nothing_to_be_at_right_angles() -> None:
    method = OrthogonalRegularisation(Game(), weight=1.0)
    assert method.generator_losses(game_batch(2.0), method.translate(game_batch(2.0), 0), 0).terms.keys() == {"value"}


class Labelled(Game):
    """Notes what belongs together."""

    def discriminator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
        assert torch.equal(out["gx"], 3 * batch["x"])
        return super().discriminator_losses(batch, out, step)


def test_replayed_samples_come_with_their_batch() -> None:
    torch.manual_seed(0)
    game = Labelled(g=3.0)
    method = Replay(game, capacity=4)
    for number in range(30):
        batch = game_batch(2.0 * number, 2.0 * number + 1)
        method.discriminator_losses(batch, {"gx": 3 * batch["x"]}, number)
    seen = (torch.stack(game.seen) / 3).flatten().tolist()
    old = sum(value != number for number, value in enumerate(seen))
    assert 15 < old < 45 and len(method.state_dict()["pool"]["items"]) == 4
    assert method.state_dict()["method"] == {"calls": 30}


class Noting(nn.Module):
    """Notes what it is given."""

    latent_channels, classes = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        return self.weight * inputs[0].mean(1)


def noisy_gan() -> tuple[InstanceNoise, Noting, Batch]:
    judge = Noting()
    generator = MLPGenerator(latent_channels=2, out_channels=2, classes=3)
    method = InstanceNoise(
        GAN(generator=generator, discriminator=judge, penalties=Penalties(r1=1.0)), deviation=0.5, steps=10
    )
    return method, judge, {"real": torch.zeros(4000, 2), "label": torch.ones(4000, dtype=torch.int64)}


@pytest.mark.parametrize(("step", "deviation"), [(0, 0.5), (4, 0.3), (10, 0.0), (30, 0.0)])
def test_noise_falls_linearly(step: int, deviation: float) -> None:
    """On all that is judged, drawn anew each time; penalties are taken where the discriminator judges."""
    torch.manual_seed(0)
    method, judge, batch = noisy_gan()
    out = {"sample": torch.zeros(4000, 2)}
    method.generator_losses(batch, out, step)
    method.discriminator_losses(batch, out, step)
    assert [len(samples) for samples, _ in judge.seen] == [4000, 8000, 4000]  # fake; real and fake; R1 at the real ones
    for samples, labels in judge.seen:
        assert samples.std().item() == pytest.approx(deviation, rel=0.03, abs=1e-9)
        assert (labels == 1).all()
    assert deviation == 0 or not torch.equal(judge.seen[0][0], judge.seen[1][0][:4000])
    assert method.discriminators["discriminator"] is judge


def test_a_stand_in_leads_to_its_network() -> None:
    method, judge, batch = noisy_gan()
    found: list[nn.Module] = []

    class Looking(Stabiliser):
        def generator_losses(self, batch: Batch, out: Outputs, step: int) -> Losses:
            found.append(self.discriminators["discriminator"])
            return super().generator_losses(batch, out, step)

    method.method = Looking(method.method)
    method.generator_losses(batch, {"sample": torch.zeros(4000, 2)}, 0)
    (stand_in,) = found
    assert stand_in is not judge and unwrapped(stand_in) is judge
    in_full_precision(stand_in)(torch.zeros(4000, 2), batch["label"])
    assert judge.seen[-1][0].std().item() == pytest.approx(0.5, rel=0.03)


NAN = float("nan")


class Strength(nn.Module):
    probability = 0.0


def adaptive(**changes: Any) -> tuple[AdaptiveAugmentation, Strength]:
    augment = Strength()
    return AdaptiveAugmentation(Game(), augment=augment, **{"ramp_images": 100, "every_steps": 2, **changes}), augment


def show(method: Method, *real_scores: float) -> Losses:
    batch = game_batch(*real_scores)  # which the game gives as its scores
    return method.discriminator_losses(batch, {"gx": batch["x"]}, 0)


def test_the_probability_s_path_by_hand() -> None:
    """Of 100 real samples a whole ramp, set at every second step."""
    method, augment = adaptive(target=0.3)
    path = []
    for scores in ([1, 2, 3, -1], [5, 1, 1, 1], [-1, -1, -1, 1], [2, 1, -1, 1], [1, 1], [1, 1, 1, -1], [-1] * 50, []):
        figures = show(method, *scores).figures if scores else {}
        assert not figures or figures["augmentation"].item() == pytest.approx(augment.probability)
        stepped(method, critic_only=len(path) % 2 == 0)
        path.append(augment.probability)
    # r = (2 + 4) / 8, (−2 + 2) / 8, (2 + 2) / 6, −1
    assert path == pytest.approx([0, 0.08, 0.08, 0, 0, 0.06, 0.06, 0])


def test_the_probability_stays_between_0_and_1_and_comes_back() -> None:
    method, augment = adaptive(every_steps=1)
    show(method, *[1.0] * 70)
    stepped(method)
    show(method, 1.0, 1.0)
    state = method.state_dict()
    show(method, *[1.0] * 70)
    stepped(method)
    assert augment.probability == 1.0

    again, strength = adaptive(every_steps=1)
    again.load_state_dict(state)
    assert strength.probability == pytest.approx(0.7)
    stepped(again)
    assert strength.probability == pytest.approx(0.72)


def test_scores_are_counted_from_where_they_turn() -> None:
    """Least squares turns at ½: of 0.9, 0.4, 0.3 and 0.2 one counts as real, though all are above 0."""
    for objective, rises in ((LeastSquares(), False), (NonSaturating(), True)):
        method, augment = adaptive(every_steps=1)
        assert isinstance(method.method, Game)
        method.method.objective, augment.probability = objective, 0.5
        show(method, 0.9, 0.4, 0.3, 0.2)
        stepped(method)
        assert augment.probability == pytest.approx(0.54 if rises else 0.46)


@pytest.mark.parametrize("name", ["wgan", "relativistic_paired", "relativistic_average"])
def test_some_objectives_have_no_signs_to_go_by(name: Any) -> None:
    method = AdaptiveAugmentation(point_gan(objective=make_objective(name)), augment=Strength())
    batch = points()
    with pytest.raises(InputError, match="take non_saturating, minimax, lsgan or hinge"):
        method.discriminator_losses(batch, method.translate(batch, 0), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightClipping(Game(), limit=0), "limit above 0, got 0"),
        (lambda: WeightClipping(Game(), limit=NAN), "limit above 0, got nan"),
        (lambda: HistoricalAveraging(Game(), weight=-1), "at least 0 and finite, got -1"),
        (lambda: HistoricalAveraging(Game(), weight=NAN), "at least 0 and finite, got nan"),
        (lambda: OrthogonalRegularisation(Game(), weight=-1), "at least 0 and finite, got -1"),
        (lambda: OrthogonalRegularisation(Game(), weight=NAN), "at least 0 and finite, got nan"),
        (lambda: Replay(Game(), capacity=-1), "0 items or more, got -1"),
        (lambda: InstanceNoise(Game(), deviation=-0.1, steps=5), "got -0.1 over 5"),
        (lambda: InstanceNoise(Game(), deviation=NAN, steps=5), "got nan over 5"),
        (lambda: InstanceNoise(Game(), deviation=0.1, steps=0), "got 0.1 over 0"),
        (lambda: Unrolled(Game(), steps=-1, learning_rate=0.1), "at least 0 unrolled steps, got -1"),
        (lambda: Unrolled(Game(), learning_rate=0), "above 0 and finite, got 0"),
        (lambda: Unrolled(Game(), learning_rate=float("inf")), "above 0 and finite, got inf"),
        (lambda: adaptive(target=1.0), "between -1 and 1, got 1.0"),
        (lambda: adaptive(target=NAN), "between -1 and 1, got nan"),
        (lambda: adaptive(ramp_images=0), "at least 1, got 0 and 2"),
        (lambda: adaptive(every_steps=0), "at least 1, got 100 and 0"),
    ],
)
def test_arguments_that_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_penalties_through_a_norm_cannot_be_unrolled(norm: Norm) -> None:
    """What is refused would fail; either of the two alone can be."""

    def gan(norm: Norm, **arguments: Any) -> Method:
        # Within another stabiliser, which hands on what it has.
        judge = DCGANDiscriminator(size=16, width=4, norm=norm)
        generator = DCGANGenerator(latent_channels=2, size=16, width=4)
        return Replay(GAN(generator=generator, discriminator=judge, **arguments))

    with pytest.raises(InputError, match="gradient of a penalty's gradient"):
        Unrolled(gan(norm, penalties=Penalties(r1=1.0)), steps=1, learning_rate=0.1)
    Unrolled(gan(norm, penalties=Penalties(r1=1.0)), steps=0, learning_rate=0.1)
    batch = {"real": torch.randn(2, 3, 16, 16)}
    for method in (gan(norm), gan("none", penalties=Penalties(r1=1.0))):
        unrolled = Unrolled(method, steps=1, learning_rate=0.1)
        unrolled.generator_losses(batch, unrolled.translate(batch, 0), 0).total.backward()
    refused = Unrolled(gan(norm), steps=1, learning_rate=0.1)
    refused.method = gan(norm, penalties=Penalties(r1=1.0))
    with pytest.raises(RuntimeError, match="3rd"):
        refused.generator_losses(batch, refused.translate(batch, 0), 0).total.backward()


def test_batches_are_checked_by_the_method_within() -> None:
    method = Replay(noisy_gan()[0])
    method.check({"real": torch.zeros(2, 2), "label": torch.tensor([0, 2])})
    with pytest.raises(InputError, match="from 0 to 2, got 3"):
        method.check({"real": torch.zeros(2, 2), "label": torch.tensor([0, 3])})
