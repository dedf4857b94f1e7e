"""Mixed styles: which layers came from where, and what each decides, in a generator in which that is known."""

import numpy as np
import pytest
import torch
from toy_generators import dcgan, known_styles

from i2i.errors import InputError
from i2i.latents import mixing_correlations, style_mixing
from i2i.latents.mixing import colours, correlation, layout


def test_mixtures_have_the_layers_that_were_asked_for() -> None:
    t = known_styles()
    found = style_mixing(t, sources=[1, 2], destinations=[3, 4, 5], layers=[2, 1])
    for row, destination in enumerate((3, 4, 5)):
        np.testing.assert_allclose(found.destinations[row], t(seed=destination), atol=1e-5)
        for column, source in enumerate((1, 2)):
            styles = t.styles(seed=destination).clone()
            styles[1:3] = t.styles(seed=source)[1:3]
            np.testing.assert_allclose(found.images[row][column], t(styles=styles), atol=1e-5)
    picture = found.picture()
    left = picture.shape[1] - (3 * 68 + 4)
    assert picture.shape[0] == 14 + 4 * 68 + 4 and left >= 72
    assert (picture[: 14 + 68, : left + 68] == 255).all()  # the corner is empty
    assert (picture[:14, left + 68 :] < 128).any() and (
        picture[14 + 68 :, :left] < 128
    ).any()  # "source", "destination"
    assert (found.source_seeds, found.destination_seeds) == ((1, 2), (3, 4, 5))


def test_coarse_layers_draw_the_layout_and_fine_ones_the_colour() -> None:
    found = mixing_correlations(known_styles(), pairs=300)
    assert found.crossover == 2
    assert found.layout_from_coarse > 0.98  # but for values that are clipped
    assert found.colour_from_fine > 0.9
    for chance in (found.layout_from_fine, found.layout_from_unrelated, found.colour_from_unrelated):
        assert abs(chance) < 0.1
    assert found.colour_from_coarse < 0.4  # quantiles see the pattern's contrast, and little else
    later = mixing_correlations(known_styles(), pairs=300, crossover=3)
    assert later.colour_from_fine < found.colour_from_fine - 0.2


def test_a_correlation_is_one_with_itself_and_none_with_others() -> None:
    images = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    images = images + torch.linspace(-0.5, 0.5, 16)[:, None]  # what all share counts for nothing
    for describe in (layout, colours):
        described = describe(images)
        assert correlation(described, described) == pytest.approx(1)
        assert abs(correlation(described, described.roll(1, dims=0))) < 0.05
        flat = np.corrcoef(*(
            (d - d.mean(0)).flatten().numpy() for d in (described.double(), described.double().flip(1))
        ))[0, 1]  # fmt: skip
        assert correlation(described, described.flip(1)) == pytest.approx(flat)


def test_layout_knows_no_colour_brightness_or_contrast() -> None:
    images = torch.rand(5, 3, 32, 32)
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(layout(grey), layout(grey * 0.3 - 0.5), atol=1e-4, rtol=0)
    tint = torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    torch.testing.assert_close(layout(grey), layout(grey + tint), atol=1e-4, rtol=0)
    assert layout(grey).shape == (5, 64)


def test_colours_know_no_places() -> None:
    images = torch.rand(5, 3, 16, 16)
    moved = images.flatten(2)[:, :, torch.randperm(256)].unflatten(2, (16, 16))
    torch.testing.assert_close(colours(images), colours(moved))


def test_what_cannot_be_mixed() -> None:
    t = known_styles()
    with pytest.raises(InputError, match=r"layers: expected a list or a range, such as range\(4\), got 2"):
        style_mixing(t, sources=[1], destinations=[2], layers=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"sources: expected a list or a range, .* got 1"):
        style_mixing(t, sources=1, destinations=[2], layers=[2])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"destinations: expected a list or a range, .* got 2"):
        style_mixing(t, sources=[1], destinations=2, layers=[2])  # type: ignore[arg-type]
    for layers in ([], [4], [-1], [0.5], ["coarse"]):
        with pytest.raises(InputError, match="layers: expected some from 0 to 3"):
            style_mixing(t, sources=[1], destinations=[2], layers=layers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got 0 and 1 seeds"):
        style_mixing(t, sources=[], destinations=[2], layers=[1])
    with pytest.raises(InputError, match="DCGANGenerator has no styles"):
        style_mixing(dcgan(), sources=[1], destinations=[2], layers=[1])
    with pytest.raises(InputError, match="has no styles"):
        mixing_correlations(dcgan())
    with pytest.raises(InputError, match="crossover: expected a layer from 1 to 3, got 4"):
        mixing_correlations(t, crossover=4)
    with pytest.raises(InputError, match="at least 3"):
        mixing_correlations(t, pairs=2)
