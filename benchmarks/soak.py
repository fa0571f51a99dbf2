"""A long stream: thousands of pictures of changing sizes through `predict_stream`, one in 97 bad.

    python benchmarks/soak.py [--frames 20000] [--bundle BUNDLE] [--json FILE]

20,000 frames take 11 minutes at 30 frames a second. Compiles the demo model at INT8 for the CPU (or
takes BUNDLE), and fails if memory grows by more than 2 % after the first tenth, if a thread or file
descriptor is left, if a frame is missing or out of order, or if what fails is not exactly what is
bad. Every frame's masks are cropped and encoded.
Linux only: memory and descriptors are read from /proc.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import maskrt
from maskrt.runtime import Session

BAD_EVERY, WARM_UP = 97, 100
GROWTH = 1.02


def pictures(count: int) -> Iterator[Any]:
    """Cuts of one noisy picture, each of a size of its own; None where a picture is bad."""
    whole = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    sizes = np.random.default_rng(1)
    for index in range(count):
        height, width = (int(v) for v in sizes.integers(16, (700, 900)))
        yield None if index % BAD_EVERY == BAD_EVERY - 1 else whole[:height, :width]


def resident_bytes(*, trim: bool = False) -> int:
    """Return what this process holds now; with `trim`, after glibc gave back what is free."""
    if trim:
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def soak(session: Session, frames: int, *, trim: bool = False) -> dict[str, float]:
    """Run the stream; raise AssertionError for whatever is not as it should be.

    Memory is compared as the mean of the last tenth against that of the second tenth. glibc's heap
    takes about a thousand frames of random sizes to find its shape (2.5 % on 150 MB, then flat);
    fewer frames are judged with `trim`, which leaves the shape of the heap out.
    """
    for frame in session.predict_stream(pictures(WARM_UP)):
        if frame.error is None:
            frame.result().to_coco(0)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    memory = np.zeros(frames, np.int64)  # all of it now: a growing list would be measured, too
    started = time.perf_counter()
    found = 0
    for expected, frame in enumerate(session.predict_stream(pictures(frames))):
        assert frame.index == expected, f"frame {frame.index} came in place of {expected}"
        bad = expected % BAD_EVERY == BAD_EVERY - 1
        assert (frame.error is not None) == bad, f"frame {expected}: {frame.error}"
        if not bad:
            found += len(frame.result().to_coco(expected))
        memory[expected] = resident_bytes(trim=trim)
        tell(expected + 1, frames, time.perf_counter() - started, int(memory[expected]))
    seconds = time.perf_counter() - started
    assert memory.all(), f"{np.count_nonzero(memory)} frames of {frames} came"
    del frame
    gc.collect()
    assert threading.active_count() <= threads, "a thread is left"
    assert len(os.listdir("/proc/self/fd")) <= files, "a file descriptor is left"
    tenth = max(frames // 10, 1)
    before, after = np.mean(memory[tenth : 2 * tenth]), np.mean(memory[-tenth:])
    assert after <= before * GROWTH, f"memory grew from {before / 1e6:.1f} to {after / 1e6:.1f} MB"
    return {
        "frames": frames, "instances": found, "frames_per_second": frames / seconds,
        "memory_before_mb": float(before) / 1e6, "memory_after_mb": float(after) / 1e6,
    }  # fmt: skip


def tell(done: int, frames: int, seconds: float, memory: int) -> None:
    """Print how far it is, twenty times."""
    if done % max(frames // 20, 1) == 0:
        rate, size = done / seconds, memory / 1e6
        print(f"{done:6} frames, {rate:.1f} a second, {size:.1f} MB", file=sys.stderr, flush=True)


def demo_bundle(folder: Path) -> Path:
    """Compile the demo model in a process of its own: PyTorch would dwarf what is measured here."""
    path = folder / "demo.maskrt"
    subprocess.run([sys.executable, __file__, "--compile", str(path)], check=True)
    return path


def compile_demo(path: Path) -> None:
    """Compile the demo model at INT8."""
    from maskrt.demo import weights_path
    from maskrt.demo.run import MODEL, SIZE
    from maskrt.demo.scenes import CLASS_NAMES, scene

    maskrt.compile(
        MODEL, path, weights=weights_path(), input_size=SIZE, precision="int8",
        calibration=[scene(index, split="train", size=SIZE).image for index in range(16)],
        class_names=("background", *CLASS_NAMES),
    )  # fmt: skip


def main() -> None:
    """Compile, soak, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--compile", type=Path, help="Only compile the demo model to this bundle.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.compile is not None:
        compile_demo(options.compile)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = options.bundle or demo_bundle(folder)
        session = stack.enter_context(maskrt.load(bundle, "cpu"))
        try:
            found = soak(session, options.frames)
        except AssertionError as error:
            sys.exit(f"failed: {error}")
    for name, value in found.items():
        print(f"{name:18} {value:.10g}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
