"""CUT and FastCUT against the rules of the paper and of the authors' code, written out."""

import json
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.checkpoints import GeneratorSpec, ImageSide
from i2i.data.sampler import Draw
from i2i.discriminators import PatchDiscriminator
from i2i.errors import InputError
from i2i.generators import ResNetGenerator, UNetGenerator
from i2i.layers.norm import Norm
from i2i.losses.adversarial import RelativisticAverage, Wasserstein
from i2i.losses.penalties import Penalties
from i2i.methods.cut import CUT, paper_taps
from i2i.metrics import patch_descriptors, sliced_wasserstein
from i2i.training.config import TrainingSettings
from i2i.training.loop import train
from i2i.training.report import RunFacts

TAPS = (0, 2, 3, 4)
FAST = {"nce_weight": 10.0, "identity_nce_weight": 0.0, "flip_equivariance": True}


class Judge(nn.Module):
    """A score a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(images)


class Copy(nn.Module):
    """Gives its input back, and that as its only stage."""

    in_channels = out_channels = 3
    tap_channels = (3,)

    def forward(self, images: Tensor, taps: Sequence[int], decode: bool = True) -> tuple[Tensor | None, list[Tensor]]:
        return images if decode else None, [images for _ in taps]


class Count(nn.Module):
    """Notes what comes to it and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images


def make(*, norm: Norm = "instance", dtype: torch.dtype = torch.float64, **arguments: object) -> CUT:
    method = CUT(
        generator=ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=1, norm=norm).to(dtype),
        discriminator=Judge().to(dtype),
        **{"taps": TAPS, "patches": 9, **arguments},  # type: ignore
    )
    method.auxiliary["projector"].to(dtype)
    return method


def make_batch(size: int = 16, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {side: torch.rand(2, 3, size, size, dtype=dtype) * 2 - 1 for side in ("a", "b")}


def encoded(method: CUT, images: Tensor) -> list[Tensor]:
    """The tapped stages of a ResNet generator with one block, one layer after another."""
    generator = method.generators["generator"]
    stem = generator.stem(images)
    half = generator.down[0](stem)
    quarter = generator.down[1](half)
    return [images, half, quarter, generator.blocks[0](quarter)]


def at(maps: Tensor, positions: Tensor) -> Tensor:
    return torch.stack([m.flatten(1)[:, p].T for m, p in zip(maps, positions, strict=True)])


def contrasted(method: CUT, source: list[Tensor], output: list[Tensor], positions: list[Tensor]) -> Tensor:
    """The mean over stages of eq. 3, with the softmax written out."""
    losses = []
    for stage, (keys, queries, places) in enumerate(zip(source, output, positions, strict=True)):
        project = method.auxiliary["projector"].stages[stage]
        k, q = (nn.functional.normalize(project(at(maps, places)), dim=2) for maps in (keys, queries))
        odds = torch.exp(torch.einsum("nqd,nkd->nqk", q, k) / 0.07)
        losses.append(-(odds.diagonal(dim1=1, dim2=2) / odds.sum(2)).log().mean())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("nce_weight", "identity_nce_weight"), [(1.0, 1.0), (3.0, 2.0), (1.0, 0.0)])
def test_the_papers_objective(norm: Norm, nce_weight: float, identity_nce_weight: float) -> None:
    """Equation 5 with LSGAN; both PatchNCE losses halved as the authors do, each side through the encoder by itself."""
    method = make(norm=norm, nce_weight=nce_weight, identity_nce_weight=identity_nce_weight)
    batch = make_batch()
    out = method.translate(batch, 0)
    losses = method.generator_losses(batch, out, 0)

    generator, judge = method.generators["generator"], method.discriminators["discriminator"]
    pairs = {"fake_b": ("a", nce_weight), "same_b": ("b", identity_nce_weight)}
    expected = {"adversarial": (judge(generator(batch["a"])) - 1).square().mean()}
    for name, (side, weight) in pairs.items() if identity_nce_weight else [("fake_b", ("a", 2 * nce_weight))]:
        output = generator(batch[side])
        torch.testing.assert_close(out[name], output)
        positions = [out[f"positions_{name}_{tap}"] for tap in TAPS]
        nce = contrasted(method, encoded(method, batch[side]), encoded(method, output), positions)
        expected[f"nce_{name}"] = weight / 2 * nce
    torch.testing.assert_close(losses.terms, expected)

    judged = method.discriminator_losses(batch, out, 0)
    real, fake = judge(batch["b"]), judge(generator(batch["a"]))
    torch.testing.assert_close(judged.terms, {"discriminator": ((real - 1).square().mean() + fake.square().mean()) / 2})
    torch.testing.assert_close((judged.real_scores[0], judged.fake_scores[0]), (real, fake))


