"""The worst pictures in triples: annotations, reference, engine; each an SVG over one JPEG.

The pixels stand once in the page: the second and third panel refer to the first one's. Text is part
of the drawing, so it grows with the picture. What became of an instance is shown by its outline and
said in its caption: no colour means anything but the class.
"""

import base64
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from ..triples import CONFIDENT, Shape, Triple
from .parts import css_colour, ink_on, section, swatch

__all__ = ["gallery"]

_BYTES = 3_600_000  # of pictures and outlines in a page; what is beyond is left out, and said
_FATES = ("matched", "missed", "invented", "relabelled")
_TOOLS = (
    ("in", "+", "Zoom in"),
    ("out", "\N{MINUS SIGN}", "Zoom out"),
    ("fit", "whole", "The whole picture"),
    ("large", "large", "One below the other, large"),
)
_LETTER = 0.54  # of a letter's height, its width


def gallery(triples: Sequence[Triple], reference: str, engine: str) -> str:
    """Return the section; `reference` and `engine` are what the two are called."""
    figures: list[str] = []
    used = 0
    for place, triple in enumerate(triples):
        figure = _figure(place, triple, reference, engine)
        if figures and used + len(figure) > _BYTES:
            break
        figures.append(figure)
        used += len(figure)
    if not figures:
        return ""
    left_out = len(triples) - len(figures)
    note = (
        f"The {len(figures)} pictures on which the two differ most, the worst first. "
        + (f"{left_out} more would make the page too large. " if left_out else "")
        + "Zoom with + and \N{MINUS SIGN}, move by dragging or with the arrow keys: the three "
        "panels go together."
    )
    body = f"{_filters(triples[: len(figures)])}{''.join(figures)}"
    return section("pictures", "Where the two differ most", body, note)


def _filters(triples: Sequence[Triple]) -> str:
    names: dict[int, str] = {}
    for triple in triples:
        for shape in (*triple.truth, *triple.reference, *triple.engine):
            names.setdefault(shape.label, shape.name)
    classes = "".join(
        f'<label><input type="checkbox" checked data-class="{label}">{swatch(label)}'
        f"{escape(names[label])}</label>"
        for label in sorted(names)
    )
    fates = "".join(
        f'<label><input type="checkbox" checked data-fate="{fate}">'
        f'<svg class="sample {fate}" viewBox="0 0 22 14" aria-hidden="true">'
        f'<rect x="2" y="2" width="18" height="10"/></svg>{fate}</label>'
        for fate in _FATES
    )
    return (
        '<form class="filters" hidden aria-label="Show in the pictures">'
        f"<fieldset><legend>Instances</legend>{fates}"
        f'<label><input type="checkbox" checked data-faint>score below {CONFIDENT:g}</label>'
        '<label><input type="checkbox" checked data-masks>masks</label>'
        '<label><input type="checkbox" checked data-captions>captions</label></fieldset>'
        f"<fieldset><legend>Classes</legend>{classes}"
        '<button type="button" data-all>all</button><button type="button" data-none>none</button>'
        '</fieldset><p role="status" class="small"></p></form>\n'
    )


def _figure(place: int, triple: Triple, reference: str, engine: str) -> str:
    counts = {fate: _count(triple, fate) for fate in _FATES[1:]}
    said = ", ".join(f"{count} {fate}" for fate, count in counts.items() if count)
    caption = f"{triple.name}: {said or 'nothing missed, invented or relabelled'}"
    panels = (
        ("annotated", triple.truth, True),
        (reference, triple.reference, False),
        (engine, triple.engine, False),
    )
    drawn = "".join(_panel(place, triple, *panel) for panel in panels)
    buttons = "".join(
        f'<button type="button" data-zoom="{key}" aria-label="{title}" title="{title}">{sign}'
        "</button>"
        for key, sign, title in _TOOLS
    )
    return (
        f'<figure class="triple" tabindex="0"><figcaption><span>{escape(caption)}</span>'
        f'<span class="tools" hidden>{buttons}</span></figcaption><div class="panels">{drawn}</div>'
        "</figure>\n"
    )


def _count(triple: Triple, fate: str) -> int:
    side = triple.reference if fate == "missed" else triple.engine
    return sum(shape.fate == fate for shape in side)


