"""What networks that grow by stages share: how a stage starts from the one before it.

Karras et al. 2018, arXiv:1710.10196, section 2.
"""

import torch
from torch import Tensor, nn

from i2i.errors import InputError


def blend(old: Tensor, new: Tensor, fade: Tensor) -> Tensor:
    """(1 − α) old + α new, exactly `old` where the fade α, of shape (), is 0, and exactly `new` where it is 1."""
    return (1 - fade) * old + fade * new


class Growing(nn.Module):
    """A network for images of one size that can take over what one for half that size has learnt.

    Attributes:
        size: side of its images in pixels.
        arguments: of its constructor; all but `size` are alike in all stages.
        fade: a buffer of shape (), from 0 to 1: how far the newest block has been faded in. It is 1 in a new network;
            one of the smallest size has no block that could be faded in, and does not look at it.
    """

    size: int
    arguments: dict[str, object]
    fade: Tensor

    def fade_in(self, share: float) -> None:
        """Set how far the newest block has been faded in, from 0 to 1."""
        with torch.no_grad():
            self.fade.fill_(share)

    def take_over(self, smaller: nn.Module) -> None:
        """Take over the weights of the network for half the size, but for its oldest way to or from RGB.

        From then on this network begins where that one stood: with `fade` at 0 it gives the same, at twice the size.

        Raises:
            InputError: `smaller` is of another kind, not for half the size, or was made with other arguments.
        """
        if not isinstance(smaller, Growing) or type(smaller) is not type(self):
            raise InputError(f"expected weights of a {type(self).__name__}, got those of a {type(smaller).__name__}")
        if 2 * smaller.size != self.size:
            raise InputError(
                f"a stage of {self.size} px takes over one of {self.size // 2} px, and got one of {smaller.size} px: "
                "grow by one stage after the other"
            )
        differing = [
            name for name, value in self.arguments.items() if name != "size" and value != smaller.arguments[name]
        ]
        if differing:
            was = ", ".join(f"{name}={smaller.arguments[name]!r}" for name in differing)
            now = ", ".join(f"{name}={self.arguments[name]!r}" for name in differing)
            raise InputError(f"the smaller stage was made with {was}, and this one with {now}: make both alike")
        own = self.state_dict()
        self.load_state_dict({name: value for name, value in smaller.state_dict().items() if name in own}, strict=False)
        self.fade_in(0.0)
