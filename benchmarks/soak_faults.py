"""A long run with faults: decoding, inference and the device fail at random, and all is looked at.

    python benchmarks/soak_faults.py [--frames 20000] [--seed 0] [--json FILE]

Half of the frames run on the backend `cpu`, half on the code path of a GPU, on the host
(`runtime/cuda/host.py`; needs a C++ compiler). One frame in eight is given a fault, by a seeded
draw: a file that is truncated, empty, absent or no picture; a decoder, ONNX Runtime or a CUDA call
that fails; a result that is no number; a device that is lost, which answers nothing any more.

    right       the frame's result is the undisturbed one, to the bit
    sentences   a fault struck, and the frame ended in a `MaskrtError` of one line

Anything else fails the run: an error without a fault, another exception, another result, a frame
that takes two minutes, memory that grows by more than 1 % from the second tenth to the last, a
thread or file descriptor that is left. Linux only: memory and descriptors are read from /proc.
"""

import argparse
import contextlib
import faulthandler
import gc
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from faults import CALLS, OPENING, Faults, FaultyCuda, FaultyOnnx, faulty_decoder  # noqa: E402
from soak import resident_bytes  # noqa: E402

from maskrt.core import InputSpec, Instances, MaskrtError  # noqa: E402
from maskrt.core.masks import MaskPaste  # noqa: E402
from maskrt.runtime import Session  # noqa: E402
from maskrt.runtime.backends.cpu import CpuBackend  # noqa: E402
from maskrt.runtime.cuda import FrameSlots  # noqa: E402

SPEC = InputSpec(40, 64, batch=2)
SIZES = ((48, 64), (64, 48), (40, 64), (90, 70))
PICTURES, ONE_IN, STREAMED = 12, 8, 10
GROWTH, HANGS = 1.01, 120.0
FILES = ("truncated", "empty", "absent", "no picture")


def engine_bytes() -> bytes:
    """An engine whose scores are the canvas's mean, so that results tell pictures apart."""
    from tests.runtime.conftest import fixed_engine

    y, x = np.mgrid[:28, :28]
    distance = np.hypot(y - 13, x - 15)
    masks = np.tile((1 / (1 + np.exp(distance - 9))).astype(np.float32), (3, 1, 1))
    boxes = [[3.25, 2.5, 30.75, 38], [50.5, 4, 64, 39.5], [-6, -4, 20, 12]]
    return fixed_engine(SPEC, boxes, [1, 2, 1], masks)


def open_cpu(engine: bytes, faults: Faults) -> Session:
    """Open a session on the CPU."""
    backend = CpuBackend(engine, threads=1)
    backend._session = FaultyOnnx(backend._session, faults)
    return Session(backend, SPEC)


def open_host(engine: bytes, faults: Faults) -> Session:
    """Open a session whose frames run as on a GPU."""
    from tests.runtime.cuda.test_frame import OnnxEngine

    class OnHost(CpuBackend):
        concurrent = False

        def open_frames(self, spec: InputSpec, slots: int) -> FrameSlots:
            cuda = FaultyCuda(faults)
            device = OnnxEngine(cuda, engine)
            device.backend._session = FaultyOnnx(device.backend._session, faults)
            return FrameSlots(cuda, device, spec, slots=slots, paste=MaskPaste.TORCHVISION)

    return Session(OnHost(engine, threads=1), SPEC)


OPENERS = {"cpu": open_cpu, "host": open_host}
ONNX = ("inference fails", "inference out of memory", "inference returns no numbers")
KINDS = {
    "cpu": (*FILES, "decoder", *ONNX),
    "host": (*FILES, "decoder", *ONNX, *CALLS, "device lost"),
}


