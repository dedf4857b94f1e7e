"""Files of SPADE: its generator, netG."""

from math import isqrt

from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile
from i2i.generators import SPADEGenerator

NAME = "SPADE generator"


def _recognise(file: WeightFile) -> Layout | None:
    if not (file.has("head_0.norm_0.mlp_gamma.") and file.is_conv("conv_img")):
        return None
    blocks = ["head_0", "G_middle_0", "G_middle_1", *(f"up_{n}" for n in range(file.count("up_")))]
    spectral = "head_0.conv_0.weight_orig" in file.tensors
    batch = "head_0.norm_0.param_free_norm.running_mean" in file.tensors

    width = file.finding("width", "up_3.conv_0.bias", 0)

    keys: dict[str, str] = {}
    for ours, theirs in (("coarse", "fc"), ("head", "conv_img")):
        keys |= _leaves(ours, theirs, "weight", "bias")
    for number, block in enumerate(blocks):
        parts = [("first", "0"), ("second", "1")]
        if block.startswith("up_"):  # the others keep their width, and with it the features as they are
            parts.append(("shortcut", "s"))
        for part, suffix in parts:
            keys |= _conv_keys(f"blocks.{number}.{part}", f"{block}.conv_{suffix}", spectral, bias=part != "shortcut")
            keys |= _norm_keys(f"blocks.{number}.{part}_norm", f"{block}.norm_{suffix}", batch)
    return Layout(
        family=NAME,
        network=SPADEGenerator,
        findings=(
            file.finding("in_channels", "head_0.norm_0.mlp_shared.0.weight", 1),
            file.finding("out_channels", "conv_img.weight", 0),
            width,
            _find_upsampling_layers(file),
            Finding(
                name="norm",
                value="batch" if batch else "instance",
                source=f"norms have {'running statistics' if batch else 'no tensors of their own'}",
            ),
            Finding(
                name="spectral",
                value=spectral,
                source=f"convolutions have {'weight_orig' if spectral else 'plain weights'}",
            ),
            file.finding("hidden_width", "head_0.norm_0.mlp_shared.0.weight", 0),
            file.finding("label_kernel_size", "head_0.norm_0.mlp_shared.0.weight", 2),
            *_find_latents(file, width=width.value),
        ),
        keys=keys,
    )


def _find_upsampling_layers(file: WeightFile) -> Finding:
    if file.has("up_4."):
        return Finding(name="num_upsampling_layers", value="most", source="only these have up_4")
    return Finding(
        name="num_upsampling_layers",
        value="normal",
        source='a guess: files of "more" have the same tensors, but their users say so',
        certain=False,
    )


def _find_latents(file: WeightFile, *, width: int) -> list[Finding]:
    shape = file.shape("fc.weight")
    source = f"fc.weight has shape {shape}"
    if len(shape) != 2:
        return [Finding(name="latent_channels", value=None, source=source)]
    area = max(1, shape[0] // max(1, 16 * width))
    height = next(n for n in range(isqrt(area), 0, -1) if area % n == 0)
    guess = f"a guess: fc makes {area} pixels, taken as nearly square and not upright"
    return [
        Finding(name="latent_channels", value=shape[1], source=source),
        Finding(name="latent_height", value=height, source=guess, certain=area == 1),
        Finding(name="latent_width", value=area // height, source=guess, certain=area == 1),
    ]


def _conv_keys(ours: str, theirs: str, spectral: bool, *, bias: bool) -> dict[str, str]:
    keys = {f"{ours}.bias": f"{theirs}.bias"} if bias else {}
    if not spectral:
        return keys | {f"{ours}.weight": f"{theirs}.weight"}
    # PyTorch's older spectral norm, torch.nn.utils.spectral_norm, keeps the same three tensors under other names.
    parametrization = f"{ours}.parametrizations.weight"
    return keys | {
        f"{parametrization}.original": f"{theirs}.weight_orig",
        f"{parametrization}.0._u": f"{theirs}.weight_u",
        f"{parametrization}.0._v": f"{theirs}.weight_v",
    }


def _norm_keys(ours: str, theirs: str, batch: bool) -> dict[str, str]:
    keys: dict[str, str] = {}
    for our_conv, their_conv in (("shared.0", "mlp_shared.0"), ("gamma", "mlp_gamma"), ("beta", "mlp_beta")):
        keys |= _leaves(f"{ours}.{our_conv}", f"{theirs}.{their_conv}", "weight", "bias")
    if batch:
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        keys |= _leaves(f"{ours}.norm", f"{theirs}.param_free_norm", *statistics)
    return keys


def _leaves(ours: str, theirs: str, *leaves: str) -> dict[str, str]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in leaves}


_BLOCK = (
    r"(conv_[01s]\.(weight(_orig|_u|_v)?|bias)|"
    r"norm_[01s]\.(param_free_norm\.\w+|mlp_(shared\.0|gamma|beta)\.(weight|bias)))"
)

FAMILIES = (
    Family(
        name=NAME,
        pattern=rf"(fc|conv_img)\.(weight|bias)|(head_0|G_middle_[01]|up_[0-4])\.{_BLOCK}",
        recognise=_recognise,
    ),
)
