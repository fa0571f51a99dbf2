#!/usr/bin/env bash
# Package: pycocotools 2.0.11.
#
# One would guess: the ids of COCO annotations are names. Numbered from 0 or from 1, a perfect
# prediction has an AP of 1.
#
# Seen: with ids from 0 the annotation 0 counts as never found, and the detection that found it as
# false. Of two perfect detections in one picture the AP is 0.25, of a hundred 0.98. No error, no
# warning. (Matches are kept in an array of ids, in which 0 means "none".)
#
# Why it matters: files written by enumerate() start at 0. On a small validation set one lost object
# a file is more than INT8 costs, and it is lost for every model alike.
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


def perfect_ap(first_id: int, objects: int) -> tuple[float, float]:
    """Return AP and the recall of 100 detections when each object is found exactly."""
    boxes = [[20.0 * i, 0.0, 10.0, 10.0] for i in range(objects)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 20 * objects, "height": 10}],
            "categories": [{"id": 1, "name": "square"}],
            "annotations": [
                {
                    "id": first_id + i,
                    "image_id": 1,
                    "category_id": 1,
                    "bbox": box,
                    "area": 100.0,
                    "iscrowd": 0,
                }
                for i, box in enumerate(boxes)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": 1, "category_id": 1, "bbox": box, "score": 1 - i / 1000}
                for i, box in enumerate(boxes)
            ]
        )
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[8])


for objects in (2, 10, 100):
    right, wrong = perfect_ap(1, objects), perfect_ap(0, objects)
    print(
        f"{objects} objects, all found: (AP, recall) {right} with ids from 1, "
        f"{wrong} with ids from 0"
    )
    assert min(right) > 1 - 1e-9
    assert wrong[0] < 0.995
    assert abs(wrong[1] - (1 - 1 / objects)) < 1e-9, "one object is missing from the recall"
PYTHON
