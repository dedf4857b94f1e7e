"""The settings of what steadies a game: what is refused, what is remarked, and how long each lasts."""

import pytest
from torch import nn

from i2i.discriminators import DCGANDiscriminator
from i2i.errors import InputError
from i2i.generators import DCGANGenerator
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.stabilisers import InstanceNoise, OrthogonalRegularisation
from i2i.training.config import TrainingSettings
from i2i.training.stabilisers import Stabilisers, images_shown

TRAINING = TrainingSettings(steps=400, batch_size=10, accumulation=2, critic_steps=3)
R1 = Penalties(r1=1.0)


def networks(**options: object) -> tuple[nn.Module, nn.Module]:
    generator = DCGANGenerator(latent_channels=3, out_channels=3, width=4, size=16, classes=0)
    return generator, DCGANDiscriminator(in_channels=3, width=4, size=16, classes=0, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "adaptive", "objective": "wgan"}, "--augment diff"),
        ({"augment": "adaptive", "objective": "relativistic_average"}, "--augment diff"),
        ({"augment": "adaptive", "objective": "relativistic_paired"}, "--augment diff"),
        ({"mismatched_share": 0.5, "objective": "wgan"}, "--mismatched-share 0"),
        ({"mismatched_share": 1.0}, "below 1"),
        ({"ada_target": 1.0}, "--ada-target"),
        ({"ada_target": -1.0}, "--ada-target"),
        ({"ada_target": float("nan")}, "--ada-target"),
        ({"ada_ramp_images": 0}, "--ada-ramp-images"),
        ({"instance_noise_until": 0.0}, "--instance-noise-until"),
        ({"instance_noise": -0.1}, "--instance-noise "),
        ({"unrolled_steps": -1}, "--unrolled-steps"),
        ({"orthogonal_weight": -1e-4}, "--orthogonal-weight"),
        ({"orthogonal_weight": float("nan")}, "--orthogonal-weight"),
        ({"real_label": 0.9, "objective": "hinge"}, "real"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stabilisers(**options)


@pytest.mark.parametrize("objective", ["minimax", "non_saturating", "lsgan", "hinge"])
def test_adaptive_augmentation_goes_with_scores_that_have_a_zero(objective: str) -> None:
    Stabilisers(augment="adaptive", objective=objective)


def test_batch_norm_under_a_penalty_is_refused_and_minibatch_statistics_are_remarked() -> None:
    _, normed = networks()
    with pytest.raises(InputError, match="--discriminator-norm none"):
        Stabilisers(penalties=R1).check(normed, training=TRAINING)
    Stabilisers().check(normed, training=TRAINING)
    _, of_batches = networks(norm="none", minibatch="discrimination")
    settings = Stabilisers(penalties=R1)
    settings.check(of_batches, training=TRAINING)
    assert "mixes" in " ".join(settings.remarks(of_batches, images=5000, classes=0, training=TRAINING))
    _, single = networks(norm="none")
    assert not settings.remarks(single, images=5000, classes=0, training=TRAINING)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_unrolled_steps_through_a_norm_under_a_penalty_are_refused(norm: str) -> None:
    with pytest.raises(InputError, match="unrolled steps"):
        Stabilisers(penalties=R1, unrolled_steps=1).steadied(*networks(norm=norm), training=TRAINING)
    Stabilisers(unrolled_steps=1).steadied(*networks(norm=norm), training=TRAINING)
    Stabilisers(penalties=R1, unrolled_steps=1).steadied(*networks(norm="none"), training=TRAINING)


@pytest.mark.parametrize(("classes", "said"), [(0, True), (1, True), (2, False)])
def test_mismatched_classes_without_classes_are_remarked(classes: int, said: bool) -> None:
    settings, (_, discriminator) = Stabilisers(mismatched_share=0.2), networks()
    remarks = settings.remarks(discriminator, images=5000, classes=classes, training=TRAINING)
    assert any("--mismatched-share has no effect" in remark for remark in remarks) == said


@pytest.mark.parametrize(("until", "steps"), [(0.5, 200), (1.5, 600), (0.001, 1)])
def test_noise_lasts_for_a_share_of_the_run(until: float, steps: int) -> None:
    settings = Stabilisers(instance_noise=0.2, instance_noise_until=until)
    _, method = settings.steadied(*networks(), training=TRAINING)
    assert isinstance(method, InstanceNoise) and (method.deviation, method.steps) == (0.2, steps)


def test_orthogonal_regularisation_of_a_weight() -> None:
    _, method = Stabilisers(orthogonal_weight=3e-4).steadied(*networks(), training=TRAINING)
    assert isinstance(method, OrthogonalRegularisation) and method.weight == 3e-4
    gan, method = Stabilisers().steadied(*networks(), training=TRAINING)
    assert method is gan


def test_adaptive_augmentation_takes_a_tenth_of_the_run() -> None:
    assert images_shown(TRAINING) == 400 * 10 * 2 * 3
    for given, ramp in ((None, 2400), (77, 77)):
        settings = Stabilisers(augment="adaptive", ada_ramp_images=given, ada_target=0.3)
        gan, method = settings.steadied(*networks(), training=TRAINING)
        assert isinstance(method, AdaptiveAugmentation) and method.augment is gan.augment
        assert (method.ramp_images, method.target) == (ramp, 0.3)
