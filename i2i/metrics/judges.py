"""Segmentation networks from files, as judges of generated images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.metrics.segmenter import holds_segmenter, load_segmenter
from i2i.state_dicts import read_state_dict


def load_judge(path: str | Path, *, classes: int | None = None) -> nn.Module:
    """A segmentation network for `SegmentationJudge`: images (N, 3, H, W) in [-1, 1] → logits or classes.

    Args:
        path: one of
            - a `Segmenter` that i2i saved (.safetensors);
            - weights of torchvision's FCN, DeepLabV3 or LR-ASPP, recognised from their tensors, fine-tuned to any
              number of classes (.pth, .safetensors; only tensors are read, and no auxiliary head);
            - an ONNX file, which segmentation_models_pytorch, mmsegmentation and others export: input float32
              (N, 3, H, W), output logits (N, K, h, w) or integer classes (N, h, w) or (N, 1, h, w). Of a fixed size,
              images are resized to it.
            The last two get images normalised by ImageNet's mean and deviation. timm has no segmentation networks;
            what is built on its backbones comes as ONNX, or as a module in `ImageNetInput`.
        classes: how many the network has to tell apart; None: any.

    Returns:
        The network in evaluation mode, without gradients. Its attribute `classes` is their number, None where an ONNX
        file does not say.

    Raises:
        InputError: the file cannot be read, holds none of these, tells another number of classes apart, or is ONNX
            while onnxruntime is not installed.
    """
    path = Path(path)
    judge: Any
    if path.suffix == ".onnx":
        judge = ImageNetInput(_ONNXNetwork(path))
    elif holds_segmenter(path):
        judge = load_segmenter(path)
    else:
        judge = ImageNetInput(_load_torchvision(path))
    if classes is not None and judge.classes not in (None, classes):
        raise InputError(
            f"{path} tells {judge.classes} classes apart, expected {classes}: give a network trained on the classes of "
            "the label maps, or say which of its classes mean the same (--judge-ids)"
        )
    return judge.eval().requires_grad_(False)


class ImageNetInput(nn.Module):
    """A network made for images normalised by ImageNet's mean and deviation, for images (N, 3, H, W) in [-1, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.classes: int | None = getattr(network, "classes", None)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Any:
        return self.network(((images + 1) / 2 - self.mean) / self.deviation)


class _ONNXNetwork(nn.Module):
    """Runs on the CPU, whatever device the images are on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(f"{path} needs onnxruntime, which is not installed: pip install 'i2i[export]'") from error
        try:
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # of types that onnxruntime does not publish
            raise InputError(f"{path} cannot be read as an ONNX file: {error}") from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            raise InputError(f"{path}: expected one input, float32 images (N, 3, H, W), got {found}")
        self.input = inputs[0].name
        # Lengths that the file leaves open are names, or None.
        batch, _, *size = inputs[0].shape
        self.batch = batch if isinstance(batch, int) else None
        self.size = size if all(isinstance(length, int) for length in size) else None
        channels = outputs[0].shape[1] if len(outputs[0].shape) == 4 else None
        self.classes = channels if isinstance(channels, int) and "float" in outputs[0].type else None

    def forward(self, images: Tensor) -> Tensor:
        resized = images if self.size is None else F.interpolate(images, self.size, mode="bilinear", antialias=True)
        parts = resized.split(self.batch or len(resized))
        outputs = [torch.from_numpy(self.session.run(None, {self.input: part.cpu().numpy()})[0]) for part in parts]
        output = torch.cat(outputs).to(images.device)
        return output if output.is_floating_point() or output.ndim == 3 else output.squeeze(1)


def _load_torchvision(path: Path) -> nn.Module:
    from torchvision.models import segmentation  # type: ignore[import-untyped]

    tensors = read_state_dict(path)
    # Only training has use for the auxiliary head.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("aux_classifier.")}
    biases = [tensors[name] for name in ("classifier.4.bias", "classifier.low_classifier.bias") if name in tensors]
    known = (
        segmentation.fcn_resnet50,
        segmentation.fcn_resnet101,
        segmentation.deeplabv3_resnet50,
        segmentation.deeplabv3_resnet101,
        segmentation.deeplabv3_mobilenet_v3_large,
        segmentation.lraspp_mobilenet_v3_large,
    )
    for build in known if biases else ():
        with torch.device("meta"):
            network = build(weights=None, weights_backbone=None, num_classes=len(biases[0]))
        if _shapes(network.state_dict()) == _shapes(tensors):
            network.load_state_dict(tensors, assign=True)
            network.classes = len(biases[0])
            return network.float()
    names = ", ".join(build.__name__ for build in known)
    raise InputError(
        f"{path} holds no segmentation network that is known: expected the tensors of one of torchvision's ({names}), "
        "a segmenter saved by i2i, or an .onnx file"
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
