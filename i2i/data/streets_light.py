"""The light of a street between midday and dusk, made of its photos by day and by night."""

import numpy as np

# Colour of daylight next to midday's, in linear light, at times between midday (0) and dusk (1).
TIMES = (0.0, 0.45, 0.75, 1.0)
DAYLIGHT = np.array([(1.0, 1.0, 1.0), (1.0, 0.78, 0.52), (0.62, 0.42, 0.42), (0.2, 0.24, 0.42)])
LAMPS_FROM = 0.45

_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def relight(day: np.ndarray, night: np.ndarray, *, time: float) -> np.ndarray:
    """The photo that the same camera would take between midday and dusk.

    Light adds up: that of the sky, which turns golden, then dim and blue, and that of lamps and windows, which the
    photo by night shows alone.

    Args:
        day, night: (H, W, 3) uint8 sRGB photos of one street.
        time: 0 is midday, where `day` comes back; 1 is dusk, with all lamps lit.

    Returns:
        (H, W, 3) uint8 sRGB.
    """
    daylight = np.array([np.interp(time, TIMES, channel) for channel in DAYLIGHT.T], dtype=np.float32)
    lamps = max(0.0, (time - LAMPS_FROM) / (1 - LAMPS_FROM))
    linear = np.minimum(_LINEAR[day] * daylight + lamps * _LINEAR[night], 1)
    # IEC 61966-2-1, the inverse of the table above.
    photo = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)
    return (photo * 255 + 0.5).astype(np.uint8)
