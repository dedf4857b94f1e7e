"""What all methods share: sums of losses, accuracy, networks under mixed precision."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from i2i.discriminators import MLPDiscriminator
from i2i.methods.base import Losses, Method, StandIn, in_full_precision, unwrapped, with_features


def brute_force_accuracy(real: list[float], fake: list[float]) -> float:
    """The area under the ROC curve by its definition (Hanley and McNeil 1982): every pair is looked at."""
    wins = sum((r > f) + 0.5 * (r == f) for r in real for f in fake)
    return wins / (len(real) * len(fake))


def test_the_total_is_the_sum_of_the_terms() -> None:
    terms = {"a": torch.tensor(1.5, requires_grad=True), "b": torch.tensor(-0.25), "c": torch.tensor(2.0)}
    total = Losses(terms=terms).total
    assert total.item() == 3.25
    total.backward()
    assert terms["a"].grad == 1


@pytest.mark.parametrize("levels", [3, 1000])
def test_accuracy_counts_pairs_ranked_rightly(levels: int) -> None:
    """With many ties, and with hardly any; over all scores of all maps."""
    real = [torch.randint(levels, shape).float() for shape in ((4, 1, 3, 3), (5,))]
    fake = [torch.randint(levels, shape).float() - levels // 5 for shape in ((7,), (2, 1, 2, 2))]
    accuracy = Losses(terms={}, real_scores=real, fake_scores=fake).accuracy()
    expected = brute_force_accuracy(
        torch.cat([s.flatten() for s in real]).tolist(), torch.cat([s.flatten() for s in fake]).tolist()
    )
    assert accuracy is not None and 0 < expected < 1
    assert accuracy.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [([2.0, 3.0], [0.0, 1.0], 1.0), ([0.0], [1.0, 2.0], 0.0), ([1.0, 1.0], [1.0], 0.5)],
)
def test_accuracy_at_its_ends(real: list[float], fake: list[float], expected: float) -> None:
    scores = [torch.tensor(real, requires_grad=True)], [torch.tensor(fake, dtype=torch.bfloat16)]
    accuracy = Losses(terms={}, real_scores=scores[0], fake_scores=scores[1]).accuracy()
    assert accuracy is not None and accuracy.item() == expected and not accuracy.requires_grad


def test_no_accuracy_without_scores() -> None:
    assert Losses(terms={}).accuracy() is None
    assert Losses(terms={}, fake_scores=[torch.zeros(1)]).accuracy() is None


def test_defaults_of_a_method() -> None:
    method = Method(generators={}, discriminators={})
    assert method.frozen == {} and method.state_dict() == {} and method.validate({}) == {}
    method.load_state_dict({})
    with pytest.raises(NotImplementedError):
        method.translate({}, 0)


def test_in_full_precision_under_bf16() -> None:
    """accelerate wraps autocast around the forward of a prepared network, where an outer context can't reach."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    inputs = torch.randn(16, 64)
    exact = network(inputs)
    AcceleratorState._reset_state()
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(network)
    assert unwrapped(prepared) is network

    with torch.autocast("cpu", enabled=False):
        rounded = prepared(inputs)
    assert (rounded - exact).abs().max() > 1e-4  # else this test would show nothing

    assert torch.equal(in_full_precision(prepared)(inputs), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(in_full_precision(prepared)(inputs), exact)
    widened = in_full_precision(prepared)(inputs.bfloat16())
    assert widened.dtype == torch.float32
    torch.testing.assert_close(widened, in_full_precision(prepared)(inputs.bfloat16().float()))


def test_in_full_precision_keeps_float64() -> None:
    network = nn.Linear(3, 1).double()
    assert in_full_precision(network)(torch.randn(2, 3, dtype=torch.float64)).dtype == torch.float64


def test_a_stand_in_is_its_network_run_otherwise() -> None:
    network, inputs = nn.Linear(3, 1), torch.randn(2, 3)
    outer = StandIn(StandIn(network, lambda run, x: run(x) + 1), lambda run, x: 10 * run(x))
    assert unwrapped(outer) is network
    expected = 10 * (network(inputs) + 1)
    assert torch.equal(outer(inputs), expected) and torch.equal(in_full_precision(outer)(inputs), expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_features_are_what_goes_into_the_head(compiled: bool) -> None:
    network, points = MLPDiscriminator(in_channels=2, width=4), torch.randn(5, 2)
    if compiled:  # before the tap is there, of which compiled code then knows nothing
        network.compile(backend="eager")
        network(points)
    stand_in = StandIn(network, lambda run, x: run(x + 1))
    for judge, shown in ((network, points), (stand_in, points + 1)):
        scores, features = with_features(judge)(points)
        torch.testing.assert_close(features, network.hidden(shown))
        torch.testing.assert_close(scores, network.head(features).squeeze(1))
