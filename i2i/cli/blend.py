"""Mix the weights of two generators, for results between theirs (ESRGAN's network interpolation).

    i2i blend out/psnr out/gan --alpha 0.8 --out out/blend
    i2i blend realesr-general-wdn-x4v3 realesr-general-x4v3 --alpha 0.5 --out half-denoised

The result is (1 - alpha) · A + alpha · B, in a folder that the other commands take as weights. The two must be alike
but for their weights, and one trained on from the other, or both from one start.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional, UseAppendAction

from i2i.checkpoints import open_checkpoint, save_generator
from i2i.checkpoints.blend import blend
from i2i.checkpoints.catalogue import find_weights
from i2i.cli.overrides import parse_overrides
from i2i.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to mix, and how.

    Attributes:
        a: weights that alpha 0 means: a file of any project, a generator's folder, a name that `i2i weights` lists, or
            a repository "owner/name" of the Hugging Face Hub.
        b: weights that alpha 1 means.
        alpha: from 0 to 1, how much of B.
        out: folder for the mixed generator, not there yet.
        set: name=value, an argument of both networks that their files cannot tell.
    """

    a: Positional[str]
    b: Positional[str]
    alpha: float
    out: Path
    set: UseAppendAction[tuple[str, ...]] = ()


def main(settings: Settings) -> None:
    """Write the mixed generator."""
    if settings.out.exists():
        raise InputError(f"{settings.out} is there already; name a folder for --out that does not exist yet")
    overrides = parse_overrides(settings.set)
    a, b = (open_checkpoint(find_weights(weights), **overrides) for weights in (settings.a, settings.b))
    mixed = blend(a, b, alpha=settings.alpha)
    assert mixed.spec is not None
    save_generator(settings.out, network=mixed.network, spec=mixed.spec, card=_card(settings))
    print(f"{settings.out} holds {1 - settings.alpha:g} · {settings.a} + {settings.alpha:g} · {settings.b}")


def _card(settings: Settings) -> str:
    return f"""# {settings.a} and {settings.b}, blended

Network interpolation (ESRGAN, Wang et al. 2018, §3.4): each weight is
{1 - settings.alpha:g} · `{settings.a}` + {settings.alpha:g} · `{settings.b}`.
The licences of both hold.
"""
