"""Squares cut at random out of images whose pixels say where they lie."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.crops import Crops, Reals
from i2i.data.sampler import Draw
from i2i.errors import InputError

HEIGHT, WIDTH, SIZE = 9, 12, 6


class Coordinates(Dataset[Tensor]):
    """Images (2, 9, 12) of each pixel's row and column."""

    def __len__(self) -> int:
        return 50

    def __getitem__(self, item: Draw | int) -> Tensor:
        rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
        return torch.stack([rows, columns]).float()


def place(crop: Tensor) -> tuple[int, int]:
    """Where a square lies, of which each pixel must be where its neighbours say."""
    row, column = (int(value) for value in crop[:, 0, 0])
    expected = Coordinates()[0][:, row : row + SIZE, column : column + SIZE]
    assert torch.equal(crop, expected)
    return row, column


def test_squares_come_from_everywhere_and_follow_from_the_seed() -> None:
    crops = Crops(Reals(Coordinates()), size=SIZE)
    assert len(crops) == 50
    draws = [Draw(index=3, seed=seed, number=seed) for seed in range(300)]
    places = [place(crops[draw]["real"]) for draw in draws]
    assert set(places) == {(row, column) for row in range(HEIGHT - SIZE + 1) for column in range(WIDTH - SIZE + 1)}
    assert places == [place(crops[draw]["real"]) for draw in draws]


def test_held_out_squares_stay_and_differ_from_image_to_image() -> None:
    crops = Crops(Reals(Coordinates()), size=SIZE)
    places = [place(crops[index]["real"]) for index in range(50)]
    assert places == [place(crops[index]["real"]) for index in range(50)]
    assert len(set(places)) > 15  # of 28


def test_what_else_an_item_holds_stays() -> None:
    class Labelled(Reals):
        def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
            return {**super().__getitem__(item), "label": torch.tensor(4)}

    item = Crops(Labelled(Coordinates()), size=HEIGHT)[0]
    assert item["label"] == 4 and item["real"].shape == (2, HEIGHT, HEIGHT)


def test_images_smaller_than_the_square_are_refused() -> None:
    with pytest.raises(InputError, match="12 x 9 px is smaller than the 10 px"):
        Crops(Reals(Coordinates()), size=10)[0]
