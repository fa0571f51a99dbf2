#!/usr/bin/env bash
# Packages: supervision 0.31.2; pycocotools 2.0.11 to evaluate.
#
# One would guess: a data set written as COCO holds the objects that it was given. An object's mask
# may have a hole or two parts: COCO's run lengths hold both.
#
# Seen: DetectionDataset.as_coco writes such a mask with "iscrowd": 1, an ordinary one with 0. To a
# COCO evaluation a crowd is a region to ignore, not an object: the perfect prediction of a ring has
# an AP of -1 (no object), that of a full square 1.
#
# Why it matters: rings, handles, chairs and whatever stands behind a post are many of an instance
# segmentation's objects, and its hardest. They leave the evaluation without a word.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --no-compile --disable-pip-version-check \
    supervision==0.31.2 pycocotools==2.0.11 opencv-python-headless==5.0.0.93 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import contextlib
import io
import json

import cv2
import numpy as np
import supervision
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 40
square = np.zeros((SIDE, SIDE), bool)
square[5:35, 5:35] = True
ring = square.copy()
ring[15:25, 15:25] = False
parts = square.copy()
parts[:, 18:22] = False  # as behind a post
cv2.imwrite("picture.png", np.zeros((SIDE, SIDE, 3), np.uint8))


def annotation(mask: np.ndarray) -> dict:
    objects = supervision.Detections(
        xyxy=np.array([[5, 5, 35, 35]], float), mask=mask[None], class_id=np.array([0])
    )
    data = supervision.DetectionDataset(
        classes=["thing"], images=["picture.png"], annotations={"picture.png": objects}
    )
    data.as_coco(annotations_path="coco.json")
    with open("coco.json", encoding="utf-8") as file:
        (written,) = json.load(file)["annotations"]
    return written


def perfect_ap(mask: np.ndarray) -> float:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("coco.json")
        (image,) = truth.getImgIds()
        (category,) = truth.getCatIds()
        found = truth.loadRes(
            [{"image_id": image, "category_id": category, "segmentation": rle, "score": 0.9}]
        )
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, 0, 0, -1]
    return float(precision.mean())


seen = {}
for name, mask in {"square": square, "ring": ring, "two parts": parts}.items():
    crowd = annotation(mask)["iscrowd"]
    seen[name] = crowd, round(perfect_ap(mask), 6)
    print(f"{name}: iscrowd {crowd}, AP50 of a perfect prediction {seen[name][1]}")
assert seen == {"square": (0, 1.0), "ring": (1, -1.0), "two parts": (1, -1.0)}
PYTHON
