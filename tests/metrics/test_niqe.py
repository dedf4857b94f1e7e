"""NIQE against the authors' rule written out."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.special import gamma
from skimage.color import rgb2ycbcr
from skimage.data import astronaut, camera
from skimage.transform import resize
from torch import Tensor

from i2i import download
from i2i.errors import InputError
from i2i.layers.resample import bicubic
from i2i.metrics import niqe

SHAPES = np.arange(0.2, 10.001, 0.001)
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


def fitted(values: np.ndarray) -> tuple[float, float, float]:
    """Shape and the left and right scale of an asymmetric generalised Gaussian."""
    left, right = (np.sqrt((values[side] ** 2).mean()) for side in (values < 0, values > 0))
    skew = left / right
    ratio = abs(values).mean() ** 2 / (values**2).mean() * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = SHAPES[np.argmin((RATIOS - ratio) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


def features(patch: np.ndarray) -> list[float]:
    shape, left, right = fitted(patch)
    found = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = fitted(patch * np.roll(patch, shift, axis=(0, 1)))
        found += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return found


def written_out(brightness: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> float:
    rows, columns = (length // 96 for length in brightness.shape)
    level = brightness[: rows * 96, : columns * 96]
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(window, window) / window.sum() ** 2
    found = []
    for side in (96, 48):
        local = convolve(level, window, mode="nearest")
        deviation = np.sqrt(abs(convolve(level**2, window, mode="nearest") - local**2))
        patches = ((level - local) / (deviation + 1)).reshape(rows, side, columns, side).swapaxes(1, 2)
        found.append([features(patch) for patch in patches.reshape(-1, side, side)])
        level = bicubic(torch.from_numpy(level)[None, None], scale=0.5)[0, 0].numpy()
    both = np.concatenate(found, axis=1)
    difference = mean - both.mean(axis=0)
    return float(np.sqrt(difference @ np.linalg.pinv((covariance + np.cov(both.T)) / 2) @ difference))


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, Tensor]:
    """Of the size of the authors', and stored where `niqe` reads them."""
    mixing = 0.1 * torch.randn(36, 36, dtype=torch.float64)
    found = {"mu": torch.rand(36, dtype=torch.float64), "cov": mixing @ mixing.T + 0.01 * torch.eye(36)}
    torch.save(found, tmp_path / "parameters.pt")
    return found


def photographs() -> Tensor:
    """(2, 3, 230, 300) in [0, 1]: one as it is, one blurred."""
    photo = astronaut()[:230, :300] / 255
    blurred = resize(resize(photo, (115, 150), order=1), (230, 300), order=1)
    return torch.from_numpy(np.stack([photo, blurred])).movedim(-1, 1)


def test_distances_are_those_of_the_rule(parameters: dict[str, Tensor], tmp_path: Path) -> None:
    images = photographs()
    brightness = rgb2ycbcr(images.numpy(), channel_axis=1)[:, 0].round()
    expected = [written_out(one, parameters["mu"].numpy(), parameters["cov"].numpy()) for one in brightness]
    found = niqe(images, parameters_path=tmp_path / "parameters.pt")
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert expected[1] != pytest.approx(expected[0], rel=0.05)


def test_grey_counts_as_rgb_of_equal_channels(parameters: dict[str, Tensor], tmp_path: Path) -> None:
    grey = torch.from_numpy(camera()[100:300, 100:300] / 255)[None, None]
    path = tmp_path / "parameters.pt"
    assert torch.equal(niqe(grey, parameters_path=path), niqe(grey.expand(-1, 3, -1, -1), parameters_path=path))


def test_what_cannot_be_used_is_refused(
    parameters: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"\(1, 4, 200, 200\)"):
        niqe(torch.rand(1, 4, 200, 200))
    with pytest.raises(InputError, match="96 by 192 px"):
        niqe(torch.rand(1, 3, 191, 191))
    with pytest.raises(InputError, match="texture in two patches"):
        niqe(torch.full((1, 3, 200, 200), 0.5), parameters_path=tmp_path / "parameters.pt")
    torch.save({"mu": torch.rand(36)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt holds no parameters of NIQE"):
        niqe(torch.rand(1, 3, 96, 192), parameters_path=tmp_path / "other.pt")
    monkeypatch.setenv("I2I_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "ATTEMPTS", 1)

    def no_network(*_: object, **__: object) -> None:
        raise download.urllib.error.URLError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", no_network)
    with pytest.raises(InputError, match=r"put it at .*weights/niqe_weights\.pt"):
        niqe(torch.rand(1, 3, 96, 192))
    monkeypatch.setitem(sys.modules, "deepinv.loss.metric", None)
    with pytest.raises(InputError, match=r'pip install "i2i\[niqe\]"'):
        niqe(torch.rand(1, 3, 96, 192))
