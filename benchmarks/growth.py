"""How the cost of a call grows with resolution, batch, proposals, detections and classes.

    python benchmarks/growth.py [--rounds 12] [--only FACTOR ...] [--json FILE] [--plot FILE.svg]

The demo's Mask R-CNN, FP32, on the target `cpu` with one thread. Each factor takes five values,
each twice the one before, and the others are held at `BASE`. A call begins with pictures in memory
of the engine's own size and ends with every mask in the picture's pixels.

The weights are the demo's trained ones, so proposals and boxes are where things are. The layers
that know classes take the trained rows in turn, those that come again changed a little, for as many
classes as are asked; the score threshold is zero, so the best so many candidates are detections
whatever they score. That each engine is what it should be is read off it and its answers, or the
program ends: shapes of the picture, of the box head's rows and of the class scores, proposals that
the RPN's NMS left over, and detections in every picture.

Engines take turns, in another order every round; `cpu ms` is the least processor time of a call
over the rounds, of all threads. A slope is that of the least-squares line through log(value),
log(cpu ms): 1 is proportional, 2 quadratic.
"""

import argparse
import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import maskrt
from maskrt.core.marks import colour_of
from maskrt.runtime import Session, open_session
from maskrt.runtime.cpu_name import cpu_name

BASE = {"resolution": 256, "batch": 1, "proposals": 128, "detections": 32, "classes": 8}
VALUES = {
    "resolution": (128, 256, 512, 1024, 2048),  # pixels a side
    "batch": (1, 2, 4, 8, 16),
    "proposals": (64, 128, 256, 512, 1024),
    "detections": (16, 32, 64, 128, 256),
    "classes": (8, 16, 32, 64, 128),  # without the background
}
UNITS = {"resolution": "pixels a side", "batch": "pictures a call", "classes": "classes",
         "proposals": "proposals a picture", "detections": "detections a picture"}  # fmt: skip
BEFORE_NMS = 2000  # proposals of a level: enough for the most that are asked
CHANGED = 0.2  # of a repeated class's weights, in standard deviations of its layer
LAST = 3  # values of the slope at the end


@dataclass
class Engine:
    """One open engine, what it was asked to be, and the processor seconds of its calls."""

    asked: dict[str, int]
    session: Session
    pictures: list[np.ndarray]
    predict: list[float] = field(default_factory=list)
    masks: list[float] = field(default_factory=list)

    def call(self) -> None:
        """Run one batch, every mask included, and note what it took."""
        started = time.process_time()
        found = self.session.predict(self.pictures)
        answered = time.process_time()
        for one in found:
            assert one.masks is not None
        self.predict.append(answered - started)
        self.masks.append(time.process_time() - answered)

    @property
    def cost_ms(self) -> dict[str, float]:
        """Milliseconds of the cheapest call: in all, and how much of it was masks."""
        total = np.add(self.predict, self.masks)
        best = int(np.argmin(total))
        return {
            "processor_ms": round(float(total[best]) * 1e3, 2),
            "masks_ms": round(self.masks[best] * 1e3, 2),
        }


def slope(values: Sequence[float], costs: Sequence[float], last: int | None = None) -> float:
    """Return the slope of the least-squares line through log(value), log(cost).

    Args:
        values: what was varied, positive.
        costs: what it took, positive, as many.
        last: only so many of them, from the end; None is all.
    """
    start = 0 if last is None else max(0, len(values) - last)
    return float(np.polyfit(np.log(values[start:]), np.log(costs[start:]), 1)[0])


