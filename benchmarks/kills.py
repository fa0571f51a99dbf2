"""Kill a program that edits a bundle, again and again, with readers beside it.

    python benchmarks/kills.py [--kills 300] [--readers 4] [--way exchange|renames] [--slow]

Each program is killed (SIGKILL) at a random moment of its first half second: in a tight loop of
edits, or, with --slow, in edits that take longer, as a verb's do. Prints how often the bundle was
lost (cannot be opened and read whole afterwards), how often a reader found none (a gap), and how
many hidden folders are left after one more edit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from maskrt.core import Bundle, InputSpec, Manifest, MaskrtError

_EDITOR = """
import sys, time
from maskrt.core import Bundle, folders
path, way, slow = sys.argv[1:]
if way == "renames":
    folders.exchange = lambda *_: False
print("ready", flush=True)
number = 0
while True:
    with Bundle.open(path).edit() as staged:
        number += 1
        time.sleep(0.02 if slow == "1" else 0)
        staged.write("report/report.json", {"number": number})
        staged.write("report/report.html", b"x" * 50_000)
"""
_READER = """
import json, os, sys
from maskrt.core import Bundle, MaskrtError
path, parent = sys.argv[1], os.getppid()
opened, gaps = 0, []
while os.getppid() == parent and not os.path.exists(path + ".end"):
    try:
        bundle = Bundle.open(path)
        bundle.read("model.onnx")
        bundle.read("engines/cpu/engine.onnx")
    except MaskrtError as error:
        gaps.append(str(error))
    opened += 1
print(json.dumps([opened, gaps]))
"""


def make(path: Path) -> None:
    """Write the bundle that is edited."""
    manifest = Manifest("test", InputSpec(64, 64), {"boxes": (1, 4, 4)})
    with Bundle.create(path, manifest) as bundle:
        bundle.write("model.onnx", b"graph" * 20_000)
        bundle.write("engines/cpu/engine.onnx", b"engine" * 20_000)
        bundle.write("engines/cpu/engine.json", {"bytes": 6})


def kill_at_random(path: Path, way: str, slow: bool, seconds: float) -> None:
    """Start an editor, and kill it so long after it began to edit."""
    words = [sys.executable, "-c", _EDITOR, str(path), way, "1" if slow else "0"]
    editor = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert editor.stdout is not None
    editor.stdout.readline()
    time.sleep(seconds)
    os.kill(editor.pid, signal.SIGKILL)
    editor.wait()
    editor.stdout.close()


def whole(path: Path) -> bool:
    """Whether every file of the bundle is there and is the one that was written."""
    try:
        bundle = Bundle.open(path)
        for name in bundle.digests:
            bundle.read(name)
    except MaskrtError:
        return False
    return True


def measure(folder: Path, kills: int, readers: int, way: str, slow: bool = False) -> dict[str, int]:
    """Kill `kills` editors beside `readers` readers; return what was counted."""
    path, dice = folder / "b.maskrt", random.Random(0)
    make(path)
    words = [sys.executable, "-c", _READER, str(path)]
    reading = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(readers)]
    lost = interrupted = 0
    for _ in range(kills):
        kill_at_random(path, way, slow, dice.uniform(0, 0.5))
        interrupted += any(folder.glob(".b.maskrt.*"))
        lost += not whole(path)
    (folder / "b.maskrt.end").touch()
    told = [json.loads(reader.communicate()[0]) for reader in reading]
    with Bundle.open(path).edit():
        pass
    left = [name for name in os.listdir(folder) if name.startswith(".")]
    for sentence in sorted({gap for _, gaps in told for gap in gaps})[:3]:
        print(sentence, file=sys.stderr)
    return {
        "kills": kills,
        "in the middle of an edit": interrupted,
        "lost": lost,
        "reads": sum(opened for opened, _ in told),
        "gaps": sum(len(gaps) for _, gaps in told),
        "left over": len(left),
    }


def main() -> None:
    """Measure, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--way", choices=("exchange", "renames"), default="exchange")
    parser.add_argument("--slow", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.kills, given.readers, given.way, given.slow)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
