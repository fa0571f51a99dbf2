"""Readers of ONNX files: `inspect`, which recognises and writes, and what metadata says."""

import json
from pathlib import Path

import onnx

from maskrt.export.surgery.hints import hints_of
from maskrt.export.surgery.normalisation import NAME as NORMALISATION
from maskrt.export.surgery.normalisation import normalisation_beside

from ..export.surgery.one_pass_files import detr_file, yolo5_file, yolo11_file, yolo26_file
from .damage import as_bytes, as_json, as_text, either
from .graph_damage import as_graph
from .reader import Reader

__all__ = ["GRAPH_READERS"]


def _files() -> list[bytes]:
    made = (yolo5_file(), yolo11_file(), yolo26_file(), detr_file())
    return [model.SerializeToString() for model in made]


def _examine(data: bytes, folder: Path) -> object:
    from maskrt.export.surgery.stage import examine

    file = folder / "model.onnx"
    file.write_bytes(data)
    return examine(file)


def _names(data: bytes, _: Path) -> object:
    model = onnx.ModelProto()
    model.metadata_props.add(key="names", value=data.decode("utf-8", "replace"))
    return hints_of(model)


def _normalised(data: bytes, folder: Path) -> object:
    (folder / NORMALISATION).write_bytes(data)
    return normalisation_beside(folder / "model.onnx")


def _pipelines() -> list[bytes]:
    step = {"type": "Normalize", "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0], "to_rgb": True}
    tasks = [{"name": "Preprocess", "type": "Task", "transforms": [{"type": "Resize"}, step]}]
    return [json.dumps({"pipeline": {"input": ["img"], "tasks": tasks}}).encode()]


GRAPH_READERS = [
    Reader("ONNX file", _files, _examine, either(as_graph, as_graph, as_graph, as_bytes),
           cost=60, needs="torch"),
    Reader("names in metadata", lambda: [b"{0: 'ant', 1: 'bee'}", b'["ant", "bee"]'], _names,
           either(as_text, as_json)),
    Reader("normalisation", _pipelines, _normalised, as_json),
]  # fmt: skip
