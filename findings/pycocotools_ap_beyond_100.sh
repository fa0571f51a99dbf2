#!/usr/bin/env bash
# Package: pycocotools 2.0.11.
#
# One would guess: with maxDets = [1, 10, 300] the summary's first number, AP, is of 300 detections,
# as its second and third (AP50, AP75) then are.
#
# Seen: the first number is -1, "nothing to evaluate". It always asks for exactly 100 detections,
# the others for the last of the list. With the default the 150 objects of this picture, all found
# exactly, have an AP of 0.66.
#
# Why it matters: crowded pictures (cells, aerial, LVIS with 300) need more than 100. A gate that
# reads stats[0] compares -1 with -1 and passes whatever it is given.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    pycocotools==2.0.11 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OBJECTS = 150
BOXES = [[20.0 * i, 0.0, 10.0, 10.0] for i in range(OBJECTS)]


def summary(most: list[int] | None) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 20 * OBJECTS, "height": 10}],
            "categories": [{"id": 1, "name": "square"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 100.0, "iscrowd": 0}
                for i, box in enumerate(BOXES, 1)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": 1, "category_id": 1, "bbox": box, "score": 1 - i / 1000}
                for i, box in enumerate(BOXES)
            ]
        )
        evaluation = COCOeval(truth, found, "bbox")
        if most is not None:
            evaluation.params.maxDets = most
        evaluation.evaluate()
        evaluation.accumulate()
    evaluation.summarize()
    return [float(number) for number in evaluation.stats]


default, more = summary(None), summary([1, 10, 300])
print(
    f"default: AP {default[0]:.3f}, AP50 {default[1]:.3f}; "
    f"up to 300: AP {more[0]:.3f}, AP50 {more[1]:.3f}"
)
assert 0.6 < default[0] < 0.7
assert default[0] == default[1]
assert more[0] == -1, "AP is given beyond 100 detections now"
assert min(more[1:3]) > 1 - 1e-9
PYTHON
