"""How natural a picture looks, without a truth to compare it with: NIQE, Mittal et al. 2013 ("Making a 'Completely
Blind' Image Quality Analyzer", IEEE Signal Processing Letters 20)."""

from pathlib import Path

import torch
from torch import Tensor

from i2i.download import cache_folder, download
from i2i.errors import InputError
from i2i.metrics.image import luma
from i2i.state_dicts import read_state_dict

PARAMETERS_URL = "https://huggingface.co/deepinv/demo/resolve/main/niqe_weights.pt"
PATCH_PX = 96


def niqe(images: Tensor, *, parameters_path: str | Path | None = None) -> Tensor:
    """Distance between the statistics of an image's patches and those of undistorted photographs: lower is better.

    Computed by deepinv (`pip install "i2i[niqe]"`), on the CPU, from luma rounded to 8 bits and whole patches of 96 px;
    what is left at the bottom and right is cut off. With the authors' parameters, Set14's baboon is at 5.7300, and
    MATLAB says 5.7296. Compare only figures of images of about one size.

    Args:
        images: (N, 3, H, W) or (N, 1, H, W) in [0, 1], of at least two patches: 96 by 192 px.
        parameters_path: a file of tensors with the mean "mu" (36,) and the covariance "cov" (36, 36) of undistorted
            photographs. None: the authors', fetched once and kept in `i2i.download.cache_folder()`.

    Returns:
        (N,), float32, at least 0.

    Raises:
        InputError: other channels, too few patches with any texture, deepinv is not installed, or the parameters cannot
            be fetched or read.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"expected RGB or grey images (N, 3 or 1, H, W), got {tuple(images.shape)}")
    height, width = images.shape[2:]
    if (height // PATCH_PX) * (width // PATCH_PX) < 2:
        raise InputError(f"NIQE needs images of at least {PATCH_PX} by {2 * PATCH_PX} px, got {height} by {width}")
    try:
        from deepinv.loss.metric import NIQE
    except ImportError as error:
        raise InputError('NIQE is computed by deepinv, which is not installed: pip install "i2i[niqe]"') from error
    if parameters_path is None:
        parameters_path = cache_folder() / "weights" / Path(PARAMETERS_URL).name
        download(PARAMETERS_URL, parameters_path)
    found = read_state_dict(Path(parameters_path))
    if [found[name].numel() for name in ("mu", "cov") if name in found] != [36, 36 * 36]:
        raise InputError(f'{parameters_path} holds no parameters of NIQE: expected "mu" (36,) and "cov" (36, 36)')
    metric = NIQE(weights_path=parameters_path, dtype=torch.float64)
    brightness = (luma(images.detach().cpu().double().expand(-1, 3, -1, -1)) * 255).round()
    try:
        return torch.cat([metric(one) for one in brightness.split(1)]).to(images.device)
    except torch.linalg.LinAlgError as error:  # of flat patches nothing is left to compare
        raise InputError("NIQE needs texture in two patches of an image at least; leave flat images out") from error
