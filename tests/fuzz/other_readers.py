"""Readers of annotations, pictures, plans, caches, a machine's own texts, and words."""

import contextlib
import io
import json
import os
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from maskrt.core.rle_text import read_runs
from maskrt.precision import journal
from maskrt.runtime.build.cache import BuildCache
from maskrt.runtime.build.inspected import inspected_layers, inspected_precisions
from maskrt.runtime.build.plan_precision import found_precisions
from maskrt.runtime.build.plan_text import read_plan
from maskrt.runtime.check.coco import CocoDataset
from maskrt.runtime.check.segmentation import proven_segmentations, truth_rle
from maskrt.runtime.doctor.machine import Probe, look
from maskrt.runtime.images import read_image

from .command import run_words
from .damage import as_bytes, as_json, as_text, either
from .reader import Reader

__all__ = ["OTHER_READERS"]

_SIZES = ((20, 30), (1, 1), (64, 48))
_COUNTS = [5, 10, 20, 3, 562]


@cache
def _segmentations() -> list[bytes]:
    from pycocotools import mask

    crowd = mask.frPyObjects({"size": [20, 30], "counts": _COUNTS}, 20, 30)
    text = {"size": [20, 30], "counts": crowd["counts"].decode()}
    polygons = [[1.5, 2, 10, 2, 10, 9.25, 1.5, 9], [0, 0, 4, 0, 4, 4]]
    return [json.dumps(s).encode() for s in (text, {"size": [20, 30], "counts": _COUNTS}, polygons)]


@cache
def _annotations() -> list[bytes]:
    images = [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}]
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4.5], "iscrowd": n % 2,
         "area": 13.5, "segmentation": json.loads(s)} for n, s in enumerate(_segmentations())
    ]  # fmt: skip
    data = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": entries}
    return [json.dumps(data).encode()]


def _read_annotations(data: bytes, folder: Path) -> None:
    file = folder / "a.json"
    file.write_bytes(data)
    (folder / "a.png").touch()
    dataset = CocoDataset.load(folder, file)
    if dataset.has_masks:
        dataset = proven_segmentations(dataset)
        from pycocotools import mask

        sizes = {image.id: image.size for image in dataset.images}
        for entry in dataset.annotations:
            height, width = sizes[entry["image_id"]]
            if height * width < 1 << 22:
                mask.area(truth_rle(mask, entry["segmentation"], (height, width)))


def _read_segmentation(data: bytes, folder: Path) -> None:
    image = b'{"id": 1, "file_name": "a.png", "height": 20, "width": 30}'
    _read_annotations(
        b'{"images": [%s], "categories": [{"id": 1, "name": "x"}], "annotations": [{"image_id": 1, '
        b'"category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": %s}]}' % (image, data),
        folder,
    )


def _read_run_text(data: bytes, _: Path) -> None:
    parts = data.split(b"|")
    with contextlib.suppress(ValueError):  # its own word for a text that is none
        for runs in read_runs(parts, [600] * len(parts)):
            for index in range(len(runs.valid)):  # some at a time
                runs.of(index)


def _run_texts() -> list[bytes]:
    texts = [json.loads(_segmentations()[0])["counts"].encode()]
    return [texts[0], b"|".join(texts * 3)]


@cache
def _pictures() -> list[bytes]:
    from PIL import Image

    found = []
    picture = Image.fromarray(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def _read_picture(data: bytes, folder: Path) -> object:
    file = folder / "a.png"
    file.write_bytes(data)
    return read_image(file)


_PLAN = b"""header {
  region = { name=devmem size=4096 alignment=128 instance=0 }
  accelerators={sm80 sm89 }
}
descriptors {
  tensor={ alignment=128 const_payload_size=9216 dims={ 32 32 3 3 } name="w" offset=1 type=int8 }
  tensor={ alignment=128 dims={ 1 32 8 8 } mem_prop=0 name="a" offset=0 type=int8 }
  sub_tensor={ base="a" const_offset=0 dims={ 32 } mem_prop=0 name="a^deref" offset=0 type=int8 }
}
main {
 label bb1:
  function={ name=__myl_Roun input_args={ "a" } output_args={ "a" } layers="[ONNX Layer: Q]" }
  corrltn={ name="conv" output={"y" } input={"a^deref" "w" } layers="[ONNX Layer: conv]\x1f" }
  runtime_fusion={ name=__myl_C input_args={ "a" "w" } output_args={ "y" } layers="" backbone=conv }
}
"""


def _read_plan(data: bytes, _: Path) -> None:
    plan = read_plan(data)
    found_precisions(plan, ["conv", "Q"], {})
    if plan is not None:
        plan.count()
        plan.traffic()


def _inspector() -> list[bytes]:
    layer = {
        "Name": "conv", "LayerType": "CaskConvolution", "Metadata": "[ONNX Layer: conv]\x1e[x]",
        "Inputs": [{"Name": "a", "Dimensions": [1, 3], "Format/Datatype": "Int8 NHWC"}],
    }  # fmt: skip
    return [json.dumps({"Layers": [layer, "a name alone"], "Bindings": []}).encode()]


def _read_inspector(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "replace")
    inspected_precisions(inspected_layers(text), ["conv"])


def _kept() -> list[bytes]:
    return [json.dumps({"engine.onnx": "0" * 64, "found.json": "1" * 64}).encode()]


def _read_kept(data: bytes, folder: Path) -> None:
    (folder / "key").mkdir()
    (folder / "key/index.json").write_bytes(data)
    (folder / "key/engine.onnx").write_bytes(b"x")
    BuildCache(folder, 1 << 20).get("key")


def _journals() -> list[bytes]:
    entry = {"ap": {"box": 40.0, "mask": 36.5}, "latency_ms": 12.25}
    return [json.dumps({"0" * 24: entry, "1" * 24: entry}).encode()]


def _read_journal(data: bytes, folder: Path) -> object:
    file = folder / "search.json"
    file.write_bytes(data)
    return journal._read(file)


_MACHINE = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic",
    "proc/device-tree/model": "NVIDIA Jetson Orin NX\0",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=10W >\n",
    "var/lib/nvpmodel/status": "pmode:0001",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
    "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    9000000 kB\nSwapTotal: 0 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX  Kernel Module  550.54.14  Thu\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
    "var/lib/dpkg/status": "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0\n",
}


