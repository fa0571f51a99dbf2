"""Damaged bundles: one clear sentence each, nothing lost, nothing outside touched."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import TensorProto, helper

import maskrt
from maskrt.core import Bundle

from .damage import (
    ENGINE,
    INFO,
    SIZE,
    Break,
    _link_file,
    build,
    canonical,
    change_manifest,
    forge,
    forge_json,
    refused,
    use,
)

pytest.importorskip("onnxruntime")


def test_the_whole_bundle_works(whole: Path) -> None:
    use(whole)
    assert Bundle.open(whole).engines() == ["cpu", "cpu@fp16"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", b'{"format_version": 1}',
        b"[" * 100_000, "{}".encode("utf-16"), b'{"format_version": {}}',
    ],
)  # fmt: skip
def test_a_manifest_that_is_none(whole: Path, content: bytes) -> None:
    (whole / "manifest.json").write_bytes(content)
    assert "manifest" in refused(whole, Bundle.open)


def test_a_truncated_manifest(whole: Path) -> None:
    file = whole / "manifest.json"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "manifest" in refused(whole, Bundle.open)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", 2), ("format_version", "1"), ("family", 3), ("family", None),
        ("input", None), ("input", []), ("input", {"height": "64"}), ("outputs", []),
        ("outputs", {"boxes": "abc"}), ("outputs", {"boxes": [1, -4]}), ("outputs", {"boxes": 4}),
        ("class_names", "abc"), ("class_names", [1, 2]), ("precision", "fp64"), ("precision", []),
        ("source", []), ("fidelity", "good"), ("files", []), ("files", None),
        ("files", {"model.onnx": 3}), ("files", {"model.onnx": "0"}),
        ("mask_frame", "picture"), ("mask_frame", None), ("mask_frame", ["canvas"]),
        ("mask_paste", "mmdet"), ("mask_paste", None), ("mask_paste", ["detectron2"]),
    ],
)  # fmt: skip
def test_a_manifest_of_wrong_types(whole: Path, key: str, value: Any) -> None:
    change_manifest(whole, lambda data: data.update({key: value}))
    assert "manifest" in refused(whole, Bundle.open)


@pytest.mark.parametrize(
    ("frame", "shape"),
    [
        ("canvas", [1, 4, 28, 29]), ("canvas_late", [1, 4, 28, 29]), ("canvas_even", [1, 4, 0, 29]),
        ("canvas_even", [1, 4, 28]),
    ],
)  # fmt: skip
def test_masks_over_the_canvas_of_another_size(whole: Path, frame: str, shape: list[int]) -> None:
    change_manifest(whole, lambda data: data.update(mask_frame=frame, outputs={"masks": shape}))
    assert "manifest" in refused(whole, Bundle.open)


@pytest.mark.parametrize(
    ("key", "value"),
    [("height", 1e9), ("height", True), ("width", 0), ("batch", "1"), ("pad_value", [1, 2])],
)
def test_an_impossible_input(whole: Path, key: str, value: Any) -> None:
    change_manifest(whole, lambda data: data["input"].update({key: value}))
    assert "manifest" in refused(whole, Bundle.open)


OUTSIDE = [
    "../secret.txt", "engines/../../secret.txt", "engines/..", "./model.onnx", "a//b", "", "/",
    "/etc/hostname", "..\\secret.txt", "C:\\secret.txt", "C:secret.txt", "model.onnx\0", "..",
    "manifest.json", "engines/cpu/",
]  # fmt: skip


@pytest.mark.parametrize("relative", OUTSIDE)
def test_a_listed_path_that_leaves_the_bundle(whole: Path, relative: str) -> None:
    digest = hashlib.sha256(b"mine").hexdigest()
    change_manifest(whole, lambda data: data["files"].update({relative: digest}))
    assert "not a path inside a bundle" in refused(whole, Bundle.open)


@pytest.mark.parametrize("relative", ["../secret.txt", "/secret.txt", "a/../../secret.txt"])
def test_the_api_itself_does_not_leave_the_bundle(whole: Path, relative: str) -> None:
    def edit(path: Path, use: Callable[[Bundle], Any]) -> None:
        with Bundle.open(path).edit() as staged:
            staged.digests[relative] = "0" * 64
            use(staged)

    refused(whole, lambda path: edit(path, lambda b: b.write(relative, b"x")))
    refused(whole, lambda path: edit(path, lambda b: b.read(relative)))
    refused(whole, lambda path: edit(path, lambda b: b.remove(relative)))


def _link_folder(path: Path) -> None:
    (path / "engines/cpu").rename(path.parent / "cpu")
    (path / "engines/cpu").symlink_to(path.parent / "cpu")


@pytest.mark.parametrize("damage", [_link_file, _link_folder])
def test_links_out_of_the_bundle_are_not_followed(whole: Path, damage: Break) -> None:
    damage(whole)

    def read(path: Path) -> None:
        bundle = Bundle.open(path)
        bundle.read(ENGINE)
        bundle.read("model.onnx")

    def edit(path: Path) -> None:
        with Bundle.open(path).edit() as staged:
            staged.remove("")

    assert "symbolic link" in refused(whole, read)
    assert "symbolic link" in refused(whole, edit)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _swap(file: Path) -> None:
    (other,) = {"model.onnx", "recipe.json"} - {file.name} if file.name != "engine.onnx" else {INFO}
    root = next(parent for parent in file.parents if parent.suffix == ".maskrt")
    file.write_bytes((root / other).read_bytes())


def _become_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, Path.unlink, _become_folder])
@pytest.mark.parametrize("relative", ["model.onnx", "recipe.json", ENGINE, INFO])
def test_a_damaged_file(whole: Path, relative: str, damage: Break) -> None:
    damage(whole / relative)
    assert relative in refused(whole, lambda path: Bundle.open(path).read(relative))
    if damage is not _become_folder and relative != INFO:
        refused(whole)


@pytest.mark.parametrize("relative", ["model.onnx", ENGINE])
def test_swapped_files(whole: Path, relative: str) -> None:
    _swap(whole / relative)
    assert "sha256" in refused(whole)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a graph", b"\x08\x0a"])
def test_a_graph_that_is_none(whole: Path, content: bytes) -> None:
    forge(whole, "model.onnx", content)
    assert "model.onnx" in refused(whole, build)


def test_a_truncated_graph(whole: Path) -> None:
    forge(whole, "model.onnx", (whole / "model.onnx").read_bytes()[:300])
    assert "model.onnx" in refused(whole, build)


def test_a_foreign_graph(whole: Path) -> None:
    forge(whole, "model.onnx", canonical(seed=1).SerializeToString())
    assert "the recipe is for graph" in refused(whole, build)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_recipe_that_is_none(whole: Path, content: bytes) -> None:
    forge(whole, "recipe.json", content)
    assert "recipe" in refused(whole, build)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 99}, {"graph": "0123"}, {"graph": 3}, {"precision": "int3"},
        {"precision": None}, {"layers": []}, {"layers": {"conv": 3}}, {"tensors": [1]},
        {"tensors": {"x": {"min": "a", "max": 1, "scales": {"minmax": 1}}}},
        {"tensors": {"x": {"min": 0, "max": 1, "scales": {"minmax": -1}}}},
        {"tensors": {"x": {"min": 0, "max": 1, "scales": {"minmax": "nan"}}}},
        {"tensors": {"x": {"min": 0, "max": 1, "scales": {}}}},
        {"tensors": {"x": {"min": "inf", "max": 1, "scales": {"minmax": 1}}}},
        {"method": "guess"}, {"method": 3}, {"calibration": 3}, {"rest": "fp4"},
    ],
)  # fmt: skip
def test_a_recipe_of_wrong_values(whole: Path, change: dict[str, Any]) -> None:
    forge_json(whole, "recipe.json", lambda data: data.update(change))
    assert "recipe" in refused(whole, build)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"ftrt" + b"\x00" * 60])
def test_an_engine_that_is_none(whole: Path, content: bytes) -> None:
    forge(whole, ENGINE, content)
    assert "engine.onnx" in refused(whole)


@pytest.mark.parametrize(
    ("name", "kind"), [("x", TensorProto.FLOAT), ("images", TensorProto.UINT8)]
)
def test_a_foreign_engine(whole: Path, name: str, kind: int) -> None:
    shape = (1, SIZE, SIZE, 3)
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["y"])],
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    opset = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    forge(whole, ENGINE, model.SerializeToString())
    assert "engine.onnx" in refused(whole)


GPU_INFO = {"sms": [89], "backend_version": "10.3.0", "form": "aot"}


def _add_gpu_engine(path: Path, info: Any, target: str = "gpu") -> None:
    with Bundle.open(path).edit() as staged:
        staged.write(f"engines/{target}/engine.trt", b"ftrt")
        staged.write(f"engines/{target}/engine.json", json.dumps(info))


@pytest.mark.parametrize(
    "info",
    [
        [], None, {}, {**GPU_INFO, "sms": 89}, {**GPU_INFO, "sms": ["89"]},
        {**GPU_INFO, "backend_version": 10.3}, {**GPU_INFO, "form": None},
        {"sms": [89], "form": "aot"},
    ],
)  # fmt: skip
def test_engine_json_of_wrong_types(whole: Path, info: Any) -> None:
    _add_gpu_engine(whole, info)
    assert "engine.json" in refused(whole, lambda path: maskrt.load(path, "gpu"))


def _emulate_gpu(monkeypatch: pytest.MonkeyPatch, sm: int, version: str) -> None:
    """Show a GPU to the loader, and a TensorRT in which nothing can be opened."""
    monkeypatch.setattr("maskrt.runtime.backends.loader.compute_capabilities", lambda: (sm,))
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))


def test_an_engine_of_another_version(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _add_gpu_engine(whole, GPU_INFO)
    _emulate_gpu(monkeypatch, 89, "10.16.1")
    sentence = refused(whole, lambda path: maskrt.load(path, "gpu"))
    assert "10.3.0" in sentence
    assert "10.16.1" in sentence


@pytest.mark.parametrize("target", ["gpu", "orin-nx"])
def test_an_engine_of_another_gpu(
    whole: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    _add_gpu_engine(whole, GPU_INFO, target)
    _emulate_gpu(monkeypatch, 120, "10.3.0")
    sentence = refused(whole, lambda path: maskrt.load(path, target))
    assert "8.9" in sentence
    assert "12.0" in sentence
