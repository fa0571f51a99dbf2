"""A bundle is whole or absent, and every file in it is the one that was written."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from maskrt.core import (
    Bundle,
    BundleError,
    InputSpec,
    Manifest,
    Precision,
    Target,
    UnsupportedTargetError,
    UsageError,
)

MANIFEST = Manifest(
    family="torchvision_two_stage",
    input=InputSpec(320, 256, 2, (1, 2, 3)),
    outputs={"boxes": (2, 50, 4), "count": (2,)},
    class_names=("background", "ball"),
    precision=Precision.INT8,
    source={"model": "maskrt:x", "weights": None},
    fidelity={"pictures": 3},
)


def _make(path: Path) -> Bundle:
    with Bundle.create(path, MANIFEST) as bundle:
        bundle.write("model.onnx", b"graph")
        bundle.write("engines/cpu/engine.onnx", b"engine")
        bundle.write("engines/cpu/engine.json", {"bytes": 6})
        bundle.write("engines/rtx@fp16/engine.json", {"bytes": 7})
    return Bundle.open(path)


def test_round_trip(tmp_path: Path) -> None:
    bundle = _make(tmp_path / "a.maskrt")
    assert bundle.manifest == MANIFEST
    assert Manifest.from_json(json.loads(json.dumps(MANIFEST.to_json()))) == MANIFEST
    assert bundle.read("model.onnx") == b"graph"
    assert bundle.read_json("engines/cpu/engine.json") == {"bytes": 6}
    assert bundle.engines() == ["cpu", "rtx@fp16"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def _fail_in(change: AbstractContextManager[Bundle]) -> None:
    """Begin a change, and fail in the middle of it."""
    with change as staged:
        staged.write("model.onnx", b"half")
        staged.remove("engines/")
        _ = 1 / 0


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _fail_in(Bundle.create(tmp_path / "a.maskrt", MANIFEST))
    assert list(tmp_path.iterdir()) == []


def test_failed_edit_leaves_the_old_bundle(tmp_path: Path) -> None:
    bundle = _make(tmp_path / "a.maskrt")
    with pytest.raises(ZeroDivisionError):
        _fail_in(bundle.edit())
    assert Bundle.open(tmp_path / "a.maskrt").read("model.onnx") == b"graph"
    assert bundle.read("engines/cpu/engine.onnx") == b"engine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_edit_changes_and_removes(tmp_path: Path) -> None:
    bundle = _make(tmp_path / "a.maskrt")
    with bundle.edit() as staged:
        staged.write("model.onnx", b"new")
        staged.remove("engines/cpu/")
        staged.update(precision=Precision.FP16)
    for opened in (bundle, Bundle.open(tmp_path / "a.maskrt")):
        assert opened.read("model.onnx") == b"new"
        assert opened.engines() == ["rtx@fp16"]
        assert opened.manifest.precision is Precision.FP16
    assert not (tmp_path / "a.maskrt/engines/cpu").exists() or not list(
        (tmp_path / "a.maskrt/engines/cpu").iterdir()
    )


def test_altered_file_is_refused(tmp_path: Path) -> None:
    bundle = _make(tmp_path / "a.maskrt")
    (bundle.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256 differs"):
        bundle.read("model.onnx")


def test_missing_engine_says_how_to_build_it(tmp_path: Path) -> None:
    bundle = _make(tmp_path / "a.maskrt")
    with pytest.raises(BundleError, match="maskrt build BUNDLE --target rtx --precision fp16"):
        bundle.read("engines/rtx@fp16/engine.trt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("", "not a valid manifest"),
        ("[]", "not a valid manifest"),
        ('{"format_version": 99, "files": {}}', "format version 99"),
        ('{"format_version": 1, "files": {}}', "not a valid manifest"),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "a.maskrt"
    if content is not None:
        path.mkdir()
        (path / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=words):
        Bundle.open(path)


def test_other_folders_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"memory")
    with (
        pytest.raises(UsageError, match="is not a bundle"),
        Bundle.create(tmp_path / "photos", MANIFEST),
    ):
        pass
    assert (tmp_path / "photos" / "dear.jpg").read_bytes() == b"memory"


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    _make(tmp_path / "a.maskrt")
    with Bundle.create(tmp_path / "a.maskrt", MANIFEST) as bundle:
        bundle.write("model.onnx", b"second")
    again = Bundle.open(tmp_path / "a.maskrt")
    assert again.read("model.onnx") == b"second"
    assert again.engines() == []


@pytest.mark.parametrize(
    "arguments", [(0, 320), (320, 31), (320, 9000), (320, 320, 0), (320.5, 320)]
)
def test_impossible_inputs_are_refused(arguments: tuple) -> None:
    with pytest.raises(UsageError):
        InputSpec(*arguments)


def test_targets() -> None:
    assert Target.parse("rtx-89").sms == (89,)
    assert Target.parse("cpu").backend == "onnxruntime"
    for name in ("rtx-90", "gpuu", ""):
        with pytest.raises(UnsupportedTargetError, match="unknown"):
            Target.parse(name)
