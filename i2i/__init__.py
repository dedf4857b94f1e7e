"""Image-to-image translation: train it, trust it, resume it, import it.

>>> import i2i
>>> t = i2i.load("runs/demo")
>>> out = t("photo.png")
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i2i.inference import Sampler, Translator, load

__version__ = "0.1.0"

__all__ = ["Sampler", "Translator", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Import torch only once `load` and the like are used, so that `import i2i` costs nothing (PEP 562)."""
    if name in ("Sampler", "Translator", "load"):
        from i2i import inference

        return getattr(inference, name)
    # So that `i2i.metrics.psnr` needs no import of its own.
    if not name.startswith("_") and find_spec(f"i2i.{name}") is not None:
        return import_module(f"i2i.{name}")
    raise AttributeError(f"module 'i2i' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
