"""Broken bundles and disks: one clear sentence each, nothing lost, nothing outside touched."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskrt
from maskrt import calib
from maskrt.cli import main
from maskrt.core import Bundle, InputSpec, Manifest, MaskrtError, Precision

pytest.importorskip("onnxruntime")
SIZE = 32
ENGINE = "engines/cpu/engine.onnx"
INFO = "engines/cpu/engine.json"
Break = Callable[[Path], None]


def _canonical(seed: int = 0) -> onnx.ModelProto:
    """A graph of the canonical interface, with one convolution."""
    weights = np.random.default_rng(seed).normal(size=(16, 3, 3, 3)).astype(np.float32)
    constants = {
        "w": weights,
        "boxes_": np.array([[[1, 2, 20, 30]]], np.float32),
        "labels_": np.ones((1, 1), np.int32),
        "count_": np.ones(1, np.int32),
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["features"], "conv"),
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"], "reduce", keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["score"], "sigmoid"),
        helper.make_node("Unsqueeze", ["score", "last"], ["scores"], "unsqueeze"),
        *(helper.make_node("Identity", [f"{n}_"], [n], n) for n in ("boxes", "labels", "count")),
    ]
    kinds = {"labels": TensorProto.INT32, "count": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "canonical",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, (1, SIZE, SIZE, 3))],
        [
            helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shape)
            for n, shape in OUTPUTS.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


OUTPUTS = {"boxes": (1, 1, 4), "scores": (1, 1), "labels": (1, 1), "count": (1,)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle: graph, INT8 recipe, FP32 engine for the CPU."""
    path = tmp_path_factory.mktemp("template") / "whole.maskrt"
    model = _canonical()
    noise = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    statistics = calib.collect_statistics(model, [noise])
    recipe = calib.make_recipe(model, Precision.INT8, statistics, method="minmax")
    manifest = Manifest("test", InputSpec(SIZE, SIZE), OUTPUTS, source={"model": "test:tiny"})
    with Bundle.create(path, manifest) as bundle:
        bundle.write("model.onnx", model.SerializeToString())
        bundle.write("recipe.json", recipe.to_json())
    maskrt.build(path, "cpu")
    return path


@pytest.fixture
def whole(template: Path, tmp_path: Path) -> Path:
    """A copy of the bundle beside a file that is none of its business."""
    (tmp_path / "secret.txt").write_text("mine")
    return Path(shutil.copytree(template, tmp_path / "b.maskrt"))