def _read_machine(data: bytes, folder: Path) -> None:
    for part, place in zip(data.split(b"\n==\n"), _MACHINE, strict=False):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(part)
    probe = Probe(folder, lambda _: None, lambda: (), lambda: None, {}, venv=folder / "v")
    look(probe)


def _read_names(data: bytes, folder: Path) -> None:
    import click

    from maskrt.cli.options import read_class_names

    (folder / "names.txt").write_bytes(data)
    with contextlib.suppress(click.UsageError):  # exit status 2, as wrong usage has
        read_class_names(folder / "names.txt")


_WORDS = (
    "compile", "export", "calibrate", "recipe", "build", "run", "check", "bench", "package",
    "inspect", "models", "targets", "doctor", "--help", "--debug", "--version", "-o", "--target",
    "--precision", "int8", "fp16", "cpu", "rtx", "rtx-86", "orin-nano", "--batch", "--input-size",
    "0", "-1", "1e9", "nan", "99999999999999999999", "--keep", "rpn.*=fp16", "[=fp16", "--weights",
    "w.pth", "names.txt", "a.json", "model.onnx", "a.png", "b.maskrt", ".", "..", "/nowhere",
    "torchvision:nope", "maskrt:nope", "no.module:factory", "a:b:c", ":", "", " ", "--images",
    "--annotations", "--calibration", "--class-names", "--set", "--json", "out.json", "--html",
    "--max-ap-drop", "--min-score", "--num-classes", "--outputs", "masks=a", "--mean", "1,2,3",
    "--std", "--channel-order", "bgr", "--model", "--limit", "--key", "\x1b[2J", "é", "-", "--",
    "\udcff", "a" * 300, "%s", "{}", "--frames", "--track", "--masks", "png", "--as", "--dla",
)  # fmt: skip


def _lines() -> list[bytes]:
    lines = (
        "inspect b.maskrt", "doctor b.maskrt", "build b.maskrt --target rtx-86", "models",
        "targets", "run b.maskrt a.png -o out", "check b.maskrt --images . --annotations a.json",
        "compile model.onnx -o o.maskrt --input-size 64 64", "recipe b.maskrt --set x=fp16",
        "calibrate b.maskrt --calibration . --precision int8", "export a:b -o o.maskrt",
        "package b.maskrt --target cpu -o out", "bench b.maskrt --target cpu",
    )  # fmt: skip
    return ["\n".join(line.split(" ")).encode() for line in lines]


def _as_words(data: bytes, dice: Random) -> bytes:
    words = data.split(b"\n")
    for _ in range(dice.choice((1, 1, 2, 4))):
        word = dice.choice(_WORDS).encode("utf-8", "surrogateescape")
        at = dice.randrange(len(words) + 1)
        words[at : at + dice.randrange(2)] = [word]
    return b"\n".join(words)


def _run_words(data: bytes, folder: Path) -> None:
    (folder / "b.maskrt").mkdir()
    (folder / "b.maskrt/manifest.json").write_text("{}")
    (folder / "a.json").write_bytes(_annotations()[0])
    (folder / "a.png").write_bytes(_pictures()[0])
    (folder / "names.txt").write_text("ant\nbee\n")
    (folder / "model.onnx").write_bytes(b"no model")
    (folder / "w.pth").write_bytes(b"no weights")
    words = [w.decode("utf-8", "surrogateescape") for w in data.replace(b"\0", b"0").split(b"\n")]
    os.chdir(folder)  # the child's own
    run_words(words)


OTHER_READERS = [
    Reader("annotations", _annotations, _read_annotations, as_json, cost=0.6),
    Reader("segmentation", _segmentations, _read_segmentation, as_json, cost=0.6),
    Reader("run lengths", _run_texts, _read_run_text, as_bytes),
    Reader("picture", _pictures, _read_picture, as_bytes, cost=0.5),
    Reader("plan text", lambda: [_PLAN], _read_plan, either(as_text, as_bytes), cost=0.2),
    Reader("engine inspector", _inspector, _read_inspector, as_json),
    Reader("build cache", _kept, _read_kept, as_json, cost=0.2),
    Reader("search journal", _journals, _read_journal, as_json),
    Reader("machine", lambda: ["\n==\n".join(_MACHINE.values()).encode()], _read_machine,
           either(as_text, as_bytes), cost=2),
    Reader("class names", lambda: [b"ant\nbee\n"], _read_names, either(as_text, as_bytes)),
    Reader("words", _lines, _run_words, _as_words, cost=30),
]  # fmt: skip
