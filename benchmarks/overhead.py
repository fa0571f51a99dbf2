"""What a session costs beyond its engine: `Session.predict` against the bare ONNX Runtime call.

    python benchmarks/overhead.py [--size 512] [--rounds 25] [--precisions fp32 int8] [--json FILE]

The bare call runs the same `engine.onnx` in an `InferenceSession` of its own, on a canvas that is
letterboxed beforehand; the session starts from a picture in memory (nothing is decoded) and ends
with every mask pasted at full size. The two alternate, and the order changes every round, so a busy
machine hurts them alike. The model is `cpu_latency.py`'s: random weights, 100 detections.

    overhead = median over rounds of (predict + masks) / (bare call) - 1

Two calls of hundreds of milliseconds carry the machine's noise, so what the session itself measures
around its engine is printed, too: "outside the engine", in the same calls.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cpu_latency import build_model, photos

import maskrt
from maskrt.core import Precision, Target
from maskrt.runtime import Session

LIMIT = 0.05


def bare_engine(
    bundle: maskrt.Bundle, precision: str, threads: int
) -> onnxruntime.InferenceSession:
    """Load the engine as anyone would without maskrt."""
    folder = bundle.engine_folder(Target.parse("cpu"), Precision.parse(precision))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    content = bundle.read(f"{folder}/engine.onnx")
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def timed(work: Any) -> tuple[float, Any]:
    """Return milliseconds and the result."""
    started = time.perf_counter()
    result = work()
    return (time.perf_counter() - started) * 1e3, result


def predict(session: Session, picture: np.ndarray) -> tuple[int, float]:
    """Predict and paste; return how many instances, and the engine's own milliseconds."""
    found = session.predict(picture)
    assert found.masks is not None
    return len(found), session.timings["engine"]


def measure(
    session: Session, bare: onnxruntime.InferenceSession, pictures: list[np.ndarray], rounds: int
) -> dict[str, float]:
    """Alternate the two over the pictures."""
    whole, engine, alone, counts = [], [], [], []
    for number in range(-2, rounds):
        picture = pictures[number % len(pictures)]
        canvas = session.place(picture)[0][None]
        for turn in (number, number + 1):
            if turn % 2:
                spent, (count, inside) = timed(lambda: predict(session, picture))  # noqa: B023
            else:
                base, _ = timed(lambda: bare.run(None, {"images": canvas}))  # noqa: B023
        if number >= 0:
            whole.append(spent)
            engine.append(inside)
            alone.append(base)
            counts.append(count)
    return {
        "predict_ms": float(np.median(whole)),
        "bare_ms": float(np.median(alone)),
        "overhead": float(np.median(np.divide(whole, alone)) - 1),
        "outside_engine_ms": float(np.median(np.subtract(whole, engine))),
        "instances": min(counts),
    }


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pictures = photos(options.size)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = maskrt.compile(
            build_model(options.size), Path(folder) / "r50.maskrt", precision="int8",
            input_size=(options.size, options.size), calibration=pictures, targets=["cpu"],
        )  # fmt: skip
        for precision in options.precisions:
            if precision != "int8":
                maskrt.build(bundle, "cpu", precision=precision)
            with maskrt.load(bundle, "cpu", precision=precision) as session:
                bare = bare_engine(bundle, precision, session.describe()["threads"])
                found[precision] = measure(session, bare, pictures, options.rounds)
    print(f"maskrcnn_resnet50_fpn, {options.size} x {options.size}, {options.rounds} rounds, "
          f"ONNX Runtime {onnxruntime.__version__}; the limit is {LIMIT:.0%}")  # fmt: skip
    for name, row in found.items():
        print(
            f"{name:5} predict {row['predict_ms']:7.1f} ms, bare {row['bare_ms']:7.1f} ms, "
            f"overhead {row['overhead']:+.1%}; outside the engine "
            f"{row['outside_engine_ms']:.1f} ms ({row['outside_engine_ms'] / row['bare_ms']:.1%}); "
            f"{row['instances']:.0f} instances"
        )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
