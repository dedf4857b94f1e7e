from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from i2i.errors import InputError
from i2i.inference.tiling import Tiling, Window, blend_tiles

TILINGS = [
    Tiling(tile_px=64, context_px=0, ramp_px=0),
    Tiling(tile_px=64, context_px=8, ramp_px=0),
    Tiling(tile_px=64, context_px=5, ramp_px=12),
    Tiling(tile_px=96, context_px=24, ramp_px=16),
]
LENGTHS = [4, 64, 68, 100, 128, 132, 196, 1000]


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_used_pixel_has_its_context(tiling: Tiling, length: int) -> None:
    spans = tiling.spans(length, multiple=4)
    assert spans[0].start == spans[0].first == 0
    assert spans[-1].stop == spans[-1].last == length
    for span in spans:
        assert span.start % 4 == 0
        assert span.stop - span.start == min(tiling.tile_px, length)
        assert span.first - span.start >= tiling.context_px or span.start == 0
        assert span.stop - span.last >= tiling.context_px or span.stop == length
    for one, next_one in pairwise(spans):
        assert one.last - next_one.first == tiling.ramp_px
    for one, after_next in zip(spans, spans[2:], strict=False):
        assert one.last <= after_next.first  # no pixel lies in two ramps


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("size", [(100, 260), (40, 132), (260, 64)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_enlarging_pixels_one_by_one_leaves_no_trace_of_tiles(
    tiling: Tiling, scale: int, size: tuple[int, int], batch_size: int
) -> None:
    image = torch.rand(3, *size)

    def enlarge(windows: list[Window]) -> Tensor:
        assert len(windows) <= batch_size
        tiles = [image[:, w.rows.start : w.rows.stop, w.columns.start : w.columns.stop] for w in windows]
        return F.interpolate(torch.stack(tiles), scale_factor=float(scale), mode="nearest")

    bands: list[Tensor] = []
    shares: list[float] = []

    def write(start: int, band: Tensor) -> None:
        assert start == sum(b.shape[1] for b in bands)
        bands.append(band.clone())

    blend_tiles(
        enlarge,
        write,
        rows=tiling.spans(size[0], multiple=4),
        columns=tiling.spans(size[1], multiple=4),
        scale=scale,
        batch_size=batch_size,
        progress=shares.append,
    )
    expected = F.interpolate(image[None], scale_factor=float(scale), mode="nearest")[0]
    torch.testing.assert_close(torch.cat(bands, dim=1), expected, atol=1e-6, rtol=0)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_neighbours_fade_into_each_other_linearly() -> None:
    """Two tiles, one of zeros and one of ones: the ramp between them is the closed form's."""
    tiling = Tiling(tile_px=64, context_px=6, ramp_px=16)
    columns = tiling.spans(92, multiple=1)
    assert len(columns) == 2
    bands: list[Tensor] = []
    blend_tiles(
        lambda windows: torch.stack([torch.full((1, 8, 64), float(w.columns.start > 0)) for w in windows]),
        lambda _, band: bands.append(band),
        rows=tiling.spans(8, multiple=1),
        columns=columns,
        scale=1,
        batch_size=1,
    )
    middle = 92 / 2
    expected = ((torch.arange(92) + 0.5 - (middle - 8)) / 16).clamp(0, 1)
    torch.testing.assert_close(bands[0], expected.expand(1, 8, 92))


def test_extra_work_counts_what_overlaps() -> None:
    tiling = Tiling(tile_px=64, context_px=8, ramp_px=0)
    # 112 px: tiles at 0 and 48; 64 px: one tile
    assert tiling.extra_work(112, 64, multiple=1) == pytest.approx(128 / 112)


def test_a_tile_that_is_all_context_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected at least 84 for a context of 40 px.*got 64"):
        Tiling(tile_px=64, context_px=40, ramp_px=0).spans(100, multiple=4)
