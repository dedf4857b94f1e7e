"""Files of pix2pixHD: its multi-scale discriminator, netD. Its generator is in `resnet`, with its ancestors."""

from i2i.checkpoints.layouts.junyanz import make_layout
from i2i.checkpoints.layouts.layout import Family, Finding, Layout, WeightFile
from i2i.discriminators import MultiscaleDiscriminator

NAME = "pix2pixHD multi-scale discriminator"


def _recognise(file: WeightFile) -> Layout | None:
    if file.is_conv("scale0_layer0.0"):  # made to hand out its features
        scales, layers = 1, file.count("scale0_layer") - 1
        while file.has(f"scale{scales}_layer0."):
            scales += 1
        places = [("_layer0.0", ""), *((f"_layer{level}.0", f"_layer{level}.1") for level in range(1, layers))]
        places.append((f"_layer{layers}.0", ""))
        prefix = "scale"
    elif file.is_conv("layer0.0") and file.is_conv("layer0.2"):
        scales, layers = file.count("layer"), 1
        while file.has(f"layer0.{3 * layers + 2}."):
            layers += 1
        places = [(".0", ""), *((f".{3 * level - 1}", f".{3 * level}") for level in range(1, layers))]
        places.append((f".{3 * layers - 1}", ""))
        prefix = "layer"
    else:
        return None

    ours = ["first", *(f"blocks.{number}" for number in range(layers - 1)), "head"]
    convs, norms = {}, {}
    for scale in range(scales):
        theirs = f"{prefix}{scales - 1 - scale}"  # the last one sees the full size
        for part, (conv, norm) in zip(ours, places, strict=True):
            convs[f"scales.{scale}.{part}{'.0' if norm else ''}"] = f"{theirs}{conv}"
            if norm:
                norms[f"scales.{scale}.{part}.1"] = f"{theirs}{norm}"
    first = f"{prefix}0{places[0][0]}.weight"
    return make_layout(
        file,
        family=NAME,
        network=MultiscaleDiscriminator,
        findings=(
            file.finding("in_channels", first, 1),
            file.finding("width", first, 0),
            Finding(name="layers", value=layers, source=f"the last convolution is {prefix}0{places[-1][0]}"),
            Finding(name="scales", value=scales, source=f"the last one is {prefix}{scales - 1}"),
            Finding(name="spectral", value=False, source="as in all files of this kind"),
        ),
        convs=convs,
        norms=norms,
        biased=tuple(ours for ours in convs if ours.endswith((".first", ".head"))),
    )


_LEAF = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

FAMILIES = (Family(name=NAME, pattern=rf"(scale\d+_layer\d+|layer\d+)\.\d+\.{_LEAF}", recognise=_recognise),)
