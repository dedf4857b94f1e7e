"""What saving images as JPEG or as H.264 video does to them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Annex K of the JPEG standard (ITU-T T.81): steps of the luma's and the chroma's frequencies at quality 50.
LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(4 * ((99,) * 8,)),
)
# JFIF's YCbCr from RGB.
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(images: Tensor, *, quality: Tensor) -> Tensor:
    """Encode and decode as JPEG, with the chroma at half the size, as libjpeg does by default.

    Not through kornia's differentiable codec, which rounds softly and so lets through some of what JPEG destroys: its
    results are 0.8 dB nearer to the images than libjpeg's, and a network would learn to live on that. Beside, this is
    four times as fast.

    Args:
        images: (N, C, H, W), float32 in [0, 1], of any size. Three channels are RGB; of any other number, each is
            coded for itself as a grey image.
        quality: (N,) between 1 and 100.

    Returns:
        (N, C, H, W), float32 in [0, 1], of 8 bits.
    """
    if images.shape[1] != 3:
        planes = images.flatten(0, 1).unsqueeze(1)
        return _jpeg_grey(planes, quality.repeat_interleave(images.shape[1])).view_as(images)
    height, width = images.shape[2:]
    padded = F.pad((images * 255).round(), (0, -width % 16, 0, -height % 16), mode="replicate")
    ycbcr = torch.einsum("kc,nchw->nkhw", images.new_tensor(YCBCR), padded).round()
    luma = _quantised(ycbcr[:, :1] - 128, _steps(LUMA_STEPS, quality)) + 128
    chroma = _quantised(F.avg_pool2d(ycbcr[:, 1:], 2), _steps(CHROMA_STEPS, quality))
    ycbcr = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="bilinear")], dim=1)
    rgb = torch.einsum("kc,nchw->nkhw", torch.linalg.inv(torch.tensor(YCBCR)).to(images), ycbcr)
    return rgb[..., :height, :width].round().clamp(0, 255) / 255


def _jpeg_grey(planes: Tensor, quality: Tensor) -> Tensor:
    height, width = planes.shape[2:]
    padded = F.pad((planes * 255).round(), (0, -width % 8, 0, -height % 8), mode="replicate")
    coded = _quantised(padded - 128, _steps(LUMA_STEPS, quality)) + 128
    return coded[..., :height, :width].round().clamp(0, 255) / 255


def _steps(at_50: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """libjpeg's quantisation tables for qualities (N,): (N, 8, 8)."""
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor()[:, None, None]
    return ((torch.tensor(at_50) * percent + 50) / 100).floor().clamp(1, 255)


def _quantised(planes: Tensor, steps: Tensor) -> Tensor:
    """Round the cosine transform of each 8×8 block of (N, C, H, W) to multiples of its image's steps (N, 8, 8)."""
    count, channels, height, width = planes.shape
    frequency = torch.arange(8.0)[:, None]
    cosines = torch.cos((2 * torch.arange(8.0) + 1) * frequency * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    cosines = cosines.to(planes)
    steps = steps.to(planes)[:, None, None, None]
    blocks = planes.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    multiples = cosines @ blocks @ cosines.T / steps
    # Halves, which are frequent, away from 0, as libjpeg does, and however a device has rounded the products.
    coded = multiples.sign() * (multiples.abs() + 0.5001).floor() * steps
    return (cosines.T @ coded @ cosines).transpose(3, 4).reshape_as(planes)


def h264(images: Tensor, *, crf: Tensor) -> Tensor:
    """Encode each image as one frame of H.264 video and decode it: steps at blocks' borders, and the filter over them.

    On the CPU, image by image, whatever the device: some 2 ms for 64 × 64 px.

    Args:
        images: (N, C, H, W) in [0, 1], of any size. Three channels are RGB; of any other number, each is coded for
            itself as a grey image.
        crf: (N,), x264's constant rate factor: 0 is nearly lossless, 51 the worst.

    Returns:
        (N, C, H, W) in [0, 1], of 8 bits.
    """
    if images.shape[1] != 3:
        planes = images.flatten(0, 1).unsqueeze(1)
        coded = h264(planes.expand(-1, 3, -1, -1), crf=crf.repeat_interleave(images.shape[1]))
        return coded[:, :1].reshape_as(images)
    arrays = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    frames = np.stack([_h264_frame(array, crf=rate) for array, rate in zip(arrays, crf.tolist(), strict=True)])
    return torch.from_numpy(frames).to(images).permute(0, 3, 1, 2) / 255


def _h264_frame(image: np.ndarray, *, crf: float) -> np.ndarray:
    """(H, W, 3) uint8 → the same."""
    import av
    from av.video.reformatter import Interpolation

    # By default, FFmpeg's conversion of colours makes images a whole level darker.
    careful = (
        Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.FULL_CHR_H_INT
    )
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(even, "rgb24").reformat(format="yuv420p", interpolation=careful)
    encoder = av.VideoCodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
    encoder.framerate, encoder.thread_count = 25, 1
    encoder.options = {"crf": f"{crf:.2f}"}
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return decoded[0].reformat(format="rgb24", interpolation=careful).to_ndarray()[:height, :width]