def _state(folder: Path) -> dict[str, Any]:
    """Everything below a folder: bytes of files, targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def _use(path: Path) -> None:
    """Read everything that the pipeline reads: load and run, then build anew."""
    with maskrt.load(path, "cpu") as session:
        session.predict(np.zeros((SIZE, SIZE, 3), np.uint8))
    maskrt.build(path, "cpu", precision="fp16")


def _build(path: Path) -> None:
    maskrt.build(path, "cpu")


def _refused(path: Path, action: Callable[[Path], Any] = _use) -> str:
    """Return the sentence of the error that `action` raises, having left all files as they were."""
    before = _state(path.parent)
    with pytest.raises(MaskrtError) as caught:
        action(path)
    assert _state(path.parent) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert len(sentence) > 30
    return sentence


def _manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def _forge(path: Path, relative: str, content: bytes) -> None:
    """Put `content` in place with a manifest that agrees."""
    (path / relative).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    _manifest(path, lambda data: data["files"].update({relative: digest}))


def _forge_json(path: Path, relative: str, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads((path / relative).read_text())
    changed = change(data)
    _forge(path, relative, json.dumps(data if changed is None else changed).encode())


def test_the_whole_bundle_works(whole: Path) -> None:
    _use(whole)
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
    assert "manifest" in _refused(whole, Bundle.open)


def test_a_truncated_manifest(whole: Path) -> None:
    file = whole / "manifest.json"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "manifest" in _refused(whole, Bundle.open)


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
    ],
)  # fmt: skip
def test_a_manifest_of_wrong_types(whole: Path, key: str, value: Any) -> None:
    _manifest(whole, lambda data: data.update({key: value}))
    assert "manifest" in _refused(whole, Bundle.open)


def test_masks_over_the_canvas_of_another_size(whole: Path) -> None:
    outputs = {"masks": [1, 4, 28, 29]}
    _manifest(whole, lambda data: data.update(mask_frame="canvas", outputs=outputs))
    assert "manifest" in _refused(whole, Bundle.open)


@pytest.mark.parametrize(
    ("key", "value"),
    [("height", 1e9), ("height", True), ("width", 0), ("batch", "1"), ("pad_value", [1, 2])],
)
def test_an_impossible_input(whole: Path, key: str, value: Any) -> None:
    _manifest(whole, lambda data: data["input"].update({key: value}))
    assert "manifest" in _refused(whole, Bundle.open)


OUTSIDE = [
    "../secret.txt", "engines/../../secret.txt", "engines/..", "./model.onnx", "a//b", "", "/",
    "/etc/hostname", "..\\secret.txt", "C:\\secret.txt", "C:secret.txt", "model.onnx\0", "..",
    "manifest.json", "engines/cpu/",
]  # fmt: skip


@pytest.mark.parametrize("relative", OUTSIDE)
def test_a_listed_path_that_leaves_the_bundle(whole: Path, relative: str) -> None:
    digest = hashlib.sha256(b"mine").hexdigest()
    _manifest(whole, lambda data: data["files"].update({relative: digest}))
    assert "not a path inside a bundle" in _refused(whole, Bundle.open)


@pytest.mark.parametrize("relative", ["../secret.txt", "/secret.txt", "a/../../secret.txt"])
def test_the_api_itself_does_not_leave_the_bundle(whole: Path, relative: str) -> None:
    def edit(path: Path, use: Callable[[Bundle], Any]) -> None:
        with Bundle.open(path).edit() as staged:
            staged.digests[relative] = "0" * 64
            use(staged)

    _refused(whole, lambda path: edit(path, lambda b: b.write(relative, b"x")))
    _refused(whole, lambda path: edit(path, lambda b: b.read(relative)))
    _refused(whole, lambda path: edit(path, lambda b: b.remove(relative)))


def _link_file(path: Path) -> None:
    (path / "model.onnx").rename(path.parent / "model.onnx")
    (path / "model.onnx").symlink_to(path.parent / "model.onnx")


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

    assert "symbolic link" in _refused(whole, read)
    assert "symbolic link" in _refused(whole, edit)


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
    assert relative in _refused(whole, lambda path: Bundle.open(path).read(relative))
    if damage is not _become_folder and relative != INFO:
        _refused(whole)


@pytest.mark.parametrize("relative", ["model.onnx", ENGINE])
def test_swapped_files(whole: Path, relative: str) -> None:
    _swap(whole / relative)
    assert "sha256" in _refused(whole)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a graph", b"\x08\x0a"])
def test_a_graph_that_is_none(whole: Path, content: bytes) -> None:
    _forge(whole, "model.onnx", content)
    assert "model.onnx" in _refused(whole, _build)


def test_a_truncated_graph(whole: Path) -> None:
    _forge(whole, "model.onnx", (whole / "model.onnx").read_bytes()[:300])
    assert "model.onnx" in _refused(whole, _build)


def test_a_foreign_graph(whole: Path) -> None:
    _forge(whole, "model.onnx", _canonical(seed=1).SerializeToString())
    assert "the recipe is for graph" in _refused(whole, _build)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_recipe_that_is_none(whole: Path, content: bytes) -> None:
    _forge(whole, "recipe.json", content)
    assert "recipe" in _refused(whole, _build)


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
    _forge_json(whole, "recipe.json", lambda data: data.update(change))
    assert "recipe" in _refused(whole, _build)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"ftrt" + b"\x00" * 60])
def test_an_engine_that_is_none(whole: Path, content: bytes) -> None:
    _forge(whole, ENGINE, content)
    assert "engine.onnx" in _refused(whole)


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
    _forge(whole, ENGINE, model.SerializeToString())
    assert "engine.onnx" in _refused(whole)


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
    assert "engine.json" in _refused(whole, lambda path: maskrt.load(path, "gpu"))


def _emulate_gpu(monkeypatch: pytest.MonkeyPatch, sm: int, version: str) -> None:
    """Show a GPU to the loader, and a TensorRT in which nothing can be opened."""
    monkeypatch.setattr("maskrt.runtime.backends.loader.compute_capabilities", lambda: (sm,))
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))


def test_an_engine_of_another_version(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _add_gpu_engine(whole, GPU_INFO)
    _emulate_gpu(monkeypatch, 89, "10.16.1")
    sentence = _refused(whole, lambda path: maskrt.load(path, "gpu"))
    assert "10.3.0" in sentence
    assert "10.16.1" in sentence


@pytest.mark.parametrize("target", ["gpu", "orin-nx"])
def test_an_engine_of_another_gpu(
    whole: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    _add_gpu_engine(whole, GPU_INFO, target)
    _emulate_gpu(monkeypatch, 120, "10.3.0")
    sentence = _refused(whole, lambda path: maskrt.load(path, target))
    assert "8.9" in sentence
    assert "12.0" in sentence


class _FailingDisk:
    """Fails the n-th call of one function of the operating system, and all later ones."""

    def __init__(self, real: Callable[..., Any], number: int, code: int) -> None:
        self.real, self.left, self.code = real, number, code

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.left == 0:
            raise OSError(self.code, os.strerror(self.code))
        self.left -= 1
        return self.real(*given, **named)


def _fail(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, code: int = errno.ENOSPC
) -> None:
    failing = _FailingDisk(getattr(owner, name), number, code)
    monkeypatch.setattr(owner, name, lambda *given, **named: failing(*given, **named))


def _edit(path: Path) -> None:
    with Bundle.open(path).edit() as staged:
        staged.write("report/report.json", {"a": 1})
        staged.write("model.onnx", b"new")
        staged.remove("engines/")


def _create(path: Path) -> None:
    with Bundle.create(path, Bundle.open(path).manifest) as bundle:
        bundle.write("model.onnx", b"new")
        bundle.write("recipe.json", b"new")


@pytest.mark.parametrize("change", [_edit, _create])
@pytest.mark.parametrize(
    ("owner", "name", "number", "code"),
    [
        (Path, "write_bytes", 0, errno.ENOSPC),
        (Path, "write_bytes", 1, errno.ENOSPC),
        (Path, "write_bytes", 2, errno.ENOSPC),
        (Path, "write_bytes", 1, errno.EDQUOT),
        (Path, "write_bytes", 1, errno.EIO),
        (Path, "mkdir", 0, errno.ENOSPC),
        (Path, "chmod", 0, errno.EROFS),
        (Path, "replace", 0, errno.EACCES),
    ],
)
def test_a_full_or_read_only_disk(
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Break,
    owner: Any,
    name: str,
    number: int,
    code: int,
) -> None:
    _fail(monkeypatch, owner, name, number, code)
    assert os.strerror(code) in _refused(whole, change)
    monkeypatch.undo()
    assert [p.name for p in sorted(whole.parent.iterdir())] == ["b.maskrt", "secret.txt"]
    _use(whole)


@pytest.mark.parametrize("change", [_edit, _create])
def test_no_room_for_a_folder(whole: Path, monkeypatch: pytest.MonkeyPatch, change: Break) -> None:
    _fail(monkeypatch, tempfile, "mkdtemp", 0, errno.EROFS)
    assert os.strerror(errno.EROFS) in _refused(whole, change)


def test_no_room_for_copies_where_there_are_no_hard_links(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, os, "link", 0, errno.EPERM)
    _fail(monkeypatch, shutil, "copy2", 2)
    assert os.strerror(errno.ENOSPC) in _refused(whole, _edit)


def test_a_disk_that_fails_while_an_engine_is_written(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def fail_in_bundle(self: Path, data: bytes) -> int:
        if "engines" in self.parts:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_in_bundle)
    assert os.strerror(errno.ENOSPC) in _refused(whole, _build)
    monkeypatch.undo()
    _use(whole)


def _break_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"[]")


def _break_path(path: Path) -> None:
    _manifest(path, lambda data: data["files"].update({"../secret.txt": "0" * 64}))


def _break_recipe(path: Path) -> None:
    _forge_json(path, "recipe.json", lambda data: data.update(precision="int3"))


def _break_graph(path: Path) -> None:
    _forge(path, "model.onnx", b"not a graph")


def _break_info(path: Path) -> None:
    _forge(path, INFO, b"[]")


def _empty_info(path: Path) -> None:
    _forge(path, INFO, b"{}")


@pytest.mark.parametrize(
    ("damage", "verb"),
    [
        (_break_manifest, ["inspect"]),
        (_break_manifest, ["build", "--target", "cpu"]),
        (_break_path, ["inspect"]),
        (_break_path, ["build", "--target", "cpu"]),
        (_break_recipe, ["build", "--target", "cpu"]),
        (_break_recipe, ["inspect"]),
        (_break_graph, ["build", "--target", "cpu"]),
        (_break_graph, ["inspect"]),
        (_break_info, ["inspect"]),
        (_empty_info, ["inspect"]),
        (_link_file, ["inspect"]),
    ],
)
def test_command_line(
    whole: Path, damage: Break, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(whole)
    before = _state(whole.parent)
    with pytest.raises(SystemExit) as ended:
        main([verb[0], str(whole), *verb[1:]])
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code in (1, 2)
    assert said[-1].startswith("error: ")
    assert not any("Traceback" in line or "a defect in maskrt" in line for line in said)
    assert _state(whole.parent) == before
