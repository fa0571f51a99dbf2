"""Instances drawn on their picture: masks, boxes and captions, legible at any size.

Colours go by class (or by track, in a film), and are those of Okabe and Ito, which eyes that do not
see red or green tell apart; more classes than colours take them again, lighter and darker. Two
instances of one class are told apart by the outline of their masks.

Source: M. Okabe and K. Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .masks import Crop

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["Shown", "colour_of", "draw"]

_PALETTE = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233),
    (240, 228, 66),
)  # fmt: skip
_ROUNDS = ((0.0, 0), (0.45, 255), (0.45, 0))  # how much of which grey is mixed in: seven each
_FILLED = 115  # of 256 parts of a mask's inside are its colour, the rest the picture
_BOX_WIDTH = 1 / 400  # of the picture's shorter side
_LETTERS = 1 / 45  # likewise, their height
_BAND = 1 << 18  # pixels blended at a time: a mask may be as large as its picture
_SMALLEST_LETTERS, _LARGEST_LETTERS = 11, 96


class Shown(NamedTuple):
    """One instance as it is drawn.

    Attributes:
        box: float `[4]`, xyxy, pixels.
        caption: a line of text.
        colour: RGB.
    """

    box: np.ndarray
    caption: str
    colour: tuple[int, int, int]


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class or track: number 1 has the first, and 0, none, is grey."""
    if number == 0:
        return 128, 128, 128
    turn, place = divmod(number - 1, len(_PALETTE))
    share, grey = _ROUNDS[turn % len(_ROUNDS)]
    red, green, blue = (round(v + (grey - v) * share) for v in _PALETTE[place])
    return red, green, blue


def draw(image: np.ndarray, shown: Sequence[Shown], crops: Iterable[Crop]) -> np.ndarray:
    """Return a copy of `image` with `shown` drawn, the last on top.

    Args:
        image: uint8 `[H, W, 3]`, RGB.
        shown: the instances.
        crops: their masks, in their order; none for a model without masks.
    """
    from PIL import Image, ImageDraw, ImageFont

    shorter = min(image.shape[:2])
    width = max(1, round(shorter * _BOX_WIDTH))
    letters = min(max(round(shorter * _LETTERS), _SMALLEST_LETTERS), _LARGEST_LETTERS)
    canvas = np.array(image)
    for entry, crop in zip(shown, crops, strict=False):
        _fill(canvas, crop, np.array(entry.colour, np.uint16), width)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for entry in shown:
        x0, y0, x1, y1 = (float(v) for v in entry.box)
        corners = (x0, y0, max(x1, x0), max(y1, y0))
        pen.rectangle(corners, outline=entry.colour, width=width)
    font = ImageFont.load_default(letters)
    taken: list[tuple[float, float, float, float]] = []
    for entry in reversed(shown):  # the best chooses its caption's place first
        taken.append(_write(pen, entry, font, taken, image.shape[:2]))
    return np.array(picture)


def _fill(canvas: np.ndarray, crop: Crop, colour: np.ndarray, width: int) -> None:
    """Mix the colour into a mask's inside, and draw its outline, `width` wide and inside of it."""
    rows, columns = crop.inside.shape
    part = canvas[crop.top : crop.top + rows, crop.left : crop.left + columns]
    framed = np.pad(crop.inside, width)
    step = max(1, _BAND // max(columns, 1))
    for top in range(0, rows, step):
        band = slice(top, min(top + step, rows))
        inside, pixels = crop.inside[band], part[band]
        core = inside.copy()
        for down, right in ((0, width), (2 * width, width), (width, 0), (width, 2 * width)):
            core &= framed[down + band.start : down + band.stop, right : right + columns]
        blended = pixels.astype(np.uint16)
        blended *= 256 - _FILLED
        blended += colour * _FILLED
        blended >>= 8
        np.copyto(pixels, blended, casting="unsafe", where=core[:, :, None])
        pixels[inside & ~core] = colour


def _write(
    pen: "ImageDraw",
    entry: Shown,
    font: Any,
    taken: Sequence[tuple[float, float, float, float]],
    size: tuple[int, ...],
) -> tuple[float, float, float, float]:
    """Write a caption where it hides the least of the others, and return what it covers."""
    _, top, right, bottom = pen.textbbox((0, 0), entry.caption, font=font)
    gap = max(2, round((bottom - top) / 5))
    wide, high = right + 2 * gap, bottom - top + 2 * gap
    x0, y0, x1, y1 = (float(v) for v in entry.box)
    wanted = ((x0, y0 - high), (x0, y0), (x0, y1), (x0, y1 - high), (x1 - wide, y0 - high),
              (x1 - wide, y0), (x1 - wide, y1), (x1 - wide, y1 - high))  # fmt: skip
    places = []
    for x, y in wanted:
        left = max(min(x, size[1] - wide), 0.0)
        upper = max(min(y, size[0] - high), 0.0)
        places.append((left, upper, left + wide, upper + high))
    best = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
    pen.rectangle(best, fill=entry.colour)
    red, green, blue = entry.colour
    dark = red * 0.299 + green * 0.587 + blue * 0.114 < 140
    ink = (255, 255, 255) if dark else (0, 0, 0)
    pen.text((best[0] + gap, best[1] + gap - top), entry.caption, fill=ink, font=font)
    return best


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