def sized(asked: dict[str, int]) -> Any:
    """Return the demo's model with the numbers of `asked`, and trained weights that fit them."""
    import torch
    from safetensors.torch import load_file

    from maskrt.demo import weights_path
    from maskrt.export.zoo.maskrcnn_scenes import maskrcnn_scenes

    classes = asked["classes"] + 1
    model = maskrcnn_scenes(
        classes,
        min_size=asked["resolution"], max_size=asked["resolution"],
        rpn_pre_nms_top_n_test=BEFORE_NMS, rpn_post_nms_top_n_test=asked["proposals"],
        box_detections_per_img=asked["detections"], box_score_thresh=0.0,
    )  # fmt: skip
    weights = load_file(weights_path())
    trained = weights["roi_heads.box_predictor.cls_score.bias"].shape[0]
    taken = [0, *(number % (trained - 1) + 1 for number in range(classes - 1))]
    random = torch.Generator().manual_seed(0)
    for layer in ("box_predictor.cls_score", "box_predictor.bbox_pred",
                  "mask_predictor.mask_fcn_logits"):  # fmt: skip
        for kind in ("weight", "bias"):
            name = f"roi_heads.{layer}.{kind}"
            rows = weights[name].float()
            rows = rows.reshape(trained, rows.shape[0] // trained, *rows.shape[1:])[taken]
            noise = torch.randn(rows.shape, generator=random) * rows.std() * CHANGED
            noise[:trained] = 0  # the trained classes stay as they are
            weights[name] = (rows + noise).flatten(0, 1)
    model.load_state_dict(weights)
    return model.eval()


def pictures_of(asked: dict[str, int]) -> list[np.ndarray]:
    """Return a batch of scenes at the resolution, uint8 `[side, side, 3]`."""
    from PIL import Image

    from maskrt.demo.scenes import scene

    side = (asked["resolution"], asked["resolution"])
    scenes = (Image.fromarray(scene(n, split="val").image) for n in range(asked["batch"]))
    return [np.array(picture.resize(side, Image.Resampling.BICUBIC)) for picture in scenes]


def opened(asked: dict[str, int], folder: Path) -> Engine:
    """Return the engine of `asked`, verified, after one call.

    Raises:
        SystemExit: it is not what was asked.
    """
    side = asked["resolution"]
    name = "-".join(str(number) for number in asked.values())
    bundle = maskrt.compile(
        sized(asked), folder / f"{name}.maskrt", input_size=(side, side), batch=asked["batch"]
    )
    session = open_session(bundle, "cpu", threads=1)
    engine = Engine(asked, session, pictures_of(asked))
    is_found = read_off(bundle.read("engines/cpu/engine.onnx"), session, engine.pictures)
    wrong = {key: (value, asked[key]) for key, value in is_found.items() if value != asked[key]}
    if wrong:
        raise SystemExit(f"the engine of {asked} has other numbers (found, asked): {wrong}.")
    gc.collect()
    return engine


def read_off(content: bytes, session: Session, pictures: list[np.ndarray]) -> dict[str, int]:
    """Return the five numbers as an engine and its answers to `pictures` have them."""
    graph = onnx.load_from_string(content)
    named = {node.name: node.output[0] for node in graph.graph.node}
    suppressed = next(n.output[0] for n in graph.graph.node if n.op_type == "NonMaxSuppression")
    rows, scores = (
        named[f"roi_heads.{name}"] for name in ("box_head.fc6", "box_predictor.cls_score")
    )
    for name in (suppressed, rows, scores):
        graph.graph.output.add().name = name
    running = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    image = running.get_inputs()[0]
    canvas = np.stack([session.place(picture)[0] for picture in pictures])
    kept, rows_in, scored = running.run([suppressed, rows, scores], {image.name: canvas})
    batch, height, width, _ = image.shape
    assert height == width
    assert len(pictures) == batch
    in_graph = len(rows_in) // batch
    real = np.bincount(kept[:, 0], minlength=batch).min()  # NMS keeps more than are taken, or fewer
    found = session.predict(pictures)
    return {
        "resolution": height,
        "batch": batch,
        "proposals": min(in_graph, int(real)),
        "detections": min(len(one) for one in found),
        "classes": scored.shape[1] - 1,
    }


def take_turns(engines: list[Engine], rounds: int) -> None:
    """Call each engine once a round; the order turns with every round."""
    for number in range(rounds):
        turn = number * 5 % len(engines)
        for engine in engines[turn:] + engines[:turn]:
            engine.call()


def growth(factor: str, engines: Iterable[Engine]) -> dict[str, Any]:
    """Return a factor's costs and slopes, as JSON."""
    held = {key: value for key, value in BASE.items() if key != factor}
    along = sorted(
        (one for one in engines if all(one.asked[key] == held[key] for key in held)),
        key=lambda one: one.asked[factor],
    )
    values = [one.asked[factor] for one in along]
    costs = [one.cost_ms for one in along]
    totals = [cost["processor_ms"] for cost in costs]
    return {
        "factor": factor, "values": values, "processor_ms": totals,
        "masks_ms": [cost["masks_ms"] for cost in costs],
        "slope": round(slope(values, totals), 2) + 0.0,  # never -0.0
        "slope_of_last": round(slope(values, totals, LAST), 2) + 0.0,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [f"| | cpu ms (of it masks) | slope | of the last {LAST} |", "|---" * 4 + "|"]
    for row in rows:
        cells = ", ".join(
            f"{value}: {cost:.0f} ({masks:.0f})"
            for value, cost, masks in zip(
                row["values"], row["processor_ms"], row["masks_ms"], strict=True
            )
        )
        lines.append(f"| {row['factor']} | {cells} | {row['slope']} | {row['slope_of_last']} |")
    return "\n".join(lines) + "\n"


ACROSS, CELL, AXES = 3, (250, 250), (190, 150)  # panels a row; units of a cell and of its axes
LEFT, TOP = 46, 44  # of the axes in their cell


@dataclass(frozen=True)
class Scale:
    """Logarithmic axes of one panel: an octave, a factor of two, is as long in every panel."""

    octave: tuple[float, float]  # units across and up
    first: float  # the value at the left
    lowest: float  # the cost at the bottom
    corner: tuple[float, float]  # bottom left, in units

    def x(self, value: float) -> float:
        """Return where a value is, across."""
        return self.corner[0] + self.octave[0] * float(np.log2(value / self.first))

    def y(self, cost: float) -> float:
        """Return where a cost is, down."""
        return self.corner[1] - self.octave[1] * float(np.log2(cost / self.lowest))


def plot(rows: list[dict[str, Any]]) -> str:
    """Return an SVG: a panel a factor with the cost over it, and its slopes under the title."""
    costs = [cost for row in rows for cost in row["processor_ms"]]
    lowest = 2.0 ** float(np.floor(np.log2(min(costs))))
    octaves = float(np.ceil(np.log2(max(costs) / lowest)))
    widest = max(float(np.log2(row["values"][-1] / row["values"][0])) for row in rows)
    octave = (AXES[0] / widest, AXES[1] / octaves)
    width, height = ACROSS * CELL[0] + 10, -(-len(rows) // ACROSS) * CELL[1] + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        corner = (number % ACROSS * CELL[0] + LEFT, number // ACROSS * CELL[1] + TOP + AXES[1])
        parts += _panel(row, Scale(octave, row["values"][0], lowest, corner), _hex(number + 1))
    below = "Up: processor ms a call. Both axes are logarithmic, alike in all; dashed: slope 1."
    parts.append(f'<text x="{LEFT}" y="{height - 12}">{below}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _hex(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(number))


def _panel(row: dict[str, Any], scale: Scale, colour: str) -> list[str]:
    """Return the shapes of one panel."""
    left, bottom = scale.corner
    top, right = bottom - AXES[1], left + AXES[0]
    points = [
        (scale.x(value), scale.y(cost))
        for value, cost in zip(row["values"], row["processor_ms"], strict=True)
    ]
    slopes = f"slope {row['slope']:.2f}, last {LAST}: {row['slope_of_last']:.2f}"
    parts = [
        f'<text x="{left}" y="{top - 26:.1f}" font-weight="bold">{row["factor"]}</text>',
        f'<text x="{left}" y="{top - 10:.1f}">{slopes}</text>',
        f'<path d="M{left} {top:.1f}V{bottom:.1f}H{right:.1f}" fill="none" stroke="#444"/>',
    ]
    octaves = min((right - left) / scale.octave[0], (points[0][1] - top) / scale.octave[1])
    parts.append(
        f'<path d="M{points[0][0]:.1f} {points[0][1]:.1f}l{octaves * scale.octave[0]:.1f} '
        f'{-octaves * scale.octave[1]:.1f}" fill="none" stroke="#888" stroke-dasharray="4 3"/>'
    )
    for tick in range(0, round(AXES[1] / scale.octave[1]) + 1, 2):
        cost = scale.lowest * 2**tick
        parts.append(
            f'<text x="{left - 6}" y="{scale.y(cost) + 4:.1f}" text-anchor="end">{cost:g}</text>'
        )
    for value in row["values"]:
        parts.append(
            f'<text x="{scale.x(value):.1f}" y="{bottom + 16:.1f}" '
            f'text-anchor="middle">{value}</text>'
        )
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + 33:.1f}" text-anchor="middle">'
        f"{UNITS[row['factor']]}</text>"
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    parts += [
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="4" fill="{colour}" data-factor="{row["factor"]}"/>'
        for x, y in points
    ]
    return parts


def all_asked(factors: Sequence[str]) -> list[dict[str, int]]:
    """Return the numbers of each engine, none of them twice."""
    asked: list[dict[str, int]] = []
    for factor in factors:
        for value in VALUES[factor]:
            one = {**BASE, factor: value}
            if one not in asked:
                asked.append(one)
    return asked


def main() -> None:
    """Compile, verify, measure, print and write."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=VALUES, default=list(VALUES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        engines = []
        for asked in all_asked(options.only):
            engines.append(opened(asked, Path(folder)))
            print(f"{asked} verified, {time.process_time() - started:.0f} s", flush=True)
        take_turns(engines, options.rounds)
    rows = [growth(factor, engines) for factor in options.only]
    about = {
        "cpu": cpu_name(), "threads": 1, "rounds": options.rounds, "base": BASE,
        "load": round(os.getloadavg()[0], 1), "maskrt": maskrt.__version__,
        "python": platform.python_version(), "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    print(json.dumps(about))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    if options.plot:
        options.plot.write_text(plot(rows))


if __name__ == "__main__":
    main()