def _panel(place: int, triple: Triple, title: str, shapes: Sequence[Shape], first: bool) -> str:
    width, height = triple.size
    key = f"picture{place}"
    if first:
        pixels = base64.b64encode(triple.jpeg).decode("ascii")
        image = (
            f'<image id="{key}" width="{width}" height="{height}" '
            f'href="data:image/jpeg;base64,{pixels}"/>'
        )
    else:
        image = f'<use href="#{key}"/>'
    alt = f"{triple.name}, {title}: {_listed(shapes)}"
    drawn = "".join(_drawn(shapes, (width, height)))
    return (
        f'<div class="panel"><p>{escape(title)}</p><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(alt, quote=True)}">{image}{drawn}</svg></div>'
    )


def _listed(shapes: Sequence[Shape]) -> str:
    said = ", ".join(_words(shape) for shape in reversed(shapes[-12:]))
    more = f" and {len(shapes) - 12} more" if len(shapes) > 12 else ""
    return f"{said or 'nothing'}{more}"


def _words(shape: Shape) -> str:
    fate = "" if shape.fate in ("matched", "annotated") else f" {shape.fate}"
    return f"{shape.name}{fate}"


def _caption(shape: Shape) -> str:
    said = shape.name if shape.score is None else f"{shape.name} {shape.score:.2f}"
    if shape.fate in ("missed", "invented"):
        return f"{shape.fate} {said}"
    if shape.fate == "relabelled":
        return f"{said}, not {shape.other}"
    return f"{said}, {shape.other}" if shape.other else said


def _drawn(shapes: Sequence[Shape], size: tuple[int, int]) -> Iterator[str]:
    """Yield masks and boxes, the surest on top, and above all of them the captions."""
    letter = max(size) / 34
    taken: list[tuple[float, float, float, float]] = []
    captions = []
    for shape in reversed(shapes):  # the surest choose their places first
        text = _caption(shape)
        spot = _place(shape.box, (len(text) + 0.8) * letter * _LETTER, letter * 1.3, size, taken)
        taken.append(spot)
        captions.append(_written(shape, text, spot, letter))
    for shape in shapes:
        x0, y0, x1, y1 = shape.box
        yield (
            f"<g {_kind(shape)}>{_mask(shape.rings)}"
            f'<rect class="b" x="{x0:.1f}" y="{y0:.1f}" width="{max(x1 - x0, 0):.1f}" '
            f'height="{max(y1 - y0, 0):.1f}"/></g>'
        )
    yield from reversed(captions)


def _kind(shape: Shape, layer: str = "") -> str:
    faint = " faint" if shape.score is not None and shape.score < CONFIDENT else ""
    colour = css_colour(shape.label)
    return f'class="i {shape.fate}{faint}{layer}" data-c="{shape.label}" style="--c: {colour}"'


def _written(
    shape: Shape, text: str, spot: tuple[float, float, float, float], letter: float
) -> str:
    x, y, width, height = spot
    return (
        f'<g {_kind(shape, " t")}><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}"/><text x="{x + letter * 0.25:.1f}" y="{y + letter:.1f}" '
        f'font-size="{letter:.1f}" fill="{ink_on(shape.label)}">{escape(text)}</text></g>'
    )


def _place(
    box: tuple[float, float, float, float],
    width: float,
    height: float,
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Return where a caption goes: above, below or in its box, the first that covers no other."""
    x0, y0, _, y1 = box
    x = max(min(x0, size[0] - width), 0.0)
    heights = (y0 - height, y1, y0, y1 - height, y0 + height, y0 - 2 * height, y1 + height)
    tried = [max(min(y, size[1] - height), 0.0) for y in heights]
    for y in tried:
        spot = (x, y, width, height)
        if not any(_meet(spot, other) for other in taken):
            return spot
    return x, tried[0], width, height


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    apart_x = a[0] >= b[0] + b[2] or b[0] >= a[0] + a[2]
    return not (apart_x or a[1] >= b[1] + b[3] or b[1] >= a[1] + a[3])


def _mask(rings: Sequence[np.ndarray]) -> str:
    if not rings:
        return ""
    path = "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring.tolist()) + "Z" for ring in rings
    )
    return f'<path class="m" d="{path}"/>'
