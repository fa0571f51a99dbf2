"""All families on the same scenes: AP, latency and what TensorRT-RTX builds of them, in one run.

    python benchmarks/families.py [--pictures 200] [--rounds 40] [--max-ap-drop 0.3]
        [--json FILE] [--plot FILE] [--ap-from FILE]

Every model with weights in `maskrt/demo/` is compiled at 320 x 320 for `cpu` and `rtx` in FP32,
FP16 and INT8, and evaluated on held-out scenes. Latency is measured in one process, the engines in
turn on the same pictures, from pixels to pasted masks. The models share a backbone and differ in
training (`examples/scenes/`), so what is compared is the family at this size, not the papers'
figures. With `--max-ap-drop` the fastest INT8 recipe inside that budget is searched, too, on the
same scenes, and listed as `mixed`. `--ap-from` takes all but latency from the JSON of an earlier
run: AP may be measured on a busy machine, latency may not. `--plot` needs matplotlib.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import maskrt
from maskrt.core import Bundle, Precision, Target
from maskrt.demo import weights_path
from maskrt.demo.run import SIZE
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.runtime.check import CocoDataset, evaluate

Key = tuple[str, str]  # family, precision
Engine = tuple[Bundle, str]
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_SCENES = 64
WARM_UP = 3


def main() -> None:
    """Compile, evaluate, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=trained())
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--max-ap-drop", type=float)
    parser.add_argument("--ap-from", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = write_coco(folder / "scenes", options.pictures, split="val", size=SIZE)
        dataset = CocoDataset.load(annotations.parent / "images", annotations)
        pictures = [scene(i, split="train", size=SIZE).image for i in range(CALIBRATION_SCENES)]
        engines: dict[Key, Engine] = {}
        for family in options.families:
            bundle = compiled(family, folder / family, pictures, precision="int8")
            for precision in PRECISIONS[:2]:
                for target in ("cpu", "rtx") if options.ap_from is None else ("cpu",):
                    maskrt.build(bundle, target, precision=precision)
            engines |= {(family, precision): (bundle, precision) for precision in PRECISIONS}
            if options.max_ap_drop is not None:
                within = compiled(
                    family, folder / f"{family}-mixed", pictures, precision="mixed",
                    max_ap_drop=options.max_ap_drop, images=annotations.parent / "images",
                    annotations=annotations,
                )  # fmt: skip
                engines[family, "mixed"] = within, "mixed"
        if options.ap_from is not None:
            known = json.loads(options.ap_from.read_text())
            rows = {key: found for found in known if (key := key_of(found)) in engines}
        else:
            rows = {key: row(*engine, dataset) for key, engine in engines.items()}
        for key, milliseconds in latencies(engines, dataset, options.rounds).items():
            rows[key]["ms"] = milliseconds
    print(table(rows))
    if options.json is not None:
        listed = [{**found, "family": f, "precision": p} for (f, p), found in rows.items()]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(listed, indent=2) + "\n")
    if options.plot is not None:
        plot(rows, options.plot)


def key_of(found: dict[str, Any]) -> Key:
    """Return which engine an entry of the JSON is of."""
    return found["family"], found["precision"]


def trained() -> list[str]:
    """Return the families with weights, by name."""
    files = sorted(weights_path().parent.glob("*_scenes.safetensors"))
    return [file.stem.removesuffix("_scenes") for file in files]


def compiled(family: str, folder: Path, pictures: list[np.ndarray], **how: Any) -> Bundle:
    """Compile one family for both targets."""
    return maskrt.compile(
        f"maskrt:{family}_scenes", folder.with_suffix(".maskrt"),
        weights=weights_path(f"{family}_scenes"), input_size=SIZE, calibration=pictures,
        targets=["cpu", "rtx"], class_names=("background", *CLASS_NAMES), **how,
    )  # fmt: skip


def row(bundle: Bundle, precision: str, dataset: CocoDataset) -> dict[str, Any]:
    """Return AP on the CPU, and what the RTX engine became."""
    with maskrt.load(bundle, "cpu", precision=precision) as session:
        metrics = evaluate(session.predict, dataset).metrics
    found = Bundle.open(bundle.path)
    folder = found.engine_folder(Target.parse("rtx"), Precision.parse(precision))
    rtx = found.read_json(f"{folder}/engine.json")
    layers = {kind: number for kind, number in rtx["layers"].items() if number}
    return {
        "box": metrics["box"]["AP"], "mask": metrics["mask"]["AP"], "rtx_layers": layers,
        "rtx_seconds": rtx["build_seconds"], "rtx_bytes": rtx["bytes"],
    }  # fmt: skip


def latencies(engines: dict[Key, Engine], dataset: CocoDataset, rounds: int) -> dict[Key, float]:
    """Return the median milliseconds a picture of each engine, measured in turn."""
    sessions = {
        key: maskrt.load(bundle, "cpu", precision=precision)
        for key, (bundle, precision) in engines.items()
    }
    times: dict[Key, list[float]] = {key: [] for key in sessions}
    pictures = [maskrt.runtime.read_image(image.path) for image in dataset.images[:rounds]]
    for number in range(-WARM_UP, rounds):
        for key, session in sessions.items():
            started = time.perf_counter()
            _ = session.predict(pictures[number % len(pictures)]).masks
            if number >= 0:
                times[key].append((time.perf_counter() - started) * 1e3)
    return {key: float(np.median(values)) for key, values in times.items()}


def table(rows: dict[Key, dict[str, Any]]) -> str:
    """Return a Markdown table."""
    lines = [
        "| family | precision | box AP | mask AP | cpu latency | rtx engine |",
        "|---|---|---|---|---|---|",
    ]
    for (family, precision), found in rows.items():
        layers = " + ".join(f"{number} {kind}" for kind, number in found["rtx_layers"].items())
        lines.append(
            f"| {family} | {precision.upper()} | {found['box']:.2f} | {found['mask']:.2f} | "
            f"{found['ms']:.1f} ms | {layers}, {found['rtx_bytes'] / 1e6:.0f} MB, "
            f"{found['rtx_seconds']:.1f} s |"
        )
    return "\n".join(lines)


def plot(rows: dict[Key, dict[str, Any]], file: Path) -> None:
    """Draw mask AP over latency, a line a family from FP32 to INT8."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for family in dict.fromkeys(family for family, _ in rows):
        points = [rows[family, precision] for precision in ("fp32", "int8")]
        milliseconds, mask = [p["ms"] for p in points], [p["mask"] for p in points]
        (line,) = axes.plot(milliseconds, mask, label=family, linewidth=1.2, alpha=0.6)
        axes.scatter(milliseconds[0], mask[0], color=line.get_color(), s=36)
        axes.scatter(milliseconds[1], mask[1], color=line.get_color(), s=36, marker="s")
        axes.annotate(family, (milliseconds[1], mask[1]), (6, 5), textcoords="offset points")
    axes.set_xlabel("latency on 2 CPU cores, ms a picture (320 x 320, masks pasted)")
    axes.set_ylabel("mask AP, 200 held-out scenes")
    axes.set_title("Circles: FP32.  Squares: INT8.", fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
