"""A report as one HTML page, with everything inside the one file: no network, no framework.

Verdict and the few numbers that matter, accuracy by metric, class and size, curves, the confusion
matrix, what became of the reference's instances, where the loss came from, how far each layer is
from FP32, latency, the worst pictures, and where all of it comes from. The few lines of script
(`page.js`) filter and zoom the pictures and switch between light and dark; without them all is
shown. Neither a colour alone nor red against green means anything.
"""

from collections.abc import Sequence
from html import escape

from ..report import Report
from ..triples import Triple
from . import sections
from .by_class import by_class_and_size, confusion, curves
from .gallery import gallery
from .parts import beside

__all__ = ["page_of", "render_html"]


def render_html(report: Report, pictures: Sequence[Triple] = ()) -> str:
    """Return the page.

    Args:
        report: what to show.
        pictures: the worst first; as many as fit are shown.
    """
    name = f"{report.precision} on {report.target}"
    labels = _labels(report, pictures)
    body = "".join(
        (
            sections.verdict(report),
            sections.tiles(report),
            sections.accuracy(report),
            by_class_and_size(report),
            curves(report, labels),
            confusion(report, labels),
            sections.agreement(report.agreement),
            gallery(pictures, report.reference_name or "reference", name),
            sections.attribution(report.attribution),
            sections.divergence(report.divergence),
            sections.latency(report),
            sections.engine(report.engine),
            sections.origin(report.provenance),
        )
    )
    model = report.provenance.get("bundle", "")
    title = f"{name}: {model}" if model else name
    when = report.provenance.get("date", "")
    said = f"Checked on {report.images} annotated pictures{f', {when}' if when else ''}."
    return page_of(title, said, body)


def page_of(title: str, said: str, body: str) -> str:
    """Return a whole page around sections; links to them stand under its title."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{beside('page.css')}</style></head><body>\n"
        '<a class="skip" href="#main">To the report</a>\n<header>'
        '<button type="button" class="scheme" hidden>Light or dark</button>'
        f'<h1>{escape(title)}</h1>\n<p class="sub">{escape(said)}</p>'
        f"{_links(body)}</header>\n"
        f'<main id="main">\n{body}</main>\n<script>{beside("page.js")}</script></body></html>\n'
    )


_LINKS = {
    "accuracy": "accuracy", "classes": "sizes and classes", "curves": "curves",
    "confusion": "confusion", "instances": "instances", "pictures": "pictures",
    "attribution": "loss by step", "layers": "layers", "latency": "latency", "engine": "engine",
    "origin": "provenance",
}  # fmt: skip


def _links(body: str) -> str:
    found = [(key, name) for key, name in _LINKS.items() if f'<section id="{key}"' in body]
    listed = "".join(f'<a href="#{key}">{name}</a>' for key, name in found)
    return f'<nav aria-label="Sections">{listed}</nav>' if len(found) > 1 else ""


def _labels(report: Report, pictures: Sequence[Triple]) -> dict[str, int]:
    """Return the label of each class by its name, which its colour goes by."""
    known = {name: int(label) for name, label in report.labels.items()}
    for triple in pictures:
        for shape in (*triple.truth, *triple.reference, *triple.engine):
            known.setdefault(shape.name, shape.label)
    return known
