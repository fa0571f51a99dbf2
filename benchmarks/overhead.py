"""What a session costs beyond its engine: `Session.predict` against the bare ONNX Runtime call.

    python benchmarks/overhead.py [--size 512] [--rounds 25] [--precisions fp32 int8] [--json FILE]

The bare call is `InferenceSession.run` on a canvas that is letterboxed beforehand; the session
starts from a picture in memory (nothing is decoded) and ends with every mask pasted at full size.
They take turns, in another order every round, so a busy machine hurts them alike. The model is
`cpu_latency.py`'s: random weights, 100 detections.

    overhead = median over rounds of (predict + masks) / (bare call) - 1, at most 5 % or it fails

Two `InferenceSession`s of one file differ by several per cent in the same process, by where their
memory lies and which threads they woke. So the bare call runs in the very one that the session has,
and a second one that loads the same `engine.onnx` is timed beside it: "a second one". What the
session itself measures around its engine is printed, too: "outside the engine", in the same calls.
"""

import argparse
import json
import sys
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
    session: Session, second: onnxruntime.InferenceSession, pictures: list[np.ndarray], rounds: int
) -> dict[str, float]:
    """Take turns over the pictures."""
    own: Any = session._backend._session  # the very InferenceSession
    times: dict[str, list[float]] = {"predict": [], "bare": [], "second": [], "inside": []}
    counts = []
    for number in range(-3, rounds):
        picture = pictures[number % len(pictures)]
        canvas = {"images": session.place(picture)[0][None]}
        for turn in range(number, number + 3):
            name = ("predict", "bare", "second")[turn % 3]
            if name == "predict":
                spent, (count, inside) = timed(lambda: predict(session, picture))  # noqa: B023
            else:
                runner = own if name == "bare" else second
                spent, _ = timed(lambda: runner.run(None, canvas))  # noqa: B023
            if number >= 0:
                times[name].append(spent)
        if number >= 0:
            times["inside"].append(inside)
            counts.append(count)
    whole, bare = np.array(times["predict"]), np.array(times["bare"])
    return {
        "predict_ms": float(np.median(whole)),
        "bare_ms": float(np.median(bare)),
        "overhead": float(np.median(whole / bare) - 1),
        "second_ms": float(np.median(times["second"])),
        "outside_engine_ms": float(np.median(whole - np.array(times["inside"]))),
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
            f"overhead {row['overhead']:+.1%} (a second one {row['second_ms']:.1f} ms); outside "
            "the engine "
            f"{row['outside_engine_ms']:.1f} ms ({row['outside_engine_ms'] / row['bare_ms']:.1%}); "
            f"{row['instances']:.0f} instances"
        )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if any(row["overhead"] > LIMIT for row in found.values()):
        sys.exit(f"failed: the overhead is above {LIMIT:.0%}")


if __name__ == "__main__":
    main()