def make_pictures(folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """Write good pictures and bad ones."""
    from PIL import Image

    draw, good = np.random.default_rng(7), []
    for index in range(PICTURES):
        good.append(folder / f"{index:02}.png")
        size = SIZES[index % len(SIZES)]
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(good[-1])
    bad = {name: folder / f"{name}.png" for name in FILES}
    bad["truncated"].write_bytes(good[0].read_bytes()[:4000])
    bad["empty"].write_bytes(b"")
    bad["no picture"].write_bytes(b"no picture " * 40)
    return good, bad


def bits(found: Instances) -> bytes:
    """Return all that was found, byte for byte."""
    told = json.dumps(found.to_coco(0), sort_keys=True).encode()
    return found.boxes.tobytes() + found.scores.tobytes() + found.labels.tobytes() + told


class Run:
    """One session after the other on one backend, with faults."""

    def __init__(self, kind: str, engine: bytes, folder: Path, seed: int) -> None:
        self.kind, self._engine = kind, engine
        self.faults, self._draw = Faults(), np.random.default_rng(seed)
        self.good, self.bad = make_pictures(folder)
        self.counts: Counter[str] = Counter()
        self._held: Session | None = None
        with OPENERS[kind](engine, self.faults) as session:
            self.expected = [bits(session.predict(path)) for path in self.good]
        assert len(set(self.expected)) == PICTURES, "results do not tell pictures apart"

    def session(self) -> Session:
        if self._held is None:
            self._held = OPENERS[self.kind](self._engine, self.faults)
            self.counts["sessions"] += 1
        return self._held

    def close(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def draw_picture(self) -> tuple[Path, int]:
        """Return a picture and its number, -1 for a bad one; one in `ONE_IN` has a fault."""
        index = int(self._draw.integers(PICTURES))
        if not self.faults.armed and self._draw.integers(ONE_IN) == 0:
            kinds = KINDS[self.kind]
            fault = kinds[int(self._draw.integers(len(kinds)))]
            if fault in FILES:
                self.faults.struck[fault] += 1
                return self.bad[fault], -1
            self.faults.armed = fault
        return self.good[index], index

    def judge(self, index: int, outcome: Instances | BaseException, *, hit: bool) -> None:
        """Count an outcome of picture `index`; `hit` says whether a fault may have struck it."""
        if isinstance(outcome, BaseException):
            text = str(outcome)
            assert isinstance(outcome, MaskrtError), f"a raw {type(outcome).__name__}: {text}"
            assert hit, f"an error without a fault: {text}"
            assert "\n" not in text.strip(), f"more than a line: {text}"
            assert text.endswith("."), f"no sentence: {text}"
            self.counts["sentences"] += 1
            return
        assert index >= 0, "a bad file was taken for a picture"
        assert bits(outcome) == self.expected[index], f"another result of picture {index}"
        self.counts["right"] += 1

    def one(self) -> int:
        """Predict one picture."""
        path, index = self.draw_picture()
        if self.faults.armed in OPENING:
            self.close()  # where a session is opened, these are met at once
        struck = self.faults.struck.total()
        try:
            outcome: Any = self.session().predict(path)
        except Exception as error:
            outcome = error
        self.judge(index, outcome, hit=index < 0 or self.faults.struck.total() > struck)
        self.replace_lost()
        return 1

    def stream(self) -> int:
        """Run a stream until it ends or breaks; return how many frames came of it."""
        given: list[int] = []
        struck, failed = self.faults.struck.total(), 0

        def pictures() -> Iterator[Path]:
            for _ in range(STREAMED):
                path, index = self.draw_picture()
                given.append(index)
                yield path

        came, ended = 0, False
        frames = self.session().predict_stream(pictures())
        while not ended:
            try:
                frame = next(frames, None)
            except Exception as error:
                self.judge(0, error, hit=True)
                failed, ended = failed + 1, True
                continue
            if frame is None:
                assert came == STREAMED, f"{came} frames of {STREAMED} came, and no error"
                break
            assert frame.index == came, "a frame is missing or out of order"
            outcome = frame.error if frame.error is not None else frame.result()
            self.judge(given[came], outcome, hit=True)
            came, failed = came + 1, failed + (frame.error is not None)
        hits = self.faults.struck.total() - struck
        assert failed <= hits * SPEC.batch, f"{failed} errors in a stream with {hits} faults"
        self.replace_lost()
        return came + ended

    def replace_lost(self) -> None:
        """See that a lost device says so, and open another session on the next frame."""
        if not self.faults.lost:
            return
        with contextlib.suppress(MaskrtError):
            self.session().predict(self.good[0])
            raise AssertionError("a lost device found something")
        with contextlib.suppress(MaskrtError):
            self.close()
        self.faults.lost = False

    def go(self, frames: int) -> dict[str, Any]:
        """Run `frames` frames; raise AssertionError for whatever is not as it should be."""
        self.session()
        for _ in range(min(frames // 10, 200)):
            self.one()
        gc.collect()
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        memory, done, started = [], 0, time.perf_counter()
        self.counts.clear()
        self.faults.struck.clear()
        steps = max(frames // 200, 10)
        while done < frames:
            faulthandler.dump_traceback_later(HANGS, exit=True)
            done += self.stream() if self._draw.integers(20) == 0 else self.one()
            if done // steps > len(memory):
                gc.collect()
                memory.append(resident_bytes(trim=True))
                _tell(self.kind, done, frames, time.perf_counter() - started, memory[-1])
        faulthandler.cancel_dump_traceback_later()
        seconds = time.perf_counter() - started
        self.faults.armed = ""
        self._leaves_nothing(threads, files)
        tenth = max(len(memory) // 10, 1)
        before, after = np.mean(memory[tenth : 2 * tenth]), np.mean(memory[-tenth:])
        found = {
            "frames": done, "seconds": seconds, **self.counts,
            "faults": dict(sorted(self.faults.struck.items())),
            "memory_before_mb": float(before) / 1e6, "memory_after_mb": float(after) / 1e6,
        }  # fmt: skip
        told = f"memory: {before / 1e6:.1f} to {after / 1e6:.1f} MB"
        assert after <= before * GROWTH, (told, found)
        return found

    def _leaves_nothing(self, threads: int, files: int) -> None:
        """Compare threads and descriptors; with a session open, as at the start."""
        self.session()
        gc.collect()
        assert threading.active_count() <= threads, "a thread is left"
        assert len(os.listdir("/proc/self/fd")) <= files, "a file descriptor is left"
        self.close()


def _tell(kind: str, done: int, frames: int, seconds: float, memory: int) -> None:
    if done % max(frames // 10, 1) < max(frames // 200, 1):
        print(f"{kind} {done:6} {done / seconds:.0f} a second, {memory / 1e6:.1f} MB",
              file=sys.stderr, flush=True)  # fmt: skip


def soak(kind: str, frames: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run one backend."""
    run = Run(kind, engine_bytes(), folder, seed)
    with faulty_decoder(run.faults):
        try:
            return run.go(frames)
        finally:
            faulthandler.cancel_dump_traceback_later()


def machine() -> dict[str, Any]:
    """Return what ran it."""
    packages = ("numpy", "onnx", "onnxruntime", "pillow")
    return {
        "system": platform.platform(terse=True), "machine": platform.machine(),
        "cores": os.cpu_count(), "malloc_arena_max": os.environ.get("MALLOC_ARENA_MAX", ""),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }  # fmt: skip


def _told(error: AssertionError) -> tuple[str, dict[str, Any]]:
    """Return what was wrong, and what was counted if the run came to its end."""
    given = error.args[0] if error.args else ""
    return given if isinstance(given, tuple) else (str(given), {})


def main() -> None:
    """Soak both, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"seed": options.seed, "machine": machine()}
    failed = []
    for kind in OPENERS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                result[kind] = soak(kind, options.frames // 2, options.seed, Path(folder))
            except AssertionError as error:
                told, result[kind] = _told(error)
                result[kind]["failed"] = told
                failed.append(f"{kind}: {told}")
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if failed:
        sys.exit(f"failed on {', '.join(failed)}")


if __name__ == "__main__":
    main()
