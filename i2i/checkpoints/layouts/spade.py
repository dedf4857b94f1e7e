"""Files of SPADE: its generator netG, its discriminator netD and its style encoder netE."""

from math import isqrt

from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile, spectral_keys
from i2i.discriminators import MultiscaleDiscriminator
from i2i.generators import SPADEGenerator, StyleEncoder

GENERATOR = "SPADE generator"
DISCRIMINATOR = "SPADE multi-scale discriminator"
ENCODER = "SPADE style encoder"


def _recognise_generator(file: WeightFile) -> Layout | None:
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
        family=GENERATOR,
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
                source=_spectral_source(spectral),
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


def _recognise_discriminator(file: WeightFile) -> Layout | None:
    if not file.is_conv("discriminator_0.model0.0"):
        return None
    scales = file.count("discriminator_")
    layers = file.count("discriminator_0.model") - 1
    norm, spectral = _find_norm(file, "discriminator_0.model1.0")
    keys: dict[str, str] = {}
    for scale in range(scales):
        ours, theirs = f"scales.{scale}", f"discriminator_{scale}.model"
        keys |= _leaves(f"{ours}.first", f"{theirs}0.0", "weight", "bias")
        for level in range(1, layers):
            keys |= _layer_keys(f"{ours}.blocks.{level - 1}", f"{theirs}{level}.0", norm, spectral)
        keys |= _leaves(f"{ours}.head", f"{theirs}{layers}.0", "weight", "bias")
    return Layout(
        family=DISCRIMINATOR,
        network=MultiscaleDiscriminator,
        findings=(
            file.finding("in_channels", "discriminator_0.model0.0.weight", 1),
            file.finding("width", "discriminator_0.model0.0.weight", 0),
            Finding(name="layers", value=layers, source=f"the last convolution is discriminator_0.model{layers}"),
            Finding(name="scales", value=scales, source=f"the last one is discriminator_{scales - 1}"),
            norm,
            spectral,
        ),
        keys=keys,
    )


def _recognise_encoder(file: WeightFile) -> Layout | None:
    if not (file.has("fc_mu.") and file.has("fc_var.") and file.has("layer1.")):
        return None
    layers = file.count("layer", start=1)
    norm, spectral = _find_norm(file, "layer1")
    first = "layer1" + (".0" if norm.value != "none" else "") + (".weight_orig" if spectral.value else ".weight")
    keys = _leaves("mean", "fc_mu", "weight", "bias") | _leaves("log_variance", "fc_var", "weight", "bias")
    for level in range(layers):
        keys |= _layer_keys(f"blocks.{level}", f"layer{level + 1}", norm, spectral)
    return Layout(
        family=ENCODER,
        network=StyleEncoder,
        findings=(
            file.finding("in_channels", first, 1),
            file.finding("width", first, 0),
            file.finding("latent_channels", "fc_mu.weight", 0),
            Finding(name="image_px", value=4 * 2**layers, source=f"{layers} layers halve it to 4"),
            norm,
            spectral,
        ),
        keys=keys,
    )


def _find_norm(file: WeightFile, layer: str) -> tuple[Finding, Finding]:
    """The arguments `norm` and `spectral`, from a layer of the discriminator or the encoder.

    A layer is a convolution, or a sequence of one without a bias and its norm.
    """
    spectral = f"{layer}.weight_orig" in file.tensors or f"{layer}.0.weight_orig" in file.tensors
    if f"{layer}.1.running_mean" in file.tensors:
        norm, why = "batch", f"{layer}.1 has running statistics"
    elif file.has(f"{layer}.0."):
        norm, why = "instance", f"a norm without tensors follows {layer}.0"
    else:
        norm, why = "none", f"{layer} is a convolution alone"
    return (
        Finding(name="norm", value=norm, source=why),
        Finding(name="spectral", value=spectral, source=_spectral_source(spectral)),
    )


def _spectral_source(spectral: bool) -> str:
    return f"convolutions have {'weight_orig' if spectral else 'plain weights'}"


def _layer_keys(ours: str, theirs: str, norm: Finding, spectral: Finding) -> dict[str, str]:
    if norm.value == "none":
        return _conv_keys(f"{ours}.0", theirs, spectral.value, bias=True)
    keys = _conv_keys(f"{ours}.0", f"{theirs}.0", spectral.value, bias=False)
    if norm.value == "batch":
        keys |= _leaves(f"{ours}.1", f"{theirs}.1", "weight", "bias", *_STATISTICS)
    return keys


def _conv_keys(ours: str, theirs: str, spectral: bool, *, bias: bool) -> dict[str, str]:
    keys = {f"{ours}.bias": f"{theirs}.bias"} if bias else {}
    return keys | (spectral_keys(ours, theirs) if spectral else {f"{ours}.weight": f"{theirs}.weight"})


def _norm_keys(ours: str, theirs: str, batch: bool) -> dict[str, str]:
    keys: dict[str, str] = {}
    for our_conv, their_conv in (("shared.0", "mlp_shared.0"), ("gamma", "mlp_gamma"), ("beta", "mlp_beta")):
        keys |= _leaves(f"{ours}.{our_conv}", f"{theirs}.{their_conv}", "weight", "bias")
    if batch:
        keys |= _leaves(f"{ours}.norm", f"{theirs}.param_free_norm", *_STATISTICS)
    return keys


def _leaves(ours: str, theirs: str, *leaves: str) -> dict[str, str]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in leaves}


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_CONV = r"(weight(_orig|_u|_v)?|bias)"
_NORMED_CONV = rf"((0\.)?{_CONV}|1\.(weight|bias|{'|'.join(_STATISTICS)}))"
_BLOCK = rf"(conv_[01s]\.{_CONV}|norm_[01s]\.(param_free_norm\.\w+|mlp_(shared\.0|gamma|beta)\.(weight|bias)))"

FAMILIES = (
    Family(
        name=GENERATOR,
        pattern=rf"(fc|conv_img)\.(weight|bias)|(head_0|G_middle_[01]|up_[0-4])\.{_BLOCK}",
        recognise=_recognise_generator,
    ),
    Family(
        name=DISCRIMINATOR,
        pattern=rf"discriminator_\d+\.model\d+\.0\.{_NORMED_CONV}",
        recognise=_recognise_discriminator,
    ),
    Family(
        name=ENCODER,
        pattern=rf"fc_(mu|var)\.(weight|bias)|layer\d+\.{_NORMED_CONV}",
        recognise=_recognise_encoder,
    ),
)
