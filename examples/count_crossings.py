"""Count what crosses a line in a video: found, followed, counted by class and direction.

    pip install 'maskrt[cpu,video,track]'
    python examples/count_crossings.py street.maskrt street.mp4 -o counted/ --line 0 300 640 300

The line is two points in pixels of the video. Seen from the first towards the second, a thing
goes "to the right" or "to the left"; what counts is where its box is centred. A thing that goes
forth and back counts twice, and one that passes beside the line's ends does not count. `counted/`
has the drawn video, on which a thing keeps its colour and number, `results.json` with its
`track_id`, and `crossings.csv`.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import maskrt

Point = tuple[float, float]
Line = tuple[Point, Point]


class Crossing(NamedTuple):
    """One thing crossing the line once."""

    frame: int
    track_id: int
    category_id: int
    direction: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video")
    parser.add_argument(
        "--line", type=float, nargs=4, required=True, metavar=("X0", "Y0", "X1", "Y1")
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("counted"))
    parser.add_argument("--min-score", type=float, default=0.5)
    options = parser.parse_args()
    x0, y0, x1, y1 = options.line
    found = maskrt.run(
        options.bundle, options.video, options.output, track=True, min_score=options.min_score
    )
    names = {entry["id"]: entry["name"] for entry in found.categories}
    rows = list(crossings(found.annotations, ((x0, y0), (x1, y1))))
    with (options.output / "crossings.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame", "track_id", "name", "direction"])
        for row in rows:
            name = names.get(row.category_id, row.category_id)
            table.writerow([row.frame, row.track_id, name, row.direction])
            print(f"frame {row.frame}: {name} {row.track_id} to the {row.direction}")
    print(f"{len(rows)} crossings in {len(found.images)} frames")


def crossings(annotations: Iterable[dict[str, Any]], line: Line) -> Iterator[Crossing]:
    """Yield each crossing of a line by what `maskrt.run(track=True)` found, in order of time.

    Args:
        annotations: COCO results with `track_id`, in order of their `image_id`, which is the frame.
        line: two points, in pixels.
    """
    last: dict[int, Point] = {}
    side: dict[int, float] = defaultdict(float)
    for entry in annotations:
        track = entry.get("track_id")
        if track is None:
            continue
        x, y, width, height = entry["bbox"]
        here = (x + width / 2, y + height / 2)
        now = _side(line, here)
        if now * side[track] < 0 and _between(line, last[track], here):
            direction = "right" if now > 0 else "left"
            yield Crossing(entry["image_id"], track, entry["category_id"], direction)
        if now:  # on the line itself, a thing is still where it came from
            last[track], side[track] = here, now


def _side(line: Line, point: Point) -> float:
    """Return more than 0 right of the line, where y grows downwards, and less left of it."""
    (x0, y0), (x1, y1) = line
    return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)


def _between(line: Line, before: Point, after: Point) -> bool:
    """Whether the way from one point to another passes between the line's ends."""
    way = (before, after)
    return _side(way, line[0]) * _side(way, line[1]) <= 0


if __name__ == "__main__":
    main()
