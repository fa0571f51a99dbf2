"""What `instead.py` measured, as a table in Markdown and as a plot."""

from typing import Any

__all__ = ["markdown", "plot"]


def markdown(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the table, with the machine above it."""
    columns = ("box_ap", "mask_ap", "processor_ms", "wall_ms", "size_mb", "memory_mb", "set_up_s",
               "statements")  # fmt: skip
    head = "| way | box AP | mask AP | cpu ms | ms | MB | memory MB | set-up s | statements |"
    lines = [
        "# One trained Mask R-CNN on a CPU, by maskrt and by what one would use instead", "",
        f"`python benchmarks/instead.py --scenes {about['scenes']} --rounds {about['rounds']} "
        f"--threads {about['threads']}`; what the columns are is in its head.", "",
        ", ".join(f"{key} {value}" for key, value in about.items()) + ".", "",
        head, "|---" * 9 + "|",
    ]  # fmt: skip
    for row in rows:
        if "why" in row:
            lines.append(f"| {row['name']} | {row['why'].replace('|', '/')} |" + " |" * 7)
        else:
            cells = " | ".join(str(row[column]) for column in columns)
            lines.append(f"| {row['name']} | {cells} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]]) -> str:
    """Return an SVG: mask AP over processor time; up and to the left is better."""
    known = [row for row in rows if "why" not in row]
    width, height, left, right, bottom = 760, 340, 60, 280, 50
    most = max(row["processor_ms"] for row in known) * 1.1
    worst = max(0.0, min(row["mask_ap"] for row in known) // 1 - 3)  # the axis begins here
    best = max(row["mask_ap"] for row in known) // 1 + 3

    def x(value: float) -> float:
        return left + (width - left - right) * value / most

    def y(value: float) -> float:
        return height - bottom - (height - bottom - 20) * (value - worst) / (best - worst)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} 20V{height - bottom}H{width - right}" fill="none" stroke="#444"/>',
        f'<text x="{x(most / 2):.0f}" y="{height - 12}" text-anchor="middle">'
        "processor ms a picture</text>",
        f'<text x="16" y="{height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {height / 2})">mask AP</text>',
    ]
    for share in (0.25, 0.5, 0.75, 1.0):
        at, ap = most * share / 1.1, worst + (best - worst) * share
        parts.append(
            f'<text x="{x(at):.0f}" y="{height - 34}" text-anchor="middle">{at:.0f}</text>'
        )
        parts.append(f'<text x="{left - 6}" y="{y(ap) + 4:.0f}" text-anchor="end">{ap:.0f}</text>')
    for number, row in enumerate(known, 1):
        colour = "#c0392b" if row["name"].startswith("maskrt") else "#2c6fbb"
        across, up = x(row["processor_ms"]), y(row["mask_ap"])
        below = 18 if number % 2 else -9  # neighbours do not write over each other
        parts.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{colour}"/>')
        parts.append(
            f'<text x="{across:.1f}" y="{up + below:.1f}" fill="{colour}" '
            f'text-anchor="middle">{number}</text>'
        )
        parts.append(
            f'<text x="{width - right + 20}" y="{20 + 20 * number}" fill="{colour}">'
            f"{number}  {row['name']}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
