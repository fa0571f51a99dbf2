"""Readers of a bundle's files, each alone and as a whole bundle whose digests are right."""

import contextlib
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx.parser

from maskrt.calib import Recipe
from maskrt.calib.histogram import Histogram
from maskrt.calib.statistics import Range, Statistics
from maskrt.calib.stored import read_statistics, write_statistics
from maskrt.core import Bundle, Instances, MaskrtError, Precision
from maskrt.core.bundle import MANIFEST
from maskrt.core.bundle_content import read_bundle_json, read_manifest
from maskrt.core.bundle_files import (
    EngineInfo,
    ManifestFile,
    PreparedInfo,
    ReportFile,
    SearchFile,
)
from maskrt.core.data_graphs import check_data_alone
from maskrt.core.recipe_file import RecipeFile
from maskrt.inspection import inspect_bundle
from maskrt.runtime.check.stored import Recorder, StoredResults
from maskrt.runtime.doctor.bundle_findings import diagnose_bundle
from maskrt.runtime.doctor.machine import Probe, look

from .command import run_words
from .damage import archive, as_bytes, as_json, as_text, either
from .declared import drawn
from .graph_damage import as_graph
from .reader import Reader

__all__ = ["BUNDLE_READERS"]

_FOLDER = Path("b.maskrt")
_FILES = {
    "engine.json": ("engines/cpu/engine.json", EngineInfo),
    "prepared.json": ("engines/orin-nano/prepared.json", PreparedInfo),
    "search.json": ("search.json", SearchFile),
    "report.json": ("report/report.json", ReportFile),
    "recipe.json": ("recipe.json", RecipeFile),
}
_GRAPH = """
<ir_version: 9, opset_import: ["" : 17], producer_name: "maskrt">
g (uint8[1, 64, 64, 3] images) => (float[1, 4, 4] boxes) <float[1, 4, 4] w = {}>
{ boxes = Identity (w) }
"""


def _drawn(kind: Any, number: int = 24) -> list[bytes]:
    dice = Random(0)
    return [json.dumps(drawn(kind, dice)).encode() for _ in range(number)]


def _manifests() -> list[bytes]:
    dice, found = Random(0), []
    for _ in range(24):
        data = drawn(ManifestFile, dice)
        data["format_version"] = dice.choice((1, 2, 3))
        data["outputs"] = {"boxes": [1, 4, 4], "scores": [1, 4], "count": [1]}
        data["files"] = {"model.onnx": "0" * 64, "engines/cpu/engine.json": "f" * 64}
        found.append(json.dumps(data).encode())
    return found


def _statistics() -> Statistics:
    rng = np.random.default_rng(0)
    tensors = {f"t{i}": Range(-float(i), float(i + 1)) for i in range(3)}
    counts = {name: Histogram(rng.integers(0, 9, 64)) for name in tensors}
    return Statistics("0" * 64, 2, tensors, counts)


def _stored() -> bytes:
    recorder = Recorder()
    for number in range(3):
        masks = np.zeros((2, 20, 30), bool)
        masks[:, 3 : 9 + number, 4:11] = True
        recorder.add(number, Instances(
            np.array([[4, 3, 11, 9], [0, 0, 5, 5]], np.float32), np.array([0.9, 0.5], np.float32),
            np.array([1, 2]), (20, 30), None, masks,
        ))  # fmt: skip
    return recorder.finish("PyTorch FP32", "0" * 64).to_bytes()


def _read_stored(data: bytes, _: Path) -> None:
    stored = StoredResults.from_bytes(data)
    for image in stored.image_ids[:3]:
        found = stored.of(int(image))
        height, width = found.image_size
        if height * width < 1 << 20 and len(found) < 50:
            found.to_coco(int(image))


@cache
def _machine() -> Any:
    return look(Probe(Path("/nowhere"), lambda _: None, sms=lambda: (), driver_cuda=lambda: None))


def _whole(name: str) -> Any:
    """Return a reader of a bundle that has `name` as given, under the digest of just that."""
    relative, _ = _FILES[name]

    def read(data: bytes, folder: Path) -> None:
        path = folder / "b.maskrt"
        manifest, _ = read_manifest(_manifests()[0], _FOLDER)
        with Bundle.create(path, manifest) as bundle:
            bundle.write("model.onnx", _graph())
            bundle.write(relative, data)
        diagnose_bundle(path, _machine())
        run_words(["inspect", str(path)])
        with contextlib.suppress(MaskrtError):
            inspect_bundle(Bundle.open(path), whole=True)

    return read


def _open_bundle(data: bytes, folder: Path) -> None:
    path = folder / "b.maskrt"
    path.mkdir()
    (path / MANIFEST).write_bytes(data)
    (path / "model.onnx").write_bytes(b"graph")
    diagnose_bundle(path, _machine())
    bundle = Bundle.open(path)
    for name in bundle.digests:
        with contextlib.suppress(MaskrtError):
            bundle.read(name)


def _recipes() -> list[bytes]:
    data = Recipe("0" * 64, Precision.INT8, {}, {}).to_json()
    return [*_drawn(RecipeFile), json.dumps(data).encode()]


def _of_recipe(data: bytes, _: Path) -> None:
    recipe = Recipe.from_json(read_bundle_json(data, "recipe.json", _FOLDER))
    recipe.with_precision(Precision.FP16)
    Recipe.from_json(recipe.to_json())


def _read_graph(data: bytes, _: Path) -> None:
    check_data_alone(data, Path("model.onnx"))


_NPZ = archive({"meta.npy": either(as_bytes, as_text), "": as_bytes})

BUNDLE_READERS = [
    Reader("manifest.json", _manifests, lambda d, _: read_manifest(d, _FOLDER), as_json),
    *(
        Reader(
            name, lambda kind=kind: _drawn(kind),  # type: ignore[misc]
            lambda d, _, relative=relative: read_bundle_json(d, relative, _FOLDER), as_json,
        )
        for name, (relative, kind) in _FILES.items()
    ),
    Reader("recipe", _recipes, _of_recipe, as_json),
    Reader("bundle", _manifests, _open_bundle, as_json, cost=5),
    *(
        Reader(f"bundle with {name}", lambda kind=kind: _drawn(kind),  # type: ignore[misc]
               _whole(name), as_json, cost=25)
        for name, (_, kind) in _FILES.items()
    ),
    Reader(
        "statistics.json", lambda: [json.dumps(_statistics().to_json()).encode()],
        lambda d, _: Statistics.from_json(json.loads(d)) if _is_json(d) else None, as_json,
    ),
    Reader("statistics", lambda: [write_statistics(_statistics())],
           lambda d, _: read_statistics(d), _NPZ, cost=2),
    Reader("stored results", lambda: [_stored()], _read_stored, _NPZ, cost=3),
    Reader("weights elsewhere", lambda: [_graph(), _external()], _read_graph,
           either(as_bytes, as_graph), cost=0.3),
]  # fmt: skip


def _is_json(data: bytes) -> bool:
    """Whether Python reads it: `Statistics.from_json` takes data, and no bytes."""
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _graph() -> bytes:
    text = _GRAPH.replace("{}", "{" + ",".join(["1.0"] * 16) + "}")
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def _external() -> bytes:
    model = onnx.ModelProto.FromString(_graph())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return model.SerializeToString()
