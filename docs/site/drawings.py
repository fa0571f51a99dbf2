"""The drawing of docs/mathematics/roialign.md: the map, the box, its bins and samples.

python docs/site/drawings.py            writes docs/mathematics/roialign.svg
"""

from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "mathematics" / "roialign.svg"
CELL, EDGE, SIDE = 60, 20, 4
BOX = (0.5, 0.5, 2.5, 3.5)  # on the map, of stride 8


def svg() -> str:
    """Return the drawing."""
    size = 2 * EDGE + SIDE * CELL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" '
        'font-family="sans-serif" font-size="13" text-anchor="middle">',
        f'<rect width="{size}" height="{size}" fill="white"/>',
    ]
    for i in range(SIDE):
        for j in range(SIDE):
            x, y = EDGE + j * CELL, EDGE + i * CELL
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="none" stroke="#999"/>'
            )
            parts.append(
                f'<text x="{x + CELL / 2}" y="{y + CELL / 2 - 8}" fill="#555">{10 * i + j}</text>'
            )
            parts.append(f'<circle cx="{x + CELL / 2}" cy="{y + CELL / 2}" r="2" fill="#555"/>')
    parts += _box()
    return "\n".join([*parts, "</svg>", ""])


def _box() -> list[str]:
    x0, y0, x1, y1 = (EDGE + CELL * side for side in BOX)
    parts = []
    width, height = (x1 - x0) / 2, (y1 - y0) / 2
    for a in range(2):
        for b in range(2):
            x, y = x0 + b * width, y0 + a * height
            parts.append(
                f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#1f77b4" '
                'fill-opacity="0.12" stroke="#1f77b4" stroke-width="2"/>'
            )
            parts.append(
                f'<circle cx="{x + width / 2}" cy="{y + height / 2}" r="4" fill="#d62728"/>'
            )
    return parts


if __name__ == "__main__":
    OUT.write_text(svg(), encoding="utf-8")
