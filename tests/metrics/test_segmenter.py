"""What a small segmenter learns, that its training is repeatable and kept, and judges from files of other projects."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models import segmentation
from torchvision.transforms.functional import normalize

from i2i.errors import InputError
from i2i.metrics import ImageNetInput, Segmenter, SegmenterTraining, cached_segmenter, load_judge, train_segmenter
from i2i.metrics import segmenter as segmenter_module
from i2i.metrics.segmenter import save_segmenter

SHORT = SegmenterTraining(width=4, steps=3, batch_size=2)


class Shapes(Dataset[dict[str, Tensor]]):
    """Bright squares (class 1) with a dark left half (class 2) on noise (class 0), and a column of no class (3)."""

    def __init__(self, *, count: int = 8, size: int = 16, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand(count, 3, size, size, generator=generator) - 0.5
        self.labels = torch.zeros(count, 2, size, size, dtype=torch.int64)
        for image, labels in zip(self.images, self.labels, strict=True):
            top, left = torch.randint(size - 8, (2,), generator=generator).tolist()
            image[:, top : top + 8, left : left + 8] = 0.9
            labels[0, top : top + 8, left : left + 8] = 1
            image[:, top : top + 8, left : left + 4] = -0.9
            labels[0, top : top + 8, left : left + 4] = 2
        self.labels[:, 0, :, 0] = 3
        self.labels[:, 1] = 9

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.images[index], "labels": self.labels[index]}


def weights(network: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()])


def test_it_learns_what_is_where() -> None:
    training = SegmenterTraining(width=8, steps=60, batch_size=8)
    network = train_segmenter(Shapes(count=64), classes=3, training=training)
    held_out = Shapes(count=16, seed=1)
    found, true = network(held_out.images).argmax(1), held_out.labels[:, 0]
    assert (found == true)[true < 3].float().mean() > 0.97
    for of_class in range(3):
        assert (found == of_class)[true == of_class].float().mean() > 0.85


@pytest.mark.parametrize("size", [(16, 16), (17, 9), (5, 30), (1, 1)])
def test_any_size_and_every_parameter_takes_part(size: tuple[int, int]) -> None:
    network = Segmenter(classes=5, width=4)
    logits = network(torch.rand(2, 3, *size) * 2 - 1)
    assert logits.shape == (2, 5, *size)
    logits.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert network.eval().features(torch.rand(2, 3, *size)).shape == (2, 16)


def test_logits_shift_with_the_image() -> None:
    """By eight pixels, the stride of the coarsest maps; a transposed or misplaced level would not."""
    network = Segmenter(classes=3, width=4).eval()
    images = torch.rand(1, 3, 96, 96)
    logits, shifted = network(images), network(images.roll((8, 16), dims=(2, 3)))
    torch.testing.assert_close(shifted.roll((-8, -16), dims=(2, 3))[..., 40:48, 40:48], logits[..., 40:48, 40:48])


def test_training_repeats_and_leaves_random_numbers_and_gradient_mode_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = train_segmenter(Shapes(), classes=3, training=SHORT)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = train_segmenter(Shapes(), classes=3, training=SHORT)
    assert torch.equal(weights(first), weights(second))
    other = train_segmenter(Shapes(), classes=3, training=SegmenterTraining(width=4, steps=3, batch_size=2, seed=1))
    assert not torch.equal(weights(first), weights(other))
    assert not first.training and not any(parameter.requires_grad for parameter in first.parameters())


def test_pixels_of_no_class_and_other_channels_teach_nothing() -> None:
    plain, changed = Shapes(), Shapes()
    changed.labels[:, 1] = 0
    same = [train_segmenter(data, classes=3, training=SHORT) for data in (plain, changed)]
    assert torch.equal(weights(same[0]), weights(same[1]))
    changed.labels[:, 0, :, 0] = 0
    assert not torch.equal(weights(train_segmenter(changed, classes=3, training=SHORT)), weights(same[0]))


def test_what_does_not_fit_into_memory_is_read_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    held = train_segmenter(Shapes(), classes=3, training=SHORT)
    monkeypatch.setattr(segmenter_module, "HELD_BYTES", 0)
    assert torch.equal(weights(train_segmenter(Shapes(), classes=3, training=SHORT)), weights(held))


def test_flipped_images_have_flipped_labels() -> None:
    """Dark halves are left in all images: flipped ones teach that they may be right, too."""
    training = SegmenterTraining(width=8, steps=60, batch_size=8, flip=True)
    network = train_segmenter(Shapes(count=64), classes=3, training=training)
    mirrored = Shapes(count=16, seed=1)
    found, true = network(mirrored.images.flip(3)).argmax(1), mirrored.labels[:, 0].flip(2)
    assert (found == true)[true < 3].float().mean() > 0.97


def test_each_step_is_told() -> None:
    told: list[tuple[int, int]] = []
    train_segmenter(Shapes(), classes=3, training=SHORT, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_data_that_cannot_be_batched_is_refused() -> None:
    class Mixed(Shapes):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            item = super().__getitem__(index)
            return item if index < 5 else {name: part[..., :8] for name, part in item.items()}

    with pytest.raises(InputError, match=r"one size, \(3, 16, 16\).*item 5 .*\(3, 16, 8\)"):
        train_segmenter(Mixed(), classes=3, training=SHORT)
    with pytest.raises(InputError, match="at least one image"):
        train_segmenter(Shapes(count=0), classes=3, training=SHORT)


def test_a_cached_segmenter_is_trained_once_and_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    steps: list[int] = []

    def make(fingerprint: str = "shapes", training: SegmenterTraining = SHORT) -> Segmenter:
        return cached_segmenter(
            Shapes(),
            fingerprint=fingerprint,
            classes=3,
            training=training,
            progress=lambda step, _: steps.append(step),
        )

    first, again = make(), make()
    assert len(steps) == 3
    assert torch.equal(weights(first), weights(again)) and not again.training
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(first(images), again(images))
    (file,) = (tmp_path / "segmenters").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nothing of the kind"):
        file.write_bytes(damaged)
        assert torch.equal(weights(make()), weights(first))
        assert file.read_bytes() == whole
    assert len(steps) == 3 + 9
    make("others")
    make(training=SegmenterTraining(width=4, steps=2, batch_size=2))
    assert len(list((tmp_path / "segmenters").iterdir())) == 3


def test_our_own_file_is_a_judge(tmp_path: Path) -> None:
    network = Segmenter(classes=5, width=4).eval()
    save_segmenter(network, tmp_path / "judge.safetensors")
    judge = load_judge(tmp_path / "judge.safetensors", classes=5)
    images = torch.rand(1, 3, 20, 12)
    assert torch.equal(judge(images), network(images)) and torch.equal(judge.features(images), network.features(images))
    with pytest.raises(InputError, match=r"judge\.safetensors tells 5 classes apart, expected 6"):
        load_judge(tmp_path / "judge.safetensors", classes=6)


def imagenet(images: Tensor) -> Tensor:
    return normalize((images + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("name", "auxiliary"),
    [
        ("fcn_resnet50", True),
        ("fcn_resnet101", False),
        ("deeplabv3_resnet50", False),
        ("deeplabv3_resnet101", True),
        ("deeplabv3_mobilenet_v3_large", True),
        ("lraspp_mobilenet_v3_large", False),
    ],
)
def test_torchvisions_networks_give_torchvisions_logits(tmp_path: Path, name: str, auxiliary: bool) -> None:
    build = getattr(segmentation, name)
    theirs = build(weights=None, weights_backbone=None, num_classes=7, aux_loss=auxiliary).eval()
    # Wrapped as torchvision's training script saves it.
    torch.save({"model": theirs.state_dict()}, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    judge = load_judge(tmp_path / "weights.pth", classes=7)
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.rand(2, 3, 48, 64) * 2 - 1
    with torch.no_grad():
        expected = theirs(imagenet(images))["out"]
        torch.testing.assert_close(judge(images)["out"], expected)
    assert not judge.training and not any(parameter.requires_grad for parameter in judge.parameters())


def test_files_without_a_segmentation_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "judge.pth"
    tensors = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=7).state_dict()
    torch.save({name: tensor for name, tensor in tensors.items() if "backbone.16" not in name}, path)
    with pytest.raises(InputError, match=r"judge\.pth holds no segmentation network.*lraspp_mobilenet_v3_large"):
        load_judge(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"judge\.pth holds no segmentation network"):
        load_judge(path)
    (tmp_path / "judge.onnx").write_bytes(b"nothing of the kind")
    for name in ("missing.pth", "missing.safetensors", "missing.onnx", "judge.onnx"):
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            load_judge(tmp_path / name)


class Exported(nn.Module):
    def __init__(self, *, ids: bool) -> None:
        super().__init__()
        self.conv, self.ids = nn.Conv2d(3, 6, 3, stride=2, padding=1), ids

    def forward(self, images: Tensor) -> Tensor:
        logits = self.conv(images)
        return logits.argmax(1, keepdim=True) if self.ids else logits


@pytest.mark.parametrize("fixed", [False, True], ids=["any size", "fixed size"])
@pytest.mark.parametrize("ids", [False, True], ids=["logits", "classes"])
def test_onnx_files_give_what_onnxruntime_gives(tmp_path: Path, ids: bool, fixed: bool) -> None:
    network, path = Exported(ids=ids).eval(), tmp_path / "judge.onnx"
    shapes = None if fixed else {"images": {0: "batch", 2: "height", 3: "width"}}
    example = torch.rand(1, 3, 24, 32)
    with warnings.catch_warnings(action="ignore"):  # the newer exporter takes ten times as long
        torch.onnx.export(network, (example,), path, input_names=["images"], dynamic_axes=shapes, dynamo=False)
    judge = load_judge(path, classes=None if ids else 6)
    images = torch.rand(3, 3, 24, 32) * 2 - 1 if fixed else torch.rand(3, 3, 40, 20) * 2 - 1
    expected = network(imagenet(images))
    found = judge(images)
    if ids:
        assert np.array_equal(found.numpy(), expected[:, 0].numpy()) and found.dtype == torch.int64
    else:
        torch.testing.assert_close(found, expected.detach())
        with pytest.raises(InputError, match="tells 6 classes apart"):
            load_judge(path, classes=9)
    if fixed:
        assert judge(torch.rand(2, 3, 48, 64)).shape[-2:] == expected.shape[-2:]


def test_a_module_of_ones_own_sees_normalised_images() -> None:
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(ImageNetInput(nn.Identity())(images), imagenet(images))
