"""Networks that describe images: resizing against Pillow, features against the networks' own projects, what is refused.

Their weights are random here, and come from files made on the spot: it is the way from a file to features that counts.
"""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3

from i2i.errors import InputError
from i2i.metrics import Classifier, MissingWeights, Segmenter, clean_resize, feature_slug, features, load_features
from i2i.metrics.classifier import save_classifier
from i2i.metrics.segmenter import save_segmenter


def rgb(*shape: int) -> Tensor:
    return torch.rand(*shape) * 2 - 1


@pytest.mark.parametrize("size", [(40, 60), (31, 20), (8, 100)])
def test_resizing_is_pillows_with_floats(size: tuple[int, int]) -> None:
    images = rgb(1, 3, 37, 50).sign()  # edges, whose overshoot is clipped
    found = clean_resize(images, size)
    for channel, expected in zip(found[0], images[0], strict=True):
        resized = Image.fromarray(expected.numpy(), mode="F").resize(size[::-1], Image.Resampling.BICUBIC)
        np.testing.assert_allclose(channel, np.clip(np.asarray(resized), -1, 1), atol=1e-5)
    assert found.abs().max() == 1
    assert clean_resize(images, (37, 50)) is images


def test_pixels_are_means_of_blocks() -> None:
    extractor = load_features("pixels")
    images = rgb(2, 3, 48, 64)
    found = extractor(images)
    blocks = images.numpy().reshape(2, 3, 16, 3, 16, 4).mean((3, 5)).reshape(2, -1)
    assert found.keys() == {"features"} and extractor.length == 768 and extractor.slug == "pixels"
    np.testing.assert_allclose(found["features"], blocks, atol=1e-6)
    assert extractor(rgb(1, 5, 20, 33))["features"].shape == (1, 5 * 256)
    of_five = load_features("pixels", channels=5)
    assert of_five(rgb(1, 5, 20, 33))["features"].shape == (1, of_five.length) == (1, 5 * 256)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch-fidelity's file holds, but random numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("inception", ["2048"])
    path = tmp_path_factory.mktemp("weights") / features.INCEPTION_FILE
    torch.save(network.state_dict(), path)
    return path


def test_inception_is_torch_fidelitys(inception_file: Path) -> None:
    extractor = load_features("inception", weights=inception_file)
    pixels = torch.randint(256, (2, 3, 299, 299), dtype=torch.uint8)
    found = extractor(pixels / 127.5 - 1)
    theirs = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(inception_file))
    expected = dict(zip(("features", "logits"), theirs(pixels), strict=True))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-5)
    assert (extractor.length, extractor.classes) == (2048, 1008)
    torchmetrics = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(inception_file))
    torch.testing.assert_close(found["features"], torchmetrics(pixels), rtol=1e-4, atol=1e-5)
    # Other sizes come to 299 px cleanly.
    small = rgb(1, 3, 64, 80)
    torch.testing.assert_close(
        extractor(small)["features"], extractor(clean_resize(small, 299))["features"], rtol=1e-4, atol=1e-5
    )


