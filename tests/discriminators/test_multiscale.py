"""The multi-scale discriminator: its features, and label maps beside images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.discriminators import MultiscaleDiscriminator
from i2i.errors import InputError


def label_maps(classes: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """With edges between instances; in their one-hot form, too."""
    labels = torch.cat([torch.randint(classes, (2, 1, height, width)), torch.randint(2, (2, 1, height, width))], dim=1)
    return labels, torch.cat([F.one_hot(labels[:, 0], classes).movedim(-1, 1), labels[:, 1:]], dim=1).float()


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("scales", [1, 3])
def test_shapes(scales: int, layers: int) -> None:
    network = MultiscaleDiscriminator(in_channels=3, width=3, layers=layers, scales=scales)
    results = network(torch.randn(2, 3, 65, 48))
    assert len(results) == scales
    for scale, features in enumerate(results):
        height, width = ((side + 2**scale - 1) // 2**scale for side in (65, 48))
        expected = []
        for layer in range(layers):
            if layer == 0 or layer < layers - 1:
                height, width = height // 2 + 1, width // 2 + 1
            else:
                height, width = height + 1, width + 1
            expected.append((2, 3 * 2**layer, height, width))
        assert [tuple(map.shape) for map in features] == [*expected, (2, 1, height + 1, width + 1)]


def test_channels_double_up_to_512() -> None:
    with torch.device("meta"):
        network = MultiscaleDiscriminator(in_channels=3, width=200, layers=4)
    widths = [p.shape[0] for name, p in network.scales[0].named_parameters() if name.endswith(("original", "weight"))]
    assert widths == [200, 400, 512, 512, 1]


def test_published_size() -> None:
    """11.1 million parameters for COCO-Stuff: 182 classes, don't care, edges, and an image."""
    with torch.device("meta"):
        network = MultiscaleDiscriminator(in_channels=184 + 3)
    convs = [(187, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    expected = 2 * (sum(16 * inputs * outputs for inputs, outputs in convs) + 64 + 1)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_spectral_norm_spares_the_first_and_the_last() -> None:
    network = MultiscaleDiscriminator(in_channels=3, width=2, layers=3, scales=1)
    normed = {name.partition(".parametrizations")[0] for name in network.state_dict() if "._u" in name}
    assert normed == {"scales.0.blocks.0.0", "scales.0.blocks.1.0"}
    plain = MultiscaleDiscriminator(in_channels=3, width=2, layers=3, scales=1, spectral=False)
    assert not any("._u" in name for name in plain.state_dict())


# Few classes are multiplied, many looked up.
@pytest.mark.parametrize("classes", [4, 40])
@pytest.mark.parametrize("scales", [1, 3])
def test_label_maps_count_as_their_one_hot_form_before_the_image(scales: int, classes: int) -> None:
    network = MultiscaleDiscriminator(in_channels=classes + 1 + 3, width=3, layers=3, scales=scales).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    labels, hot = label_maps(classes, 37, 44)
    image = torch.randn(2, 3, 37, 44, requires_grad=True)
    found, expected = network(image, labels), network(torch.cat([hot, image], dim=1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def gradients(results: list[list[Tensor]]) -> tuple[Tensor, ...]:
        loss = torch.stack([map.abs().mean() for features in results for map in features]).sum()
        return torch.autograd.grad(loss, [image, *network.parameters()])

    torch.testing.assert_close(gradients(found), gradients(expected), rtol=1e-3, atol=1e-4)


def test_every_parameter_learns() -> None:
    network = MultiscaleDiscriminator(in_channels=44, width=3, layers=3)
    labels, _ = label_maps(40, 32, 32)
    torch.stack(
        [features[-1].square().mean() for features in network(torch.randn(2, 3, 32, 32), labels)]
    ).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_wrong_input_is_refused() -> None:
    network = MultiscaleDiscriminator(in_channels=8, width=2)
    with pytest.raises(InputError, match=r"shape \(N, 8, H, W\), got \(1, 3, 32, 32\)"):
        network(torch.randn(1, 3, 32, 32))
    with pytest.raises(
        InputError, match=r"integer label maps of 32 x 32 px.* got torch\.int64 of shape \(1, 1, 16, 16\)"
    ):
        network(torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 16, 16, dtype=torch.int64))
    with pytest.raises(
        InputError, match=r"got torch\.float32 of shape \(1, 5, 32, 32\); one-hot maps are to be joined"
    ):
        network(torch.randn(1, 3, 32, 32), torch.zeros(1, 5, 32, 32))
