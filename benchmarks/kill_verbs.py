"""Kill verbs that change a bundle or read one, at random moments, and look at what is left.

    python benchmarks/kill_verbs.py [--kills 300] [--verb VERB ...] [--seed 0]

Each verb runs on a copy of one small bundle, in a forked process that has everything imported, and
is killed (SIGKILL) at a random moment of the time that it takes. Prints for each verb how many were
killed while they ran, how many of them while the changed bundle lay beside the old one, how often
the bundle was lost (cannot be opened and read whole afterwards), how many hidden folders are left
after one more edit, and how many files that a verb writes elsewhere (pictures, results, a model
repository) are there and not whole.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["MASKRT_CACHE"] = "off"  # or the second build would take no time

import numpy as np
import onnx
from kills import whole
from PIL import Image

from maskrt.core import Bundle
from tests.runtime.trust.minisign_wrote import SECRET

_MODEL = ["tests.export.detectors:tiny_mask_rcnn", "--input-size", "64", "64"]
_INT8 = ["--precision", "int8", "--calibration", "pictures"]
_DATA = ["--images", "pictures", "--annotations", "a.json"]
_VERBS = {
    "compile": ["compile", *_MODEL, "-o", "b.maskrt", *_INT8],
    "export": ["export", *_MODEL, "-o", "b.maskrt"],
    "calibrate": ["calibrate", "b.maskrt", "--calibration", "pictures"],
    "recipe": ["recipe", "b.maskrt", "--set", "*=fp16"],
    "build": ["build", "b.maskrt", "--target", "cpu"],
    "check": ["check", "b.maskrt", *_DATA],
    "check --store-reference": ["check", "b.maskrt", *_DATA, "--store-reference"],
    "sign": ["sign", "b.maskrt", "--key", "s.key"],
    "run": ["run", "b.maskrt", "pictures", "-o", "out", "--masks", "png", "--masks", "labelme"],
    "package": ["package", "b.maskrt", "--triton", "models"],
}
_COUNTED = ("killed", "in an edit", "lost", "left over", "half written")
_BOX = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 9, 9], "area": 81, "iscrowd": 0}
_POLYGON = [[4, 4, 13, 4, 13, 13, 4, 13]]


def make(folder: Path) -> None:
    """Write pictures, annotations and the bundle that every verb changes."""
    (folder / "pictures").mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / "pictures" / f"{index}.png")
    data = {
        "images": [{"id": 1, "file_name": "0.png", "height": 48, "width": 64}],
        "annotations": [{"id": 1, **_BOX, "segmentation": _POLYGON}],
        "categories": [{"id": number, "name": f"{number}"} for number in range(1, 5)],
    }
    (folder / "a.json").write_text(json.dumps(data))
    (folder / "s.key").write_text(SECRET)
    assert finish(start("compile", folder)) == 0


def start(verb: str, folder: Path) -> int:
    """Start a verb in a child of this process; return its number."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with (folder / "said").open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        from maskrt.cli import main

        try:
            main(_VERBS[verb])
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
    return child


def finish(child: int) -> int:
    """Wait for a child; return its status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copied(pristine: Path, parent: Path) -> Path:
    """Return a copy of the folder with the bundle."""
    folder = Path(tempfile.mkdtemp(dir=parent)) / "w"
    shutil.copytree(pristine, folder)
    return folder


def seconds_of(verb: str, pristine: Path, parent: Path) -> float:
    """Return how long a verb takes here, the median of three."""
    took = []
    for _ in range(3):
        folder = copied(pristine, parent)
        began = time.monotonic()
        status = finish(start(verb, folder))
        took.append(time.monotonic() - began)
        if status != 0:
            raise SystemExit(f"{verb}: {(folder / 'said').read_text()}")
        shutil.rmtree(folder.parent)
    return statistics.median(took)


def kill(verb: str, pristine: Path, parent: Path, seconds: float) -> Counter[str]:
    """Kill a verb after `seconds`; return what is to be counted."""
    folder = copied(pristine, parent)
    child = start(verb, folder)
    time.sleep(seconds)
    running = os.waitpid(child, os.WNOHANG) == (0, 0)
    if running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    hidden = any(name.startswith(".b.maskrt") for name in os.listdir(folder))
    lost = not whole(folder / "b.maskrt")
    if not lost:
        with Bundle.open(folder / "b.maskrt").edit():
            pass
    left = sum(name.startswith(".b.maskrt") for name in os.listdir(folder))
    half = sum(half_written(folder / name) for name in ("out", "models"))
    shutil.rmtree(folder.parent)
    return Counter(dict(zip(_COUNTED, (running, hidden, lost, left, half), strict=True)))


def half_written(folder: Path) -> int:
    """Return how many files under `folder` cannot be read whole; hidden ones are nobody's yet."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    seen = [f for f in files if not any(p[0] == "." for p in f.relative_to(folder).parts)]
    return sum(not reads(file) for file in seen)


def reads(file: Path) -> bool:
    """Whether a file of the formats that `run` and `package` write is whole."""
    try:
        if file.suffix == ".png":
            Image.open(file).load()
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(file))
        else:
            return file.stat().st_size > 0
    except Exception as error:
        print(f"{file}: {error}", file=sys.stderr)
        return False
    return True


def main() -> None:
    """Kill, and print a row for each verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--verb", action="append", choices=_VERBS, help="may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    verbs = given.verb or list(_VERBS)
    import torch

    import maskrt.cli.verbs
    import tests.export.detectors

    assert tests.export.detectors
    assert maskrt.cli.verbs
    torch.set_num_threads(1)
    dice, whole_count = random.Random(given.seed), Counter[str]()
    print("| verb | seconds |", " | ".join(_COUNTED), "|\n" + "|---" * (2 + len(_COUNTED)) + "|")
    with tempfile.TemporaryDirectory() as name:
        pristine = Path(name) / "pristine"
        pristine.mkdir()
        make(pristine)
        for place, verb in enumerate(verbs):
            seconds = seconds_of(verb, pristine, Path(name))
            count = Counter[str]()
            for _ in range(given.kills // len(verbs) + (place < given.kills % len(verbs))):
                count += kill(verb, pristine, Path(name), dice.uniform(0, seconds))
            whole_count += count
            cells = [count[word] for word in _COUNTED]
            print(f"| {verb} | {seconds:.1f} |", " | ".join(map(str, cells)), "|", flush=True)
    print(json.dumps(whole_count))
    sys.exit(1 if any(whole_count[word] for word in _COUNTED[2:]) else 0)


if __name__ == "__main__":
    main()
