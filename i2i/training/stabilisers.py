"""The settings of what two networks play for, and of what keeps their game steady."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from accelerate import PartialState
from torch import nn

from i2i.data.adaptive import AdaptiveAugment
from i2i.data.augment import DiffAugment
from i2i.errors import InputError
from i2i.layers.minibatch import MinibatchLayer
from i2i.losses.adversarial import Objective, make_objective
from i2i.losses.penalties import Penalties
from i2i.methods.adaptive import AdaptiveAugmentation
from i2i.methods.base import Method
from i2i.methods.gan import GAN
from i2i.methods.shared import has_batch_norm, penalty_remarks
from i2i.methods.stabilisers import (
    HistoricalAveraging,
    InstanceNoise,
    OrthogonalRegularisation,
    Replay,
    WeightClipping,
)
from i2i.methods.unrolled import Unrolled
from i2i.training.config import TrainingSettings

# With fewer images and nothing against it, discriminators learn them by heart.
FEW_IMAGES = 2000
# Of all images that a run shows, the share in which adaptive augmentation may go from never to always.
ADA_RAMP = 0.1


@dataclass(frozen=True, kw_only=True)
class Stabilisers:
    """What the two networks play for, and what keeps their game steady.

    Settings of the loop do so too (--critic-steps, two learning rates, --ema-decay), and those of the networks.

    Attributes:
        objective: adversarial loss.
        real_label: what the discriminator is taught about real images; 0.9 is one-sided label smoothing.
        penalties: on the discriminator's gradient; it must then have no batch norm.
        feature_matching_weight: of the distance between the discriminator's mean features of samples and of real
            images; 0: none.
        mismatched_share: with classes, this share of what the discriminator is to refuse are real images under the name
            of another class, so that classes are told apart sooner; at the cost of variety if it is large. 0: none.
        augment: change all that the discriminator sees at random: always ("diff", DiffAugment), or as often as it
            overfits ("adaptive", ADA), for a few thousand images or fewer.
        ada_target: how sure of real images the discriminator may become, with "adaptive", between -1 and 1.
        ada_ramp_images: in how many images shown "adaptive" may go from never to always; None: a tenth of all that the
            run shows. The paper has 500 000, of 25 million.
        instance_noise: deviation of noise on all that the discriminator sees, at first; 0: none.
        instance_noise_until: share of the run after which that noise has fallen linearly to 0; above 1 some is left at
            the end.
        replay: how many samples of earlier steps are kept to be shown to the discriminator again; 0: none.
        weight_clipping: the discriminator's weights are held within this of 0, as the first WGAN's, 0.01; None: free.
        history_weight: of the distance of both networks' weights from their mean over the past; 0: none.
        orthogonal_weight: of how far the generator's filters are from being at right angles, so that it draws well from
            truncated latents, too; 1e-4 in BigGAN's paper. 0: none.
        unrolled_steps: how many steps of the discriminator the generator looks ahead; 0: none.
        unrolled_learning_rate: of those steps, which are plain gradient descent.
    """

    objective: Objective = "non_saturating"
    real_label: float = 1.0
    penalties: Penalties = field(default_factory=Penalties)
    feature_matching_weight: float = 0.0
    mismatched_share: float = 0.0
    augment: Literal["off", "diff", "adaptive"] = "off"
    ada_target: float = 0.6
    ada_ramp_images: int | None = None
    instance_noise: float = 0.0
    instance_noise_until: float = 0.5
    replay: int = 0
    weight_clipping: float | None = None
    history_weight: float = 0.0
    orthogonal_weight: float = 0.0
    unrolled_steps: int = 0
    unrolled_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        at_least_0 = "feature_matching_weight instance_noise history_weight orthogonal_weight replay unrolled_steps"
        for name in at_least_0.split():
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be at least 0, and is {getattr(self, name)}.")
        for name in ("ada_ramp_images", "instance_noise_until", "weight_clipping", "unrolled_learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, and is {value}.")
        if not 0 <= self.mismatched_share < 1:
            raise InputError(f"--mismatched-share must be at least 0 and below 1, and is {self.mismatched_share}.")
        if not -1 < self.ada_target < 1:
            raise InputError(f"--ada-target must be between -1 and 1, and is {self.ada_target}.")
        objective = make_objective(self.objective, real_label=self.real_label)  # says now what is wrong with it
        if self.augment == "adaptive" and objective.decision is None:
            raise InputError(
                "--augment adaptive goes by how sure the discriminator is of an image, and scores do not say with "
                f"--objective {self.objective}: take --augment diff, or an objective such as hinge."
            )
        if self.mismatched_share and objective.is_critic:
            raise InputError(
                "--mismatched-share does not go with --objective wgan, whose critic estimates how far samples are from "
                "images: give --mismatched-share 0, or another objective."
            )

    def check(self, discriminator: nn.Module, *, training: TrainingSettings) -> None:
        """See that the discriminator can be trained so.

        Raises:
            InputError: batch norm under a penalty, or minibatch statistics of single images.
        """
        if self.penalties.any and has_batch_norm(discriminator):
            raise InputError(
                "Gradient penalties are of single images, and batch norm lets those of a batch influence one another: "
                "give --discriminator-norm none (or instance), or no penalty."
            )
        if training.batch_size < 2 and any(isinstance(module, MinibatchLayer) for module in discriminator.modules()):
            raise InputError(
                "Minibatch statistics compare the images of a batch, and --batch-size is 1: give a larger one, or "
                "a discriminator without them where its recipe has one (--minibatch none, or --minibatch-group None)."
            )

    def remarks(self, discriminator: nn.Module, *, images: int, classes: int, training: TrainingSettings) -> list[str]:
        """What whoever starts a run should know, a sentence each.

        Args:
            images: how many are learnt from.
            classes: of how many classes; 0: they have none.
        """
        said = penalty_remarks(self.penalties, discriminator=discriminator, precision=training.precision)
        if images < FEW_IMAGES and self.augment == "off":
            said.append("These are few images, which a discriminator soon knows by heart: --augment adaptive helps.")
        if self.mismatched_share and classes < 2:
            said.append("There are no classes to be told apart, so --mismatched-share has no effect.")
        if self.objective == "wgan" and not self.penalties.any and self.weight_clipping is None:
            said.append(
                "Warning: nothing holds the critic's slope, so its scores will run away. Give --gradient-penalty 10, "
                "or --weight-clipping 0.01."
            )
        return said

    def steadied(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        training: TrainingSettings,
        class_names: Sequence[str] = (),
        game: Callable[..., GAN] = GAN,
    ) -> tuple[GAN, Method]:
        """The game of the two networks, by itself and with all that stands around it.

        Args:
            class_names: what previews call the classes.
            game: makes the method out of `GAN`'s arguments: a class of it, or a partial of one.

        Raises:
            InputError: it cannot be played so, as with unrolled steps where there are penalties and a norm.
        """
        augment: nn.Module | None = None
        match self.augment:
            case "diff":
                augment = DiffAugment()
            case "adaptive":
                augment = AdaptiveAugment()
        gan = game(
            generator=generator,
            discriminator=discriminator,
            class_names=class_names,
            objective=make_objective(self.objective, real_label=self.real_label),
            penalties=self.penalties,
            augment=augment,
            feature_matching_weight=self.feature_matching_weight,
            mismatched_share=self.mismatched_share,
        )
        method: Method = gan
        if self.weight_clipping is not None:
            method = WeightClipping(method, limit=self.weight_clipping)
        if self.history_weight:
            method = HistoricalAveraging(method, weight=self.history_weight)
        if self.orthogonal_weight:
            method = OrthogonalRegularisation(method, weight=self.orthogonal_weight)
        if self.instance_noise:
            noisy_steps = max(1, round(self.instance_noise_until * training.steps))
            method = InstanceNoise(method, deviation=self.instance_noise, steps=noisy_steps)
        if self.replay:
            method = Replay(method, capacity=self.replay)
        if self.augment == "adaptive":
            assert augment is not None
            ramp_images = self.ada_ramp_images or max(1, round(ADA_RAMP * images_shown(training)))
            method = AdaptiveAugmentation(method, augment=augment, target=self.ada_target, ramp_images=ramp_images)
        if self.unrolled_steps:
            method = Unrolled(method, steps=self.unrolled_steps, learning_rate=self.unrolled_learning_rate)
        return gan, method


def images_shown(training: TrainingSettings) -> int:
    """How many real images a run shows to the discriminator, over all processes."""
    a_step = training.critic_steps * training.accumulation * training.batch_size * PartialState().num_processes
    return training.steps * a_step
