"""TransGAN's discriminator."""

import pytest
import torch
from torch import Tensor, nn

from i2i.discriminators import TransGANDiscriminator
from i2i.errors import InputError

SMALL = {"width": 16, "blocks": (1,), "heads": 2, "grid_px": 4, "grid_from_px": 8}
LABELS = torch.tensor([1, 0, 1])


def learn(network: nn.Module, scores: Tensor) -> None:
    """A gradient reaches every parameter."""
    scores.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(("norm", "pooling"), [("pixel", "token"), ("layer", "token"), ("layer", "mean")])
@pytest.mark.parametrize("minibatch", ["none", "stddev", "discrimination"])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize(("size", "patch_px", "scales"), [(16, 1, 1), (16, 2, 3), (32, 2, 2), (64, 8, 2)])
def test_judges_and_learns(
    size: int, patch_px: int, scales: int, classes: int, minibatch: str, norm: str, pooling: str
) -> None:
    network = TransGANDiscriminator(
        **SMALL,
        in_channels=2,
        size=size,
        classes=classes,
        patch_px=patch_px,
        scales=scales,
        norm=norm,  # type: ignore[arg-type]
        pooling=pooling,  # type: ignore[arg-type]
        minibatch=minibatch,  # type: ignore[arg-type]
    )
    scores = network(torch.randn(3, 2, size, size), LABELS if classes else None)
    assert scores.shape == (3,)
    learn(network, scores)


def maps_of(network: TransGANDiscriminator) -> list[tuple[int, ...]]:
    """Patches, sides, channels, squares of attention and blocks of each stage."""
    shapes = [
        (embed.in_features, *stage.positions.shape[1:], stage.grid, len(stage.blocks))
        for embed, stage in zip(network.embed, network.levels, strict=True)
    ]
    return [(round((values / network.in_channels) ** 0.5), *others) for values, *others in shapes]


def test_has_the_papers_maps() -> None:
    with torch.device("meta"):
        cifar = TransGANDiscriminator()
        large = TransGANDiscriminator(size=256, patch_px=4, scales=3)
    assert maps_of(cifar) == [(2, 16, 192, 16, 3), (4, 8, 384, 8, 3)]
    assert maps_of(large) == [(4, 64, 96, 16, 3), (8, 32, 192, 32, 3), (16, 16, 384, 16, 3)]
    assert [embed.out_features for embed in large.embed] == [96, 96, 192]  # C/4, C/4 and C/2


def test_written_out() -> None:
    """Patches in the order of an image's rows; averages joined by larger patches; what a class token has gathered."""
    network = TransGANDiscriminator(**SMALL, size=16, classes=2).double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)

    def embedded(layer: nn.Linear, side: int) -> Tensor:
        places = range(0, 16, side)
        patches = [[x[:, :, i : i + side, j : j + side].flatten(1) for j in places] for i in places]
        return torch.stack([torch.stack(row, 1) for row in patches], 1) @ layer.weight.T + layer.bias

    fine = network.levels[0](embedded(network.embed[0], 2))
    assert fine.shape == (3, 8, 8, 8)
    averages = (fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]) / 4
    coarse = network.levels[1](torch.cat([averages, embedded(network.embed[1], 4)], dim=3))
    token = network.class_token.expand(3, 1, 16)
    gathered = network.gather(torch.cat([token, coarse.view(3, 16, 16)], dim=1))[:, 0]
    features = gathered / gathered.square().mean(1, keepdim=True).sqrt()
    expected = features @ network.head.weight[0] + network.head.bias
    expected = expected + (network.embedding.weight[LABELS] * features).sum(1)
    torch.testing.assert_close(network(x, LABELS), expected)


def test_the_mean_of_all_tokens_is_judged() -> None:
    network = TransGANDiscriminator(**SMALL, size=16, scales=1, classes=2, pooling="mean", norm="layer")
    network.requires_grad_(False).double()
    nn.init.normal_(network.norm.weight)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    patches = torch.nn.functional.unfold(x, 2, stride=2).mT  # (N, 64, values), channel by channel
    tokens = network.levels[0](network.embed[0](patches).unflatten(1, (8, 8))).flatten(1, 2)
    deviation = tokens.var(-1, keepdim=True, correction=0).add(1e-5).sqrt()
    features = ((tokens - tokens.mean(-1, keepdim=True)) / deviation).mean(1) * network.norm.weight
    expected = features @ network.head.weight[0] + (network.embedding.weight[LABELS] * features).sum(1)
    torch.testing.assert_close(network(x, LABELS), expected)
    assert not any(name.startswith(("gather", "class_token")) for name in network.state_dict())


