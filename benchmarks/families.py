"""Mask R-CNN, SOLO, SOLOv2, YOLACT and CondInst on the same held-out scenes: AP over latency.

    python benchmarks/families.py [--model NAME ...] [--scenes 200] [--output benchmarks/results]

Each trained demo model is compiled for the CPU at 320 x 320, at FP32, FP16 and INT8 (calibrated on
64 training scenes). Engines are opened together and run picture by picture in turns, so that other
work on the machine slows all of them alike. Latency is the median from pixels to pasted masks; box
and mask AP are COCO's. Writes `families.md`, `families.json` and `families.svg`.
"""

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import maskrt
from maskrt.core import Bundle, Precision
from maskrt.demo import weights_path
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.pipeline import build
from maskrt.runtime import read_image
from maskrt.runtime.check import CocoDataset
from maskrt.runtime.check.evaluator import CocoEvaluator

MODELS = {
    "Mask R-CNN": "maskrcnn_scenes",
    "SOLO": "solo_scenes",
    "SOLOv2": "solov2_scenes",
    "YOLACT": "yolact_scenes",
    "CondInst": "condinst_scenes",
}
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
SIZE = (320, 320)
CALIBRATION = 64
COLOURS = ("#c33", "#27c", "#293", "#b70", "#84b")
WIDTH, HEIGHT, MARGIN = 640, 400, 56


@dataclass(frozen=True)
class Row:
    """One engine."""

    family: str
    precision: str
    mask_ap: float
    box_ap: float
    latency_ms: float
    bytes: int


def compiled(folder: Path, name: str) -> Bundle:
    """Compile one demo model at every precision."""
    bundle = maskrt.compile(
        f"maskrt:{name}", folder / f"{name}.maskrt", weights=weights_path(name), input_size=SIZE,
        calibration=[scene(i, split="train", size=SIZE).image for i in range(CALIBRATION)],
        precision=Precision.INT8, targets=["cpu"], class_names=("background", *CLASS_NAMES),
    )  # fmt: skip
    for precision in (Precision.FP32, Precision.FP16):
        build(bundle, "cpu", precision=precision)
    return bundle


def measured(bundles: dict[str, Bundle], dataset: CocoDataset) -> list[Row]:
    """Run every engine on every picture, in turns."""
    keys = [(family, precision) for family in bundles for precision in PRECISIONS]
    taken: dict[tuple[str, Precision], list[float]] = {key: [] for key in keys}
    judges = {key: CocoEvaluator(dataset, ("box", "mask")) for key in keys}
    with contextlib.ExitStack() as stack:
        sessions = {
            key: stack.enter_context(maskrt.load(bundles[key[0]], "cpu", precision=key[1]))
            for key in keys
        }
        for image in dataset.images:
            pixels = read_image(image.path)
            for key, session in sessions.items():
                started = time.perf_counter()
                found = session.predict(pixels)
                _ = found.masks
                taken[key].append((time.perf_counter() - started) * 1e3)
                judges[key].add(image.id, found.to_coco(image.id))
    rows = []
    for family, precision in keys:
        metrics = judges[family, precision].metrics()
        folder = bundles[family].engine_folder(maskrt.Target.parse("cpu"), precision)
        rows.append(
            Row(
                family, precision.value, metrics["mask"]["AP"] or 0.0, metrics["box"]["AP"] or 0.0,
                float(np.median(taken[family, precision])),
                bundles[family].read_json(f"{folder}/engine.json")["bytes"],
            )
        )  # fmt: skip
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| family | precision | mask AP | box AP | latency | engine |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.family} | {r.precision.upper()} | {r.mask_ap:.1f} | {r.box_ap:.1f} | "
        f"{r.latency_ms:.0f} ms | {r.bytes / 1e6:.1f} MB |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def plot(rows: list[Row]) -> str:
    """Return an SVG of mask AP over latency: a line a family, from FP32 over FP16 to INT8."""
    slowest = max(r.latency_ms for r in rows) * 1.08
    low = max(0.0, min(r.mask_ap for r in rows) - 5)
    high = max(r.mask_ap for r in rows) + 5

    def place(row: Row) -> tuple[float, float]:
        x = MARGIN + row.latency_ms / slowest * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (row.mask_ap - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" '
        'stroke="#888"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">ms a picture</text>',
        f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {HEIGHT / 2})">mask AP</text>',
    ]
    for step in range(5):
        ms, ap = slowest * step / 4, low + (high - low) * step / 4
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / 4
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * step / 4
        parts.append(
            f'<text x="{x}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{ms:.0f}</text>'
        )
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4}" text-anchor="end">{ap:.0f}</text>')
    for colour, family in zip(COLOURS, dict.fromkeys(r.family for r in rows), strict=False):
        own = [(r, *place(r)) for r in rows if r.family == family]
        points = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in own)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        for row, x, y in own:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
                f"<title>{family} {row.precision}</title></circle>"
            )
        parts.append(
            f'<text x="{own[0][1] + 8:.1f}" y="{own[0][2] - 6:.1f}" fill="{colour}">{family}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Compile, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", action="append", choices=MODELS, help="default: all with weights"
    )
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    wanted = options.model or [f for f, name in MODELS.items() if weights_path(name).is_file()]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as work:
        annotations = write_coco(Path(work) / "val", options.scenes, split="val", size=SIZE)
        dataset = CocoDataset.load(annotations.parent / "images", annotations)
        rows = measured({f: compiled(Path(work), MODELS[f]) for f in wanted}, dataset)
    about = {
        "scenes": options.scenes, "size": SIZE, "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "load_before": load_before,
    }  # fmt: skip
    options.output.mkdir(parents=True, exist_ok=True)
    text = table(rows)
    (options.output / "families.md").write_text(text)
    (options.output / "families.svg").write_text(plot(rows))
    (options.output / "families.json").write_text(
        json.dumps({**about, "rows": [asdict(r) for r in rows]}, indent=2) + "\n"
    )
    print(text)


if __name__ == "__main__":
    main()