def mirrored_or_not(method: CUT, batch: dict[str, Tensor], mirrored: bool) -> dict[str, Tensor]:
    """A translation of the images as they are, or of the mirrored ones, whichever is asked for."""
    source = batch["a"].flip(3) if mirrored else batch["a"]
    expected = method.generators["generator"](source)
    for _ in range(50):
        out = method.translate(batch, 0)
        if torch.allclose(out["fake_b"], expected):
            return out
    raise AssertionError("never came")


@pytest.mark.parametrize("mirrored", [False, True])
def test_fastcut_compares_with_the_unmirrored_source(mirrored: bool) -> None:
    """As the authors do: features of the mirrored translation, mirrored back, and those of the source as it is."""
    method, batch = make(**FAST), make_batch()
    out = mirrored_or_not(method, batch, mirrored)
    losses = method.generator_losses(batch, out, 0)

    source = encoded(method, batch["a"])
    output = encoded(method, out["fake_b"])
    positions = [out[f"positions_fake_b_{tap}"] for tap in TAPS]
    if mirrored:
        output = [maps.flip(3) for maps in output]
        widths = [maps.shape[3] for maps in output]
        positions = [p // w * w + (w - 1 - p % w) for p, w in zip(positions, widths, strict=True)]
    for maps, places, tap in zip(source, positions, TAPS, strict=True):
        torch.testing.assert_close(out[f"keys_fake_b_{tap}"], at(maps, places))
    torch.testing.assert_close(losses.terms["nce_fake_b"], 10 * contrasted(method, source, output, positions))


def test_a_generator_that_only_mirrors_along_is_perfectly_equivariant() -> None:
    """Each query then is its key, mirrored or not, and half of the steps mirror."""
    batch = make_batch()
    method = CUT(generator=Copy(), discriminator=Judge(), taps=(0,), **FAST)  # type: ignore
    count = 0
    for _ in range(100):
        out = method.translate(batch, 0)
        count += torch.equal(out["fake_b"], batch["a"].flip(3))
        assert torch.equal(at(out["fake_b"], out["positions_fake_b_0"]), out["keys_fake_b_0"])
    assert 30 < count < 70


def test_cut_never_mirrors() -> None:
    method, batch = CUT(generator=Copy(), discriminator=Judge(), taps=(0,)), make_batch()
    assert all(torch.equal(method.translate(batch, 0)["fake_b"], batch["a"]) for _ in range(20))


@pytest.mark.parametrize(("norm", "calls"), [("instance", 1), ("batch", 2)])
def test_both_sides_share_a_call_unless_batch_norm_would_mix_them(norm: Norm, calls: int) -> None:
    method, batch = make(norm=norm), make_batch()
    stem = Count()
    method.generators["generator"].stem.insert(0, stem)
    out = method.translate(batch, 0)
    assert len(stem.seen) == calls  # keys come from the translating pass
    method.generator_losses(batch, out, 0)
    assert len(stem.seen) == 2 * calls


def test_sides_of_different_sizes() -> None:
    method, batch = make(), make_batch()
    batch["b"] = torch.rand(2, 3, 12, 20, dtype=torch.float64)
    out = method.translate(batch, 0)
    assert out["fake_b"].shape == (2, 3, 16, 16) and out["same_b"].shape == (2, 3, 12, 20)
    assert method.generator_losses(batch, out, 0).total.isfinite()


@pytest.mark.parametrize("arguments", [{}, FAST])
def test_gradients_reach_every_parameter(arguments: dict[str, object]) -> None:
    # Instance norm takes away what the biases before it add.
    method, batch = make(norm="none", **arguments), make_batch()
    method.generator_losses(batch, method.translate(batch, 0), 0).total.backward()
    for network in (method.generators["generator"], method.auxiliary["projector"]):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_as_many_positions_as_the_paper_has_drawn_anew_at_each_step() -> None:
    method, batch = CUT(generator=Copy(), discriminator=Judge(), taps=(0,)), make_batch(20)
    first, second = (method.translate(batch, 0)["positions_fake_b_0"] for _ in range(2))
    assert first.shape == (2, 256)
    assert not torch.equal(first, second)


def test_a_relativistic_generator_sees_real_scores() -> None:
    method, batch = make(objective=RelativisticAverage()), make_batch()
    out = method.translate(batch, 0)
    judge = method.discriminators["discriminator"]
    difference = judge(batch["b"]) - judge(out["fake_b"]).mean(), judge(out["fake_b"]) - judge(batch["b"]).mean()
    expected = -(1 - difference[0].sigmoid()).log().mean() - difference[1].sigmoid().log().mean()
    torch.testing.assert_close(method.generator_losses(batch, out, 0).terms["adversarial"], expected)


def test_augmentation_is_between_images_and_discriminator() -> None:
    augment = Count()
    method, batch = make(augment=augment, penalties=Penalties(r1=1.0)), make_batch()
    out = method.translate(batch, 0)
    method.generator_losses(batch, out, 0)
    method.discriminator_losses(batch, out, 0)
    expected = [out["fake_b"], out["fake_b"], batch["b"]]
    assert all(torch.equal(seen, images) for seen, images in zip(augment.seen, expected, strict=True))


def test_scores_are_told_with_their_objective() -> None:
    objective = Wasserstein()
    method, batch = make(objective=objective), make_batch()
    judged = method.discriminator_losses(batch, method.translate(batch, 0), 0)
    assert judged.objective is objective and judged.accuracy() is None


def test_lazy_r1() -> None:
    """The gradient of a mean over pixels of an affine score is its weight, spread over the pixels."""
    method, batch = make(penalties=Penalties(r1=3.0, every_steps=4)), make_batch()
    out = {"fake_b": batch["a"]}
    terms = [method.discriminator_losses(batch, out, step).terms for step in range(9)]
    assert [step for step in range(9) if "r1" in terms[step]] == [0, 4, 8]
    weight = method.discriminators["discriminator"].mix.weight
    torch.testing.assert_close(terms[4]["r1"], 3 * 4 * 16 * 16 * weight.square().sum() / 2)


def test_penalties_are_at_images_as_they_are_judged() -> None:
    """R1 at images of B and R2 at translations; the slope of Σ x² at x is 2 x."""

    class Square(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.square().sum(dim=(1, 2, 3))

    method, batch = make(penalties=Penalties(r1=3.0, r2=5.0)), make_batch()
    method.discriminators["discriminator"] = Square()
    terms = method.discriminator_losses(batch, {"fake_b": batch["a"]}, 0).terms
    torch.testing.assert_close(terms["r1"], 3.0 / 2 * (2 * batch["b"]).square().sum() / 2)
    torch.testing.assert_close(terms["r2"], 5.0 / 2 * (2 * batch["a"]).square().sum() / 2)


def test_preview_and_held_out_figures() -> None:
    method, batch = make(dtype=torch.float32), make_batch(32, torch.float32)
    fake = method.generators["generator"](batch["a"])
    assert list(method.preview(batch)) == ["A", "A → B", "B"]
    described = {f"{kind}_b/{level}" for kind in ("fake", "real") for level in ("0", "low")}
    assert set(method.validate(batch)) == {*described, "compared"}

    batch["truth_b"] = torch.rand(2, 3, 32, 32) * 2 - 1
    pictures = method.preview(batch)
    torch.testing.assert_close(pictures, {"A": batch["a"], "A → B": fake, "B in truth": batch["truth_b"]})
    measured = method.validate(batch)
    assert measured["l1"] == pytest.approx((fake - batch["truth_b"]).abs().mean().item() / 2, rel=1e-5)
    descriptors = {name: value for name, value in measured.items() if isinstance(value, Tensor)}
    expected = sliced_wasserstein(patch_descriptors(batch["b"]), patch_descriptors(fake))["swd"]
    assert method.distances(descriptors) == {"swd": pytest.approx(expected, rel=1e-5)}

    method = make(dtype=torch.float32, figures=lambda output, truth: {"of mine": float(len(output))})
    assert method.validate(batch)["of mine"] == 2.0


@pytest.mark.parametrize(
    ("downsamplings", "blocks", "expected"),
    [
        (2, 9, (0, 2, 3, 4, 8)),
        (2, 5, (0, 2, 3, 4, 8)),
        (2, 4, (0, 2, 3, 4, 6)),
        (2, 1, (0, 2, 3, 4)),
        (1, 3, (0, 2, 3, 4)),
    ],
)
def test_stages_of_the_paper(downsamplings: int, blocks: int, expected: tuple[int, ...]) -> None:
    assert paper_taps(downsamplings=downsamplings, blocks=blocks) == expected


def test_channels_of_the_papers_stages() -> None:
    """Those that the authors' projector has for their generator of nine blocks."""
    method = CUT(generator=ResNetGenerator(in_channels=3, out_channels=3), discriminator=Judge())
    assert [stage[0].in_features for stage in method.auxiliary["projector"].stages] == [3, 128, 256, 256, 256]


def test_generators_that_cannot_be_used() -> None:
    judge = Judge()
    with pytest.raises(InputError, match=r"number of channels \(1 and 3\)"):
        CUT(generator=ResNetGenerator(in_channels=1, out_channels=3), discriminator=judge)
    with pytest.raises(InputError, match=r"\(0, 2, 3, 4, 8\), and ResNetGenerator has 8 stages"):
        CUT(generator=ResNetGenerator(in_channels=3, out_channels=3, blocks=4), discriminator=judge)
    with pytest.raises(InputError, match="UNetGenerator"):
        CUT(generator=UNetGenerator(in_channels=3, out_channels=3, depth=5), discriminator=judge)
    with pytest.raises(InputError, match=r"\(\)"):
        make(taps=())
    with pytest.raises(InputError, match="-1"):
        make(taps=(-1,))


class Sides(Dataset[dict[str, Tensor]]):
    """Random images that follow from their draw's seed."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        seed = draw.seed % 2**62 if isinstance(draw, Draw) else draw
        random = torch.Generator().manual_seed(seed)
        return {side: torch.rand(3, 16, 16, generator=random) * 2 - 1 for side in ("a", "b")}


def toy(arguments: dict[str, object]) -> CUT:
    torch.manual_seed(1)
    return CUT(
        generator=ResNetGenerator(in_channels=3, out_channels=3, width=4, blocks=2),
        discriminator=PatchDiscriminator(in_channels=3, width=4, layers=1, norm="instance"),
        taps=paper_taps(blocks=2),
        patches=8,
        **arguments,  # type: ignore
    )


def run(method: CUT, out: Path, steps: int) -> list[dict[str, float]]:
    """Trains up to that step; the losses of each so far."""
    image = ImageSide(channels=3, dtype="uint8", data_range=(0, 255))
    settings = TrainingSettings(
        steps=steps, batch_size=2, schedule="constant", ema_decay=0.9, save_every_steps=1, workers=0, device="cpu"
    )
    with patch("i2i.training.loop.write_report"), patch("i2i.training.record.write_report"):
        train(
            method=method,
            training_data=Sides(),
            validation_data=Sides(),
            specs={"generator": GeneratorSpec(input=image, output=image)},
            settings=settings,
            out=out,
            facts=RunFacts(title="toy", about="", settings={}, fingerprint="sides"),
        )
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line]


def trained_weights(method: CUT) -> dict[str, Tensor]:
    networks = {**method.generators, **method.discriminators, **method.auxiliary}
    return {f"{n}.{name}": weight for n, network in networks.items() for name, weight in network.named_parameters()}


@pytest.mark.parametrize("arguments", [{}, FAST])
def test_a_run_in_two_parts_is_the_run_in_one(arguments: dict[str, object], tmp_path: Path) -> None:
    method, resumed = toy(arguments), toy(arguments)
    whole = run(method, tmp_path / "whole", 3)
    assert len(whole) == 3 and {"adversarial", "nce_fake_b", "discriminator"} <= whole[0].keys()
    run(toy(arguments), tmp_path / "parts", 1)
    assert run(resumed, tmp_path / "parts", 3) == whole

    untrained, weights, weights_of_resumed = (trained_weights(m) for m in (toy(arguments), method, resumed))
    for name, weight in weights.items():
        assert torch.equal(weights_of_resumed[name], weight)
        assert not torch.equal(weight, untrained[name]), name
    assert sorted(folder.name for folder in (tmp_path / "whole").iterdir() if (folder / "config.json").exists()) == [
        "generator"
    ]
