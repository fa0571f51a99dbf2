"""Triton model repositories: `config.pbtxt` read by protobuf under Triton's own field names."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from maskrt.core import (
    Bundle,
    BundleError,
    InputSpec,
    Manifest,
    StorageError,
    UnsupportedTargetError,
    UsageError,
)
from maskrt.core.masks import MaskFrame, MaskPaste
from maskrt.packaging.triton import package_triton, triton_command

from ..built import note_built

ENGINE = {"sms": [87], "backend_version": "10.3.0"}  # what opening such an engine asks for
Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64}
# As in protobuf/model_config.proto of triton-inference-server/common.
_ENUMS = {
    "DataType": {"TYPE_UINT8": 2, "TYPE_INT32": 8, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
_MESSAGES = {
    "ModelInput": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "int64*")],
    "ModelOutput": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 3, "int64*"),
                    ("label_filename", 4, "string")],
    "ModelInstanceGroup": [("count", 2, "int32"), ("kind", 4, "Kind")],
    "ModelParameter": [("string_value", 1, "string")],
    "Parameters": [("key", 1, "string"), ("value", 2, "ModelParameter")],  # an entry of the map
    "ModelConfig": [("name", 1, "string"), ("max_batch_size", 4, "int32"),
                    ("input", 5, "ModelInput*"), ("output", 6, "ModelOutput*"),
                    ("instance_group", 7, "ModelInstanceGroup*"), ("backend", 17, "string"),
                    ("parameters", 14, "Parameters*")],
}  # fmt: skip


def _schema() -> type:
    file = descriptor_pb2.FileDescriptorProto(name="c.proto", package="t", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        if 0 not in values.values():
            enum.value.add(name="TYPE_INVALID", number=0)
        for word, number in values.items():
            enum.value.add(name=word, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number)
            added.label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type = Field.TYPE_ENUM if kind in _ENUMS else Field.TYPE_MESSAGE
                added.type_name = f".t.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    outputs = {"boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "count": (2,)}
    manifest = Manifest("test", InputSpec(64, 96, batch=2), outputs, ("background", "disc"))
    with Bundle.create(tmp_path / "tiny.maskrt", manifest) as made:
        made.write("engines/cpu/engine.onnx", b"onnx")
        made.write("engines/cpu/engine.json", "{}")
        made.write("engines/orin-nx/engine.trt", b"plan")
        made.write("engines/orin-nx/engine.json", json.dumps({**ENGINE, "form": "aot"}))
        made.write("engines/gpu/engine.trt", b"plan")
        made.write("engines/gpu/engine.json", json.dumps({**ENGINE, "form": "plugins"}))
    note_built(b"plan", "orin-nx")
    return Bundle.open(tmp_path / "tiny.maskrt")


@pytest.mark.parametrize(
    ("target", "backend", "file", "kind"),
    [("cpu", "onnxruntime", "model.onnx", 2), ("orin-nx", "tensorrt", "model.plan", 1)],
)
def test_the_configuration_is_tritons(
    bundle: Bundle, tmp_path: Path, target: str, backend: str, file: str, kind: int
) -> None:
    folder = package_triton(bundle, tmp_path / "models", target=target)
    assert folder == tmp_path / "models" / "tiny"
    assert (folder / "1" / file).read_bytes() in (b"onnx", b"plan")
    config = text_format.Parse((folder / "config.pbtxt").read_text(), _schema()())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", backend, 0)
    (picture,) = config.input
    assert (picture.name, picture.data_type, list(picture.dims)) == ("images", 2, [2, 64, 96, 3])
    found = {o.name: (o.data_type, list(o.dims)) for o in config.output}
    assert found == {
        "boxes": (11, [2, 4, 4]), "scores": (11, [2, 4]), "labels": (8, [2, 4]), "count": (8, [2])
    }  # fmt: skip
    assert [o.label_filename for o in config.output] == ["", "", "labels.txt", ""]
    assert (folder / "labels.txt").read_text().split() == ["background", "disc"]
    assert [(g.count, g.kind) for g in config.instance_group] == [(1, kind)]


def test_a_name_with_a_line_break_does_not_shift_the_labels(tmp_path: Path) -> None:
    outputs = {"boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "count": (2,)}
    names = ("background", "disc\nnobody", "square")
    with Bundle.create(
        tmp_path / "b.maskrt", Manifest("test", InputSpec(64, 96), outputs, names)
    ) as made:
        made.write("engines/cpu/engine.onnx", b"onnx")
        made.write("engines/cpu/engine.json", "{}")
    folder = package_triton(tmp_path / "b.maskrt", tmp_path / "models")
    lines = (folder / "labels.txt").read_text().splitlines()
    assert lines == ["background", "disc\\nnobody", "square"]


@pytest.mark.parametrize(
    ("frame", "said"),
    [(MaskFrame.BOX, {"mask_frame": "box", "mask_paste": "detectron2"}),
     (MaskFrame.CANVAS, {"mask_frame": "canvas"})],
)  # fmt: skip
def test_a_client_is_told_how_to_letterbox_and_to_paste(
    bundle: Bundle, tmp_path: Path, frame: MaskFrame, said: dict[str, str]
) -> None:
    plain = package_triton(bundle, tmp_path / "models", name="plain")
    config = text_format.Parse((plain / "config.pbtxt").read_text(), _schema()())
    told = {p.key: p.value.string_value for p in config.parameters}
    assert told == {"pad_value": "124 116 104"}
    outputs = {**bundle.manifest.outputs, "masks": (2, 4, 16, 24)}
    with bundle.edit() as staged:
        staged.update(outputs=outputs, mask_frame=frame, mask_paste=MaskPaste.DETECTRON2)
    folder = package_triton(bundle, tmp_path / "models")
    config = text_format.Parse((folder / "config.pbtxt").read_text(), _schema()())
    assert {p.key: p.value.string_value for p in config.parameters} == said | told


def test_the_schema_refuses_an_unknown_field(bundle: Bundle, tmp_path: Path) -> None:
    folder = package_triton(bundle, tmp_path / "m", name="other")
    text = (folder / "config.pbtxt").read_text()
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("data_type", "datatype"), _schema()())


def test_what_triton_cannot_run_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTargetError, match="no backend for tensorrt_rtx"):
        package_triton(bundle, tmp_path / "m", target="rtx")
    with pytest.raises(UnsupportedTargetError, match="Python plugins"):
        package_triton(bundle, tmp_path / "m", target="gpu")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"sha256": {"graph": "0" * 64}}, "built from another graph"),
     ({"options": {"strip_weights": True}}, "holds no weights")],
)  # fmt: skip
def test_an_engine_that_a_session_refuses_is_not_packaged(
    bundle: Bundle, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    with bundle.edit() as staged:
        staged.write("engines/orin-nx/engine.json", {**ENGINE, "form": "aot", **changed})
    with pytest.raises(BundleError, match=words):
        package_triton(bundle, tmp_path / "m", target="orin-nx")
    assert not (tmp_path / "m").exists()


def test_a_version_compatible_engine_is_served_as_one(bundle: Bundle, tmp_path: Path) -> None:
    models = tmp_path / "my models"
    plain = f"tritonserver --model-repository '{models}'"
    assert triton_command(bundle, models, target="orin-nx") == plain
    assert triton_command(bundle, models) == plain
    with bundle.edit() as staged:
        info = {**ENGINE, "form": "aot", "options": {"version_compatible": True}}
        staged.write("engines/orin-nx/engine.json", info)
    command = triton_command(bundle, models, target="orin-nx")
    assert command == f"{plain} --backend-config=tensorrt,version-compatible=true"


def test_a_failure_leaves_no_half_of_a_model(
    bundle: Bundle, tmp_path: Path, fill_disk: Callable[[str], None]
) -> None:
    """A server that polls its repository would load it."""
    fill_disk("config.pbtxt")
    with pytest.raises(StorageError, match="No space left"):
        package_triton(bundle, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_names_and_taken_folders(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name"):
        package_triton(bundle, tmp_path / "m", name="../up")
    package_triton(bundle, tmp_path / "m")
    with pytest.raises(UsageError, match="exists"):
        package_triton(bundle, tmp_path / "m")
