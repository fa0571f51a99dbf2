"""The colours of classes, the same wherever instances are drawn.

Eight colours that stay apart for eyes that do not see red or green (after Okabe and Ito, 2008,
https://jfly.uni-koeln.de/color/), in an order in which the first few differ most. Labels beyond the
eighth take them again, so a caption always says the name.
"""

__all__ = ["CLASS_COLOURS", "class_colour", "ink_on"]

CLASS_COLOURS = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (240, 228, 66), (0, 114, 178), (213, 94, 0), (96, 96, 96),
)  # fmt: skip


def class_colour(label: int) -> tuple[int, int, int]:
    """Return a label's colour, RGB of 0 to 255; label 1, the first after background, has the first."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever reads better on a colour (WCAG's relative luminance)."""
    luminance = sum(
        w * _linear(c / 255) for w, c in zip((0.2126, 0.7152, 0.0722), colour, strict=True)
    )
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
