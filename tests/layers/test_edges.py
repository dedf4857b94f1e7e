import pytest
import torch

from i2i.layers.edges import instance_edges


def test_a_pixel_is_an_edge_where_a_neighbour_has_another_number() -> None:
    instances = torch.randint(3, (2, 9, 7), generator=torch.Generator().manual_seed(0))
    found = instance_edges(instances)
    assert found.dtype == torch.bool
    for n, row, column in torch.cartesian_prod(*(torch.arange(length) for length in instances.shape)).tolist():
        neighbours = [(row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column)]
        expected = any(
            0 <= y < 9 and 0 <= x < 7 and instances[n, y, x] != instances[n, row, column] for y, x in neighbours
        )
        assert found[n, row, column] == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.int64])
def test_both_sides_of_a_boundary_and_nothing_else(dtype: torch.dtype) -> None:
    instances = torch.tensor([[7, 7, 7, 1, 1]] * 2).to(dtype)
    assert instance_edges(instances).tolist() == [[False, False, True, True, False]] * 2


def test_a_single_pixel_has_no_edge() -> None:
    assert not instance_edges(torch.tensor([[4]])).any()
