import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_graph import Network, PeakMemory
from torch import Tensor, nn

from i2i.errors import InputError
from i2i.generators import (
    CompactGenerator,
    MSRResNetGenerator,
    ResNetGenerator,
    RRDBGenerator,
    SPADEGenerator,
    SRResNetGenerator,
    UNetGenerator,
)
from i2i.inference.graph import peak_bytes_per_pixel
from i2i.inference.staged import StagedWork, run_staged
from i2i.layers.norm import InstanceNorm2d, Normalisation, set_inference_mode

MIB = 2**20


def lively(network: nn.Module, *, normalisation: Normalisation = "eval") -> nn.Module:
    """Weights and running statistics with which every map has values around one, so that errors show."""
    set_inference_mode(network, normalisation=normalisation, dropout=False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, (2 / parameter[0].numel()) ** 0.5)
        else:
            nn.init.normal_(parameter, 0.1, 0.3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network


def staged(network: nn.Module, images: Tensor, *, budget_bytes: int, **settings: Any) -> tuple[Tensor, StagedWork]:
    bands: list[Tensor] = []

    def write(start: int, rows: Tensor) -> None:
        assert start == sum(band.shape[2] for band in bands)
        bands.append(rows.clone())

    work = run_staged(
        network,
        height=images.shape[2],
        width=images.shape[3],
        read_rows=lambda start, stop: images[:, :, start:stop],
        write_rows=write,
        device=torch.device("cpu"),
        budget_bytes=budget_bytes,
        **settings,
    )
    return torch.cat(bands, 2), work


@torch.no_grad()
def assert_equals_whole(network: nn.Module, images: Tensor, *, budget_bytes: int, tolerance: float) -> StagedWork:
    expected = network(images)
    assert expected.std() > 0.1
    result, work = staged(network, images, budget_bytes=budget_bytes)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() < tolerance * max(1, expected.std())
    return work


@pytest.fixture
def low_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands as low as a row of the largest map, or a few."""
    monkeypatch.setattr("i2i.inference.staged._MAP_BAND_BYTES_ON_CPU", 2**14)
    monkeypatch.setattr("i2i.inference.staged._FEWEST_ROWS", 1)


SMALL = {"in_channels": 3, "out_channels": 3, "width": 8}
GLOBAL: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResNetGenerator(**SMALL, blocks=9),
    "resnet, resize": lambda: ResNetGenerator(**SMALL, blocks=2, upsampling="resize"),
    "resnet, antialias": lambda: ResNetGenerator(**SMALL, blocks=2, antialias=True, upsampling="bilinear"),
    "resnet, deep": lambda: ResNetGenerator(**SMALL, blocks=2, downsamplings=4),
    "resnet, skips, residual": lambda: ResNetGenerator(**SMALL, blocks=2, skips=True, residual=1.5),
    "unet": lambda: UNetGenerator(**SMALL, depth=5, norm="instance"),
    "unet, resize, full size": lambda: UNetGenerator(
        **SMALL, depth=4, norm="instance", upsampling="resize", full_size_skip=True
    ),
    "spade": lambda: SPADEGenerator(in_channels=3, width=2, hidden_width=8, norm="instance", output_activation="none"),
}
LOCAL: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResNetGenerator(**SMALL, blocks=9, norm="batch"),
    "resnet, antialias": lambda: ResNetGenerator(
        **SMALL, blocks=2, norm="batch", antialias=True, upsampling="bilinear", downsamplings=3
    ),
    "resnet, resize": lambda: ResNetGenerator(**SMALL, blocks=2, norm="none", upsampling="resize"),
    "resnet, skips, residual": lambda: ResNetGenerator(**SMALL, blocks=2, norm="batch", skips=True, residual=1.5),
    "unet": lambda: UNetGenerator(**SMALL, depth=5),
    "unet, resize, full size": lambda: UNetGenerator(**SMALL, depth=3, upsampling="resize", full_size_skip=True),
    "spade": lambda: SPADEGenerator(in_channels=3, width=2, hidden_width=8, output_activation="none"),
    "rrdb": lambda: RRDBGenerator(**SMALL, growth=4, blocks=2),
    "rrdb x2": lambda: RRDBGenerator(**SMALL, growth=4, blocks=1, scale=2),
    "rrdb x1, unshuffled": lambda: RRDBGenerator(**SMALL, growth=4, blocks=1, scale=1, unshuffle=4, plus=True),
    "rrdb x2, unshuffled": lambda: RRDBGenerator(**SMALL, growth=4, blocks=1, scale=2, unshuffle=2),
    "rrdb x3": lambda: RRDBGenerator(**SMALL, growth=4, blocks=1, scale=3),
    "rrdb x8": lambda: RRDBGenerator(**SMALL, growth=4, blocks=1, scale=8),
    "compact": lambda: CompactGenerator(**SMALL, convs=4, scale=3),
    "compact x1": lambda: CompactGenerator(**SMALL, convs=2, scale=1),
    "compact x8": lambda: CompactGenerator(**SMALL, convs=2, scale=8),
    "compact, grey": lambda: CompactGenerator(in_channels=1, out_channels=3, width=8, convs=4),
    "srresnet": lambda: SRResNetGenerator(**SMALL, blocks=2),
    "srresnet x3": lambda: SRResNetGenerator(**SMALL, blocks=1, scale=3),
    "srresnet x8": lambda: SRResNetGenerator(**SMALL, blocks=1, scale=8),
    "msrresnet": lambda: MSRResNetGenerator(**SMALL, blocks=2),
}


@pytest.mark.usefixtures("low_bands")
@pytest.mark.parametrize("build", GLOBAL.values(), ids=GLOBAL)
def test_norms_over_the_whole_image_in_bands_and_files(build: Callable[[], nn.Module]) -> None:
    network = lively(build())
    work = assert_equals_whole(network, torch.randn(1, 3, 192, 96), budget_bytes=3 * MIB // 8, tolerance=1e-4)
    assert work.bands > 2 * work.stages
    assert work.scratch_bytes > 0


@pytest.mark.parametrize("build", GLOBAL.values(), ids=GLOBAL)
def test_norms_over_the_whole_image_in_memory(build: Callable[[], nn.Module]) -> None:
    network = lively(build())
    work = assert_equals_whole(network, torch.randn(1, 3, 96, 64), budget_bytes=2**30, tolerance=1e-4)
    assert work.bands == work.stages
    assert work.memory_bytes > 0
    assert work.scratch_bytes == 0


@pytest.mark.usefixtures("low_bands")
@pytest.mark.parametrize("build", LOCAL.values(), ids=LOCAL)
def test_networks_that_look_near_need_one_walk(build: Callable[[], nn.Module]) -> None:
    network = lively(build())
    images = torch.randn(1, network.in_channels, 96, 64)
    work = assert_equals_whole(network, images, budget_bytes=64 * MIB, tolerance=3e-5)
    assert work.stages == 1
    assert work.bands > 4


@pytest.mark.parametrize(("height", "width"), [(500, 372), (260, 1028), (8, 8), (12, 600), (600, 12)])
@pytest.mark.usefixtures("low_bands")
def test_sizes_that_no_band_divides(height: int, width: int) -> None:
    network = lively(ResNetGenerator(**SMALL, blocks=3))
    assert_equals_whole(network, torch.randn(1, 3, height, width), budget_bytes=4 * MIB, tolerance=1e-4)


def test_batch_norm_with_the_image_s_own_statistics() -> None:
    network = lively(UNetGenerator(**SMALL, depth=5), normalisation="per_image")
    work = assert_equals_whole(network, torch.randn(1, 3, 288, 96), budget_bytes=2 * MIB, tolerance=1e-4)
    assert work.stages > 5


def test_a_map_of_a_single_pixel() -> None:
    network = lively(UNetGenerator(**SMALL, depth=5, norm="instance"))
    assert_equals_whole(network, torch.randn(1, 3, 32, 32), budget_bytes=MIB, tolerance=1e-4)


def test_too_many_windows_at_once_make_more_stages() -> None:
    network = lively(RRDBGenerator(**SMALL, growth=4, blocks=2, scale=1))
    images = torch.randn(1, 3, 288, 64)
    work = assert_equals_whole(network, images, budget_bytes=MIB // 2, tolerance=1e-5)
    assert work.stages > 1


@pytest.mark.usefixtures("low_bands")
def test_kernels_of_all_kinds() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        features = F.relu(self.dilated(x), inplace=True)
        small = self.grouped(F.pixel_unshuffle(features, 2))
        return F.interpolate(F.pixel_shuffle(self.up(small), 2), scale_factor=3, mode="bilinear")

    network = Network(
        forward,
        size_multiple=6,
        dilated=nn.Conv2d(2, 4, (5, 3), padding=(4, 1), dilation=(2, 1)),
        grouped=nn.Conv2d(16, 8, 5, stride=3, padding=2, groups=4, padding_mode="reflect"),
        up=nn.ConvTranspose2d(8, 12, 5, stride=2, padding=1, dilation=2, output_padding=1),
    )
    # At a factor of three, PyTorch rounds how far an output lies between two inputs, the more the farther down it is.
    assert_equals_whole(lively(network), torch.randn(1, 2, 240, 36), budget_bytes=MIB // 4, tolerance=2e-4)


def test_what_is_overwritten_is_read_as_the_result() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(first)
        return second + F.relu(first, inplace=True) + first

    network = Network(forward, first=nn.Conv2d(2, 2, 3, padding=1), second=nn.Conv2d(2, 2, 3, padding=1))
    assert_equals_whole(lively(network), torch.randn(1, 2, 64, 16), budget_bytes=MIB // 16, tolerance=1e-5)


def test_the_image_itself_normalised_and_added() -> None:
    network = Network(
        lambda self, x: self.layer(self.norm(x)) + x, norm=InstanceNorm2d(2), layer=nn.Conv2d(2, 2, 3, padding=1)
    )
    images = 3 + 2 * torch.randn(1, 2, 64, 16)
    work = assert_equals_whole(lively(network), images, budget_bytes=MIB // 32, tolerance=1e-5)
    assert (work.stages, work.memory_bytes + work.scratch_bytes) == (2, 0)


def test_statistics_of_values_far_from_zero() -> None:
    network = Network(lambda self, x: self.norm(self.layer(x)), layer=nn.Conv2d(2, 2, 1), norm=nn.InstanceNorm2d(2))
    network.layer.weight.data = torch.eye(2)[:, :, None, None]
    network.layer.bias.data.zero_()
    # The first rows differ from the rest, so that no band has the statistics of the whole.
    images = 1000 + torch.randn(1, 2, 400, 16) + 10 * (torch.arange(400) < 100)[:, None]
    result, work = staged(network.eval(), images, budget_bytes=MIB // 16)
    assert work.bands > 10
    exact = images.double()
    exact = (exact - exact.mean((2, 3), keepdim=True)) / (exact.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    assert (result - exact).abs().max() < 1e-4


@torch.no_grad()
def test_memory_stays_within_the_budget() -> None:
    network = lively(ResNetGenerator(**SMALL, blocks=2))
    images = torch.randn(1, 3, 2048, 128)
    budget_bytes = 8 * MIB
    whole_bytes = peak_bytes_per_pixel(network)
    assert whole_bytes is not None
    assert whole_bytes * 2048 * 128 > 2 * budget_bytes
    with PeakMemory() as measured:
        run_staged(
            network,
            height=2048,
            width=128,
            read_rows=lambda start, stop: images[:, :, start:stop],
            write_rows=lambda start, rows: None,
            device=torch.device("cpu"),
            budget_bytes=budget_bytes,
        )
    assert measured.peak - images.nbytes < budget_bytes


def test_progress_and_files(tmp_path: Path) -> None:
    shares: list[float] = []

    def progress(share: float) -> None:
        shares.append(share)
        assert not any(tmp_path.iterdir())  # files without a name cannot be left behind

    network = lively(ResNetGenerator(**SMALL, blocks=1))
    images = torch.randn(1, 3, 160, 64)
    _, work = staged(network, images, budget_bytes=MIB // 2, scratch_folder=tmp_path, progress=progress)
    assert work.scratch_bytes > 0
    assert len(shares) == work.bands
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_what_cannot_be_exact_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 160, 64)
    network = lively(ResNetGenerator(**SMALL, blocks=1, dropout=True))

    def refused(said: str, *, network: nn.Module = network, images: Tensor = images, **settings: Any) -> None:
        with pytest.raises(InputError, match=said):
            staged(network, images, **{"budget_bytes": MIB // 2, "scratch_folder": tmp_path, **settings})

    refused("multiples of 4", images=images[..., :-1])
    refused("at least 8", images=images[:, :, :4])
    refused("within 0 MB of memory", budget_bytes=1000)
    refused("cannot be used", scratch_folder=tmp_path / "missing")
    set_inference_mode(network, normalisation="eval", dropout=True)
    refused(r"blocks.0.dropout \(Dropout\) is in training mode")
    refused("in float32", network=ResNetGenerator(**SMALL, blocks=1).eval().half())
    refused("training mode", network=UNetGenerator(**SMALL, depth=2, dropout=False))
    group_norm = Network(lambda self, x: self.norm(x), norm=nn.GroupNorm(1, 2)).eval()
    refused(r"norm \(GroupNorm\) looks at the whole image", network=group_norm, images=images[:, :2])

    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    refused(r"takes 0.\d GB of scratch files.*0.0 GB are free", network=lively(ResNetGenerator(**SMALL, blocks=1)))


def test_a_full_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **settings: Any) -> None:
            self.closed = False
            files.append(self)

        def seek(self, offset: int) -> None:
            pass

        def write(self, values: memoryview) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.closed = True

    files: list[Full] = []
    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    network = lively(ResNetGenerator(**SMALL, blocks=1))
    with pytest.raises(InputError, match="No space left"):
        staged(network, torch.randn(1, 3, 160, 64), budget_bytes=MIB // 2, scratch_folder=tmp_path)
    assert files
    assert all(file.closed for file in files)


@pytest.mark.slow
@torch.no_grad()
def test_the_published_resnet_is_exact_at_most_at_twice_the_time() -> None:
    network = lively(ResNetGenerator(in_channels=3, out_channels=3))
    images = torch.randn(1, 3, 768, 704)
    whole_s, staged_s = [], []
    for _ in range(2):
        began = time.perf_counter()
        expected = network(images)
        whole_s.append(time.perf_counter() - began)
        result, work = staged(network, images, budget_bytes=1536 * MIB)
        staged_s.append(work.seconds)
        assert (result - expected).abs().max() < 1e-4
    assert min(staged_s) < 2 * min(whole_s)