def test_places_do_not_drown_what_is_in_patches() -> None:
    network = TransGANDiscriminator(size=32, width=64, scales=1, patch_px=4)
    seen = network.embed[0](torch.rand(50, 48) * 2 - 1)
    assert seen.std() > 3 * network.levels[0].positions.std()


def test_patches_that_lie_elsewhere_are_judged_otherwise() -> None:
    network, x = TransGANDiscriminator(**SMALL, size=16).double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert (network(x) - network(x.roll(8, 3))).abs().min() > 1e-6


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_gradient_penalties_go_through_all_parts(precision: torch.dtype) -> None:
    network = TransGANDiscriminator(**SMALL, size=16, classes=2, norm="layer", minibatch="discrimination").to(precision)
    x = torch.randn(3, 3, 16, 16, requires_grad=True, dtype=precision)
    (slope,) = torch.autograd.grad(network(x, LABELS).sum(), x, create_graph=True)
    slope.square().sum().backward()
    for name, parameter in network.named_parameters():
        if name not in ("head.bias", "gather.mlp.2.bias"):
            assert parameter.grad is not None and parameter.grad.any(), name


def test_class_ids_are_told_and_checked() -> None:
    network = TransGANDiscriminator(**SMALL, size=16, classes=3)
    x = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)
    scores = network(x, torch.tensor([0, 1, 2]))
    assert len(set(scores.tolist())) == 3
    torch.testing.assert_close(network(x, torch.tensor([2, 0, 1])), scores[[2, 0, 1]])
    with pytest.raises(InputError, match="3 classes: expected the class ids of 3 samples"):
        network(x)
    with pytest.raises(InputError, match="from 0 to 2, got 3"):
        network(x, torch.tensor([0, 3, 0]))


def test_features_go_into_the_head() -> None:
    """Feature matching taps them there."""
    tapped = []
    network = TransGANDiscriminator(**SMALL, size=16, minibatch="stddev")
    network.head.register_forward_pre_hook(lambda module, inputs: tapped.append(inputs[0]))
    network(torch.randn(4, 3, 16, 16))
    assert [features.shape for features in tapped] == [(4, 17)]


def test_minibatch_statistics_tell_a_batch_from_its_parts() -> None:
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    alone, network = (TransGANDiscriminator(**SMALL, size=16, minibatch=kind).double() for kind in ("none", "stddev"))
    torch.testing.assert_close(alone(x)[:2], alone(x[:2]))
    assert (network(x)[:2] - network(x[:2])).abs().max() > 1e-7


def test_in_16_bits() -> None:
    network, x = TransGANDiscriminator(**SMALL, size=32), torch.randn(4, 3, 32, 32)
    whole = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(x)
    assert (scores.float() - whole).abs().max() < 0.1
    learn(network, scores.float())


def test_rebuilt_from_its_arguments() -> None:
    network = TransGANDiscriminator(**SMALL, size=16, classes=2)
    with torch.device("meta"):
        twin = TransGANDiscriminator(**network.arguments)
    twin.load_state_dict(network.state_dict(), assign=True)
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(twin(x, LABELS), network(x, LABELS))


def test_refuses_what_it_cannot_take() -> None:
    for size in (8, 48):
        with pytest.raises(InputError, match=f"size to be a power of two of at least 16 px, got {size}"):
            TransGANDiscriminator(size=size)
    for name in ("patch_px", "grid_px"):
        with pytest.raises(InputError, match=f"{name} to be a power of two of at least 1 px, got 6"):
            TransGANDiscriminator(**{name: 6})
    for scales in (0, 5):
        with pytest.raises(InputError, match=f"at most 16 px, half of the image, got {scales} scales from 2 px"):
            TransGANDiscriminator(scales=scales)
    with pytest.raises(InputError, match="heads to be at least 1, got 0"):
        TransGANDiscriminator(heads=0)
    for width in (0, 12):
        with pytest.raises(InputError, match=f"multiple of 8, for 4 heads and 2 scales, got {width}"):
            TransGANDiscriminator(width=width)
    with pytest.raises(InputError, match='pooling to be "token" or "mean", got \'max\''):
        TransGANDiscriminator(pooling="max")  # type: ignore[arg-type]
    for blocks in ((), (1, 0)):
        with pytest.raises(InputError, match="at least one block"):
            TransGANDiscriminator(width=16, blocks=blocks)
    network = TransGANDiscriminator(**SMALL, size=32)
    with pytest.raises(InputError, match="images of 32 x 32 px, got 33 x 32"):
        network(torch.randn(1, 3, 33, 32))
    with pytest.raises(InputError, match=r"\(N, 3, H, W\), got \(1, 1, 32, 32\)"):
        network(torch.randn(1, 1, 32, 32))
