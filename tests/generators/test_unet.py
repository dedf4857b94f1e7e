"""The U-Net: shapes, gradients, widths, sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from i2i.errors import InputError
from i2i.generators import UNetGenerator


@pytest.mark.parametrize("full_size_skip", [False, True])
@pytest.mark.parametrize("upsampling", ["transposed", "resize", "bilinear"])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_forward_and_backward(norm: str, upsampling: str, full_size_skip: bool) -> None:
    network = UNetGenerator(
        in_channels=5,
        out_channels=2,
        width=4,
        depth=6,
        norm=norm,  # type: ignore[arg-type]
        upsampling=upsampling,  # type: ignore[arg-type]
        full_size_skip=full_size_skip,
    )
    output = network(torch.randn(2, 5, 64, 128))
    assert output.shape == (2, 2, 64, 128)
    assert output.abs().max() <= 1
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_against_the_paper_written_out() -> None:
    """Encoder and decoder of depth 3 by PyTorch's functions alone (Isola et al. 2017, §6.1.1)."""
    network = UNetGenerator(in_channels=3, out_channels=1, width=4, depth=3).eval()
    p = dict(network.named_parameters())

    def down(x: torch.Tensor, level: int) -> torch.Tensor:
        return F.conv2d(x, p[f"down.{level}.0.weight"], p.get(f"down.{level}.0.bias"), stride=2, padding=1)

    def up(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv_transpose2d(x, p[f"{name}.weight"], p.get(f"{name}.bias"), stride=2, padding=1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        statistics = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        return F.batch_norm(x, *statistics, p[f"{name}.weight"], p[f"{name}.bias"])

    x = torch.randn(2, 3, 16, 16)
    first = F.leaky_relu(down(x, 0), 0.2)
    second = F.leaky_relu(norm(down(first, 1), "down.1.1"), 0.2)
    innermost = F.relu(down(second, 2))
    y = F.relu(torch.cat([second, norm(up(innermost, "up.0.0"), "up.0.1")], 1))
    y = F.relu(torch.cat([first, norm(up(y, "up.1.0"), "up.1.1")], 1))
    torch.testing.assert_close(network(x), torch.tanh(up(y, "head")))


def test_full_size_skip_carries_single_pixels() -> None:
    """With all deeper features silenced, a pixel still changes the output, no farther than two 3×3 convolutions."""
    network = UNetGenerator(in_channels=1, out_channels=1, width=4, depth=2, norm="none", full_size_skip=True)
    with torch.no_grad():
        for block in network.down:
            block[0].weight.zero_()
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8, 8] = 1
    changed = (network(image) - network(torch.zeros_like(image)))[0, 0].abs() > 0
    assert changed[8, 8]
    changed[6:11, 6:11] = False
    assert not changed.any()


def test_widths_double_up_to_eight_fold() -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, depth=8)
    widths = [block[0].out_channels for block in network.down]
    assert widths == [64, 128, 256, 512, 512, 512, 512, 512]


def test_dropout_in_the_wide_middle_blocks_only() -> None:
    for depth, expected in ((4, 0), (5, 0), (6, 1), (8, 3)):
        network = UNetGenerator(in_channels=1, out_channels=1, width=1, depth=depth)
        places = [isinstance(block[2], nn.Dropout) for block in network.up]
        assert sum(places) == expected
        assert places[1 : 1 + expected] == [True] * expected
    without = UNetGenerator(in_channels=1, out_channels=1, width=1, depth=8, dropout=False)
    assert not any(isinstance(module, nn.Dropout) for module in without.modules())


def test_output_activation() -> None:
    tanh, sigmoid = (
        UNetGenerator(in_channels=1, out_channels=1, width=2, depth=3, norm="none", output_activation=kind)
        for kind in ("tanh", "sigmoid")
    )
    sigmoid.load_state_dict(tanh.state_dict())
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(sigmoid(x), 1 / (1 + torch.exp(-torch.atanh(tanh(x)))))
    assert (tanh.output_range, sigmoid.output_range) == ((-1, 1), (0, 1))


def test_the_smallest_image_is_one_pixel_innermost() -> None:
    network = UNetGenerator(in_channels=1, out_channels=1, width=2, depth=2)
    assert network(torch.randn(1, 1, 4, 4)).shape == (1, 1, 4, 4)


def test_wrong_input_is_refused() -> None:
    network = UNetGenerator(in_channels=3, out_channels=3, width=1, depth=4)
    assert network.size_multiple == 16
    with pytest.raises(InputError, match="multiples of 16 px, got 33 x 48"):
        network(torch.randn(1, 3, 33, 48))
    with pytest.raises(InputError, match=r"\(N, 3, H, W\), got \(1, 4, 16, 16\)"):
        network(torch.randn(1, 4, 16, 16))
    with pytest.raises(InputError, match="depth of at least 2, got 1"):
        UNetGenerator(in_channels=3, out_channels=3, depth=1)


def test_inference_does_not_change_its_input() -> None:
    images = torch.randn(1, 3, 16, 16)
    before = images.clone()
    UNetGenerator(in_channels=3, out_channels=3, width=2, depth=3)(images)
    assert torch.equal(images, before)
