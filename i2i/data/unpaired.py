"""Unpaired images: two sides that show different things, each in an order of its own."""

from torch import Tensor
from torch.utils.data import Dataset

from i2i.data.sampler import Draw, Shuffle, derived_seed
from i2i.errors import InputError


class Unpaired(Dataset[dict[str, Tensor]]):
    """One image of each side.

    An item is `{"a": …, "b": …}`, as the two data sets give them. The data set is as long as its longer side.

    Ask with a `Draw` in training: the longer side then gives the item drawn, and the other one (b where both are
    equally long) goes through its own items in its own endless shuffled order, by the number of the draw. So each
    side shows every item once before it shows one again, and the pairing changes from epoch to epoch. Each side is
    augmented with a seed of its own. Everything follows from the run's seed and the draw's number.

    Ask with a plain index for held-out images: item i holds a[i] and b[i], and the shorter side begins anew where it
    ends.
    """

    def __init__(self, *, a: Dataset[Tensor], b: Dataset[Tensor], seed: int) -> None:
        """
        Args:
            a, b: single images, for a `Draw` or a plain index. They may differ in number, size and channels.
            seed: of the run.

        Raises:
            InputError: a side is empty.
        """
        self.a, self.b = a, b
        self.length_a, self.length_b = len(a), len(b)  # type: ignore[arg-type]
        if min(self.length_a, self.length_b) < 1:
            raise InputError(
                f"expected at least one image on each side, got {self.length_a} of A and {self.length_b} of B"
            )
        self._shuffle = Shuffle(length=min(self.length_a, self.length_b), seed=seed, stream=2)

    def __len__(self) -> int:
        return max(self.length_a, self.length_b)

    def __getitem__(self, item: Draw | int) -> dict[str, Tensor]:
        if not isinstance(item, Draw):
            if not 0 <= item < len(self):
                raise IndexError(f"item {item} of {len(self)}")
            return {"a": self.a[item % self.length_a], "b": self.b[item % self.length_b]}
        drawn, shuffled = item.index, self._shuffle[item.number]
        index_a, index_b = (drawn, shuffled) if self.length_a >= self.length_b else (shuffled, drawn)
        return {
            "a": self.a[Draw(index=index_a, seed=derived_seed(item.seed, 0), number=item.number)],
            "b": self.b[Draw(index=index_b, seed=derived_seed(item.seed, 1), number=item.number)],
        }


class HeldOutPairs(Dataset[dict[str, Tensor]]):
    """Held-out pairs in the form of unpaired items, so that a translation can be compared with the truth.

    An item is `{"a": …, "b": …, "truth_b": …, "truth_a": …}`: "truth_b" is what "a" should become and "truth_a" what
    "b" should become. Here they are "b" and "a" themselves, which the networks have never seen.
    """

    def __init__(self, *, pairs: Dataset[dict[str, Tensor]]) -> None:
        """
        Args:
            pairs: items `{"input": …, "target": …}` for a plain index, with A as the input and B as the target.
        """
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair = self.pairs[index]
        a, b = pair["input"], pair["target"]
        return {"a": a, "b": b, "truth_b": b, "truth_a": a}