def test_the_key_tells_weights_apart_and_not_files(inception_file: Path, tmp_path: Path) -> None:
    tensors = torch.load(inception_file, weights_only=True)
    same, other = tmp_path / "same.safetensors", tmp_path / "other.pth"
    save_file(tensors, same)
    tensors["fc.bias"] = tensors["fc.bias"] + 1
    torch.save(tensors, other)
    keys = [load_features("inception", weights=path).key for path in (inception_file, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))

    def unreachable(url: str, path: Path) -> None:
        raise InputError(f"{url} cannot be downloaded: no connection. Put it at {path}")

    monkeypatch.setattr(features, "download", unreachable)
    with pytest.raises(MissingWeights, match=r"6726825d\.pth cannot be downloaded.*no connection") as refused:
        load_features("inception")
    reason = refused.value.reason
    assert features.INCEPTION_URL in reason and "--feature-weights" in reason
    assert "no connection" not in reason and str(tmp_path) not in reason and str(tmp_path) in refused.value.here
    monkeypatch.undo()
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / features.INCEPTION_FILE).write_bytes(b"something else")
    with pytest.raises(MissingWeights, match="damaged, or another file"):
        load_features("inception")

    def offline(*_: object, **named: object) -> None:
        raise OSError("no connection to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(MissingWeights, match=r"huggingface.co/timm/resnet18.*no connection") as refused:
        load_features("resnet18")
    assert "--feature-weights" in refused.value.reason and "no connection" not in refused.value.reason


class Payload:
    """Would leave a file behind when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.target), "w")


def test_weights_of_something_else_are_refused(inception_file: Path, tmp_path: Path) -> None:
    tensors = torch.load(inception_file, weights_only=True)
    tensors["fc.weight"] = tensors["fc.weight"][:10]
    torch.save(tensors, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"(?s)short\.pth does not hold FID's Inception.*fc\.weight"):
        load_features("inception", weights=tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"none\.pth"):
        load_features("inception", weights=tmp_path / "none.pth")
    (tmp_path / "program.pth").write_bytes(pickle.dumps({"fc.weight": Payload(tmp_path / "ran")}))
    with pytest.raises(InputError, match="holds more than tensors"):
        load_features("inception", weights=tmp_path / "program.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_a_model_of_timm_at_its_own_size_and_colours(name: str, tmp_path: Path) -> None:
    network = timm.create_model(name, pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    extractor = load_features(name, weights=tmp_path / "model.safetensors")
    assert extractor.slug == name and extractor.classes == 0
    _, *size = network.pretrained_cfg["input_size"]
    images = rgb(2, 3, *size)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network), is_training=False)
    normalise = transform.transforms[-1]
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(normalise((images + 1) / 2)), pre_logits=True)
    found = extractor(images)["features"]
    assert found.shape == (2, extractor.length)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert extractor(rgb(1, 3, 50, 70))["features"].shape == (1, extractor.length)


def test_dinov2_is_timms_at_224_px(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its positions are resampled as timm resamples those of a checkpoint. A small transformer takes its place."""
    monkeypatch.setattr(features, "DINOV2", "test_vit")
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    extractor = load_features("dinov2", weights=file)
    theirs = timm.create_model(
        "test_vit", pretrained=True, num_classes=0, img_size=224, pretrained_cfg_overlay={"file": str(file)}
    ).eval()
    images = rgb(2, 3, 224, 224)
    mean, deviation = (torch.tensor(theirs.pretrained_cfg[part]).view(3, 1, 1) for part in ("mean", "std"))
    with torch.no_grad():
        expected = theirs(((images + 1) / 2 - mean) / deviation)
    torch.testing.assert_close(extractor(images)["features"], expected, rtol=1e-4, atol=1e-5)
    assert extractor.slug == "dinov2"
    assert extractor.key != load_features("test_vit", weights=file).key


def test_weights_of_another_model_of_timm_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    with pytest.raises(InputError, match=r"model\.safetensors does not hold timm's test_vit: expected \w+"):
        load_features("test_vit", weights=file)


def test_the_projects_own_networks(tmp_path: Path) -> None:
    segmenter, classifier = Segmenter(classes=4, width=4).eval(), Classifier(classes=6, channels=5, width=4).eval()
    save_segmenter(segmenter, tmp_path / "My judge.safetensors")
    save_classifier(classifier, tmp_path / "digits.safetensors")
    images, five = rgb(2, 3, 30, 41), rgb(2, 5, 30, 41)
    extractor = load_features(tmp_path / "My judge.safetensors")
    assert extractor.slug == "my_judge" == feature_slug(tmp_path / "My judge.safetensors")
    assert extractor.length == 16 and extractor.classes == 0
    torch.testing.assert_close(extractor(images), {"features": segmenter.features(images)})
    extractor = load_features(str(tmp_path / "digits.safetensors"))
    assert (extractor.length, extractor.classes, extractor.channels) == (16, 6, 5)
    expected = {"features": classifier.features(five), "logits": classifier(five)}
    torch.testing.assert_close(extractor(five), expected)


def test_five_channels_are_refused_where_colours_are_expected(tmp_path: Path) -> None:
    save_segmenter(Segmenter(classes=4, width=4), tmp_path / "judge.safetensors")
    with pytest.raises(InputError, match=r"judge need images \(N, 3, H, W\), got \(1, 5, 20, 20\).*--features pixels"):
        load_features(tmp_path / "judge.safetensors")(rgb(1, 5, 20, 20))


def test_names_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no network that describes images.*did you mean inception"):
        load_features("inceptoin")
    with pytest.raises(InputError, match="pixels take no weights"):
        load_features("pixels", weights=tmp_path / "a.pth")
    with pytest.raises(InputError, match="does not exist"):
        load_features(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="neither a segmenter nor a classifier"):
        load_features(tmp_path / "other.safetensors")
