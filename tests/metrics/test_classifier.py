"""What a small classifier learns, that its training is repeatable and kept, and what is read off it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from i2i.errors import InputError
from i2i.metrics import (
    Classifier,
    ClassifierTraining,
    agreement_by_class,
    cached_classifier,
    class_agreement,
    class_confusion,
    train_classifier,
)
from i2i.metrics import classifier as classifier_module
from i2i.metrics.classifier import load_classifier, save_classifier

SHORT = ClassifierTraining(width=4, steps=3, batch_size=4)


class Stripes(Dataset[dict[str, Tensor]]):
    """Noise with a stripe: upright (class 0), lying (class 1), or none (class 2)."""

    def __init__(self, *, count: int = 12, size: int = 16, channels: int = 3, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.rand(count, channels, size, size, generator=generator) - 0.5
        self.labels = torch.arange(count) % 3
        for image, label in zip(self.images, self.labels, strict=True):
            place = int(torch.randint(1, size - 2, (1,), generator=generator))
            if label == 0:
                image[:, :, place : place + 2] = 0.9
            elif label == 1:
                image[:, place : place + 2] = 0.9
        self.asked = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.asked += 1
        return {"real": self.images[index], "label": self.labels[index]}


class Constant(nn.Module):
    """Logits that stand in the first pixels of the images."""

    def forward(self, images: Tensor) -> Tensor:
        assert len(images) <= classifier_module.JUDGED_AT_ONCE
        return images[:, 0, 0, :3]


def weights(network: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()])


def seen_as(*classes: int) -> Tensor:
    """Images (N, 1, 3, 3) that `Constant` takes for these classes."""
    images = torch.zeros(len(classes), 1, 3, 3)
    images[torch.arange(len(classes)), 0, 0, list(classes)] = 1
    return images


@pytest.mark.parametrize("channels", [1, 3])
def test_it_learns_what_is_shown(channels: int) -> None:
    training = ClassifierTraining(width=8, steps=60, batch_size=16)
    network = train_classifier(Stripes(count=120, channels=channels), classes=3, training=training)
    held_out = Stripes(count=60, channels=channels, seed=1)
    confusion = class_confusion(network, held_out.images, held_out.labels)
    assert class_agreement(confusion) > 0.95
    assert agreement_by_class(confusion).min() > 0.9
    # With what is asked for shifted by one class, all of it is wrong.
    assert class_agreement(class_confusion(network, held_out.images, (held_out.labels + 1) % 3)) < 0.05


def test_flipped_images_keep_their_class() -> None:
    class Halves(Stripes):
        """Bright on the left (class 0); a uniform image is class 1."""

        def __init__(self) -> None:
            super().__init__(count=48)
            self.labels = torch.arange(48) % 2
            self.images = torch.zeros(48, 3, 16, 16)
            self.images[::2, ..., :8] = 0.8

    mirrored = Halves().images[::2].flip(3)
    training = ClassifierTraining(width=8, steps=40, batch_size=16, flip=True)
    network = train_classifier(Halves(), classes=2, training=training)
    assert (network(mirrored).argmax(1) == 0).all()


@pytest.mark.parametrize("size", [(8, 8), (17, 31), (64, 64), (200, 90)])
def test_any_size_and_every_parameter_takes_part(size: tuple[int, int]) -> None:
    network = Classifier(classes=5, width=4)
    logits = network(torch.rand(2, 3, *size) * 2 - 1)
    assert logits.shape == (2, 5)
    logits.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    features = network.eval().features(torch.rand(2, 3, *size))
    assert features.shape == (2, 16)


def test_large_images_are_averaged_down() -> None:
    network = Classifier(classes=5, width=4).eval()
    images = torch.rand(2, 3, 192, 192)
    torch.testing.assert_close(network(images), network(nn.functional.avg_pool2d(images, 3)))


def test_training_repeats_and_leaves_random_numbers_and_gradient_mode_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = train_classifier(Stripes(), classes=3, training=SHORT)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    second = train_classifier(Stripes(), classes=3, training=SHORT)
    assert torch.equal(weights(first), weights(second))
    other = train_classifier(Stripes(), classes=3, training=ClassifierTraining(width=4, steps=3, batch_size=4, seed=1))
    assert not torch.equal(weights(first), weights(other))
    assert not first.training and not any(parameter.requires_grad for parameter in first.parameters())


def test_items_are_remembered_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    data, training = Stripes(), ClassifierTraining(width=4, steps=9, batch_size=4)
    held = train_classifier(data, classes=3, training=training)
    assert data.asked <= 12 + 2  # and twice to know what there is
    monkeypatch.setattr(classifier_module, "HELD_BYTES", 0)
    data.asked = 0
    assert torch.equal(weights(train_classifier(data, classes=3, training=training)), weights(held))
    assert data.asked >= 36


def test_each_step_is_told() -> None:
    told: list[tuple[int, int]] = []
    train_classifier(Stripes(), classes=3, training=SHORT, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_data_that_cannot_be_learnt_from_is_refused() -> None:
    class Mixed(Stripes):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            item = super().__getitem__(index)
            return item if index != 5 else {**item, "real": item["real"][..., :8]}

    with pytest.raises(InputError, match=r"one size, \(3, 16, 16\).*item 5 of \(3, 16, 8\)"):
        train_classifier(Mixed(), classes=3, training=SHORT)
    with pytest.raises(InputError, match="at least one image"):
        train_classifier(Stripes(count=0), classes=3, training=SHORT)
    with pytest.raises(InputError, match=r"labels from 0 to 1, got 2 for item \d"):
        train_classifier(Stripes(), classes=2, training=SHORT)


def test_a_cached_classifier_is_trained_once_and_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    steps: list[int] = []

    def make(fingerprint: str = "stripes", training: ClassifierTraining = SHORT) -> Classifier:
        return cached_classifier(
            Stripes(),
            fingerprint=fingerprint,
            classes=3,
            training=training,
            progress=lambda step, _: steps.append(step),
        )

    first, again = make(), make()
    assert len(steps) == 3
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(first(images), again(images)) and not again.training
    (file,) = (tmp_path / "classifiers").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(weights(make()), weights(first))
    assert len(steps) == 6
    make("others")
    make(training=ClassifierTraining(width=4, steps=2, batch_size=4))
    assert len(list((tmp_path / "classifiers").iterdir())) == 3


def test_files_hold_a_whole_classifier(tmp_path: Path) -> None:
    network = Classifier(classes=4, channels=1, width=4).eval()
    save_classifier(network, tmp_path / "judge.safetensors")
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(load_classifier(tmp_path / "judge.safetensors")(images), network(images))
    (tmp_path / "other.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"other\.safetensors: expected a classifier that i2i has saved"):
        load_classifier(tmp_path / "other.safetensors")


def test_agreement_written_out() -> None:
    asked = torch.tensor([0, 0, 0, 0, 1, 1])
    confusion = class_confusion(Constant(), seen_as(0, 0, 0, 1, 2, 1), asked)
    assert confusion.tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert class_agreement(confusion) == pytest.approx(4 / 6)
    torch.testing.assert_close(
        agreement_by_class(confusion), torch.tensor([3 / 4, 1 / 2, float("nan")], dtype=torch.float64), equal_nan=True
    )


def test_confusion_is_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    random = np.random.default_rng(0)
    seen, asked = (torch.from_numpy(random.integers(0, 3, 1000)) for _ in range(2))
    images = seen_as(*seen.tolist())
    confusion = class_confusion(Constant(), images, asked)
    assert torch.equal(confusion, multiclass_confusion_matrix(seen, asked, num_classes=3))
    assert class_agreement(confusion) == pytest.approx(
        multiclass_accuracy(seen, asked, num_classes=3, average="micro").item()
    )
    by_class = multiclass_accuracy(seen, asked, num_classes=3, average="none")
    torch.testing.assert_close(agreement_by_class(confusion).float(), by_class)
    halves = [class_confusion(Constant(), images[half], asked[half]) for half in (slice(300), slice(300, None))]
    assert torch.equal(halves[0] + halves[1], confusion)


@pytest.mark.parametrize(
    ("seen", "asked", "message"),
    [
        ([0, 1], [0, 3], "classes from 0 to 2, got 0 to 3"),
        ([0, 1], [-1, 1], "classes from 0 to 2, got -1 to 1"),
        ([0, 1], [0], "same shape"),
        ([], [], "at least one image"),
    ],
)
def test_classes_that_cannot_be_compared_are_refused(seen: list[int], asked: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_confusion(Constant(), seen_as(*seen), torch.tensor(asked))
