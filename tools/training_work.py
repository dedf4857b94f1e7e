"""What `benchmark.py` trains: published networks, and i2i's training step with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from i2i.data.folders import ImageFolder, PairedImages, find_pairs, find_sides, probe_images, probe_pairs
from i2i.data.image_io import write_image
from i2i.data.streets import make_scene
from i2i.data.transforms import ImageTransform
from i2i.data.unpaired import Unpaired
from i2i.discriminators import MultiscaleDiscriminator, PatchDiscriminator
from i2i.generators import ResNetGenerator, SPADEGenerator, UNetGenerator
from i2i.layers.labels import one_hot
from i2i.layers.norm import SPADE
from i2i.layers.resample import Upsampling
from i2i.methods.base import Batch, Method
from i2i.methods.cut import CUT, paper_taps
from i2i.methods.cyclegan import CycleGAN
from i2i.methods.pix2pix import Pix2Pix
from i2i.methods.spade import SemanticSynthesis
from i2i.training.config import Precision, TrainingSettings
from i2i.training.loop import Trainer, make_accelerator

MethodName = Literal["pix2pix", "cyclegan", "cut", "spade"]

LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
L1_WEIGHT = 100.0
CYCLE_WEIGHT = 10.0
IDENTITY_WEIGHT = 0.5
IMAGES_ON_DISK = 16


@dataclass(frozen=True, kw_only=True)
class TrainingWork:
    """A training step with the published losses, SPADE's without the perceptual one, on images of three channels.

    pix2pix: U-Net and 70 x 70 PatchGAN with batch norm; one generator pass and three discriminator passes.
    CycleGAN: two ResNets and two 70 x 70 PatchGANs with instance norm; six and six.
    CUT: one of each; two passes and two of the encoder alone, and three.
    SPADE: its "normal" generator and a discriminator at two scales; one pass and four.

    Attributes:
        method: which step.
        device: "auto" takes an accelerator where there is one.
        precision: of the networks.
        channels_last: memory layout.
        compile: compile i2i's networks; plain PyTorch stays eager.
        checkpointing: i2i computes its generators' activations again in the backward pass; plain PyTorch keeps them.
        batch_size: images in a step, on each side.
        size_px: side of the images; a multiple of 2 ** depth for pix2pix, of 32 for SPADE, of 4 for the others.
        width: channels after the first convolution, in all networks.
        depth: of pix2pix's U-Net.
        blocks: of the other generators.
        upsampling: of all generators; for CUT as published, "bilinear".
        antialias: ResNets blur before they halve; for CUT as published, they do.
        pool_size: images in each of CycleGAN's pools.
        classes: of SPADE's label maps, beside "don't care" and the edges of instances.
        one_hot: SPADE's label maps are made one-hot as a whole, resized in every SPADE layer, and joined to the
            images for the discriminator, as in the code that was published with it.
        threads: of PyTorch on the CPU; None: PyTorch decides.
    """

    method: MethodName = "pix2pix"
    device: Literal["auto", "cpu"] = "auto"
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    batch_size: int = 1
    size_px: int = 256
    width: int = 64
    depth: int = 8
    blocks: int = 9
    upsampling: Upsampling = "transposed"
    antialias: bool = False
    pool_size: int = 50
    classes: int = 182
    one_hot: bool = False
    threads: int | None = None

    def settings(self, *, ema_decay: float = 0.0) -> TrainingSettings:
        return TrainingSettings(
            steps=1,
            batch_size=self.batch_size,
            generator_learning_rate=LEARNING_RATE,
            discriminator_learning_rate=LEARNING_RATE,
            adam_betas=BETAS,
            schedule="constant",
            precision=self.precision,
            ema_decay=ema_decay,
            channels_last=self.channels_last,
            compile=self.compile,
            checkpointing=self.checkpointing,
            device=self.device,
        )

    def networks(self) -> dict[str, nn.Module]:
        """By the names of the method's arguments; the same weights at every call."""
        torch.manual_seed(0)
        match self.method:
            case "pix2pix":
                generator = UNetGenerator(
                    in_channels=3, out_channels=3, width=self.width, depth=self.depth, upsampling=self.upsampling
                )
                return {"generator": generator, "discriminator": PatchDiscriminator(in_channels=6, width=self.width)}
            case "cyclegan":
                return {
                    "a_to_b": self._resnet(),
                    "b_to_a": self._resnet(),
                    "discriminator_a": self._patch_discriminator(),
                    "discriminator_b": self._patch_discriminator(),
                }
            case "cut":
                return {"generator": self._resnet(), "discriminator": self._patch_discriminator()}
            case "spade":
                channels = self.classes + 2
                generator = SPADEGenerator(in_channels=channels, width=self.width)
                discriminator = MultiscaleDiscriminator(in_channels=channels + 3, width=self.width)
                if self.one_hot:
                    return {
                        "generator": OneHotGenerator(generator),
                        "discriminator": OneHotDiscriminator(discriminator),
                    }
                return {"generator": generator, "discriminator": discriminator}

    def _resnet(self) -> nn.Module:
        return ResNetGenerator(
            in_channels=3,
            out_channels=3,
            width=self.width,
            blocks=self.blocks,
            upsampling=self.upsampling,
            antialias=self.antialias,
        )

    def _patch_discriminator(self) -> nn.Module:
        return PatchDiscriminator(in_channels=3, width=self.width, norm="instance")

    def batches(self) -> list[Batch]:
        shape = (self.batch_size, 3, self.size_px, self.size_px)
        random = torch.Generator().manual_seed(0)
        if self.method == "spade":
            return [{"labels": self._labels(random), "image": torch.rand(shape, generator=random)} for _ in range(4)]
        sides = ("input", "target") if self.method == "pix2pix" else ("a", "b")
        return [{side: torch.rand(shape, generator=random) * 2 - 1 for side in sides} for _ in range(4)]

    def _labels(self, random: torch.Generator) -> Tensor:
        """Squares of one class, and a pattern of edges; how fast they are read hardly depends on what they show."""
        side = self.size_px
        squares = torch.randint(self.classes + 1, (self.batch_size, 1, side // 16, side // 16), generator=random)
        ids = squares.repeat_interleave(16, 2).repeat_interleave(16, 3)
        return torch.cat([ids, torch.randint(2, ids.shape, generator=random)], dim=1)

    def accelerator(self) -> Accelerator:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return make_accelerator(self.settings(), Path())

    def trainer(self, accelerator: Accelerator, *, batches: Iterator[Batch], ema_decay: float = 0.0) -> Trainer:
        settings = self.settings(ema_decay=ema_decay)
        return Trainer(method=self.i2i_method(), settings=settings, accelerator=accelerator, batches=batches)

    def i2i_method(self) -> Method:
        networks = self.networks()
        match self.method:
            case "pix2pix":
                return Pix2Pix(**networks, l1_weight=L1_WEIGHT)
            case "cyclegan":
                return CycleGAN(
                    **networks,
                    cycle_weight=CYCLE_WEIGHT,
                    identity_weight=IDENTITY_WEIGHT,
                    pool_size=self.pool_size,
                )
            case "cut":
                return CUT(**networks, taps=paper_taps(blocks=self.blocks))
            case "spade":
                return SemanticSynthesis(**networks, palette=np.zeros((self.classes, 3), np.uint8))

    def images_on_disk(self, folder: Path) -> Dataset[Batch]:
        """Streets as PNG files under `folder`, augmented as the papers do: enlarge, crop, flip."""
        transform = ImageTransform(load_size=round(self.size_px * 286 / 256), crop_size=self.size_px, flip=True)
        scenes = [make_scene(seed, size=self.size_px) for seed in range(IMAGES_ON_DISK)]
        if self.method == "pix2pix":
            _write(folder / "train", [np.concatenate([scene.label_image, scene.day], axis=1) for scene in scenes])
            pairs = find_pairs(folder, phase="train", direction="AtoB")
            info = probe_pairs(pairs)
            return PairedImages(pairs=pairs, transform=transform, input=info.input, target=info.target)
        _write(folder / "trainA", [scene.day for scene in scenes])
        _write(folder / "trainB", [scene.night for scene in scenes])
        files_a, files_b = find_sides(folder, phase="train")
        a = ImageFolder(files=files_a, transform=transform, side=probe_images(files_a, side="A").side)
        b = ImageFolder(files=files_b, transform=transform, side=probe_images(files_b, side="B").side)
        return Unpaired(a=a, b=b, seed=0)


class OneHotGenerator(nn.Module):
    """A SPADE generator whose every SPADE layer resizes the whole one-hot map for itself."""

    takes_label_ids = True

    def __init__(self, generator: SPADEGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.in_channels = generator.in_channels
        for block in generator.blocks:
            block.pick_labels = nn.Identity()
        for module in generator.modules():
            if isinstance(module, SPADE):
                module.register_forward_pre_hook(_resize_labels)

    def forward(self, labels: Tensor) -> Tensor:
        return self.generator(one_hot(labels, channels=self.in_channels).to(self.generator.head.weight.dtype))

    def stages(self) -> list[nn.Module]:
        return self.generator.stages()


def _resize_labels(layer: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    features, labels = inputs
    return features, F.interpolate(labels, size=features.shape[2:], mode="nearest")


class OneHotDiscriminator(nn.Module):
    """A multi-scale discriminator that gets the whole one-hot map, joined to each image."""

    def __init__(self, discriminator: MultiscaleDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, image: Tensor, labels: Tensor) -> list[list[Tensor]]:
        channels = self.discriminator.in_channels - image.shape[1]
        return self.discriminator(torch.cat([one_hot(labels, channels=channels).to(image.dtype), image], dim=1))


def _write(folder: Path, images: list[np.ndarray]) -> None:
    folder.mkdir()
    for number, image in enumerate(images):
        write_image(folder / f"{number}.png", image)


def arithmetic(precision: Precision) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=arithmetic(precision), enabled=precision != "fp32")
