"""A bundle is whole or absent, and every file in it is the one that was written."""

import json
from contextlib import AbstractContextManager
from dataclasses import replace
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
    folders,
)
from maskrt.core.masks import MaskFrame, MaskPaste

from .bundles import MANIFEST, make


def test_round_trip(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    assert bundle.manifest == MANIFEST
    assert Manifest.from_json(json.loads(json.dumps(MANIFEST.to_json()))) == MANIFEST
    assert bundle.read("model.onnx") == b"graph"
    assert bundle.read_json("engines/cpu/engine.json") == {"bytes": 6}
    assert bundle.engines() == ["cpu", "rtx@fp16"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_masks_over_the_canvas_and_bundles_that_do_not_say(tmp_path: Path) -> None:
    outputs = {"boxes": (2, 50, 4), "masks": (2, 50, 80, 64), "count": (2,)}
    manifest = replace(MANIFEST, outputs=outputs, mask_frame=MaskFrame.CANVAS)
    with Bundle.create(tmp_path / "a.maskrt", manifest):
        pass
    file = tmp_path / "a.maskrt" / "manifest.json"
    assert Bundle.open(tmp_path / "a.maskrt").manifest == manifest
    for frame, masks in ((MaskFrame.CANVAS_LATE, (80, 64)), (MaskFrame.CANVAS_EVEN, (78, 62))):
        other = replace(manifest, mask_frame=frame, outputs={**outputs, "masks": (2, 50, *masks)})
        with Bundle.create(tmp_path / f"{frame.value}.maskrt", other):
            pass
        assert Bundle.open(tmp_path / f"{frame.value}.maskrt").manifest == other
    data = json.loads(file.read_text())
    assert data.pop("mask_frame") == "canvas"
    file.write_text(json.dumps(data))
    assert Bundle.open(tmp_path / "a.maskrt").manifest.mask_frame is MaskFrame.BOX


def test_masks_pasted_as_detectron2_pastes_and_bundles_that_do_not_say(tmp_path: Path) -> None:
    """A maskrt that would paste them as torchvision does reads version 1 alone, and refuses it."""
    file = tmp_path / "a.maskrt" / "manifest.json"
    for paste, version in ((MaskPaste.TORCHVISION, 1), (MaskPaste.DETECTRON2, 2)):
        manifest = replace(MANIFEST, mask_paste=paste)
        with Bundle.create(tmp_path / "a.maskrt", manifest):
            pass
        assert Bundle.open(tmp_path / "a.maskrt").manifest == manifest
        data = json.loads(file.read_text())
        assert (data["format_version"], data["mask_paste"]) == (version, paste.value)
    data.pop("mask_paste")
    file.write_text(json.dumps({**data, "format_version": 1}))
    assert Bundle.open(tmp_path / "a.maskrt").manifest.mask_paste is MaskPaste.TORCHVISION
    file.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="format_version is 2, and mask_paste 'torchvision'"):
        Bundle.open(tmp_path / "a.maskrt")


def test_a_paste_by_its_word() -> None:
    assert MaskPaste.parse("detectron2") is MaskPaste.parse(MaskPaste.DETECTRON2)
    with pytest.raises(UsageError, match="paste is 3, and must be torchvision or detectron2"):
        MaskPaste.parse(3)  # type: ignore[arg-type]


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
    bundle = make(tmp_path / "a.maskrt")
    with pytest.raises(ZeroDivisionError):
        _fail_in(bundle.edit())
    assert Bundle.open(tmp_path / "a.maskrt").read("model.onnx") == b"graph"
    assert bundle.read("engines/cpu/engine.onnx") == b"engine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_edit_changes_and_removes(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
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
    bundle = make(tmp_path / "a.maskrt")
    (bundle.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256 differs"):
        bundle.read("model.onnx")


def test_missing_engine_says_how_to_build_it(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a b.maskrt")
    with pytest.raises(BundleError) as refused:
        bundle.read("engines/rtx@fp16/engine.trt")
    assert str(refused.value).endswith(
        f": build it with maskrt build '{bundle.path}' --target rtx --precision fp16."
    )
    with pytest.raises(BundleError, match="is built on the device, a Jetson Orin NX, with maskrt"):
        bundle.read("engines/orin-nx/engine.trt")


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with pytest.raises(BundleError, match="is a file and no folder, so it is not a bundle"):
        Bundle.open(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("", "not valid JSON"),
        ("[]", "not what maskrt writes .it is a list of 0"),
        ('{"format_version": 99, "files": {}}', "format version 99"),
        ('{"format_version": 1, "files": {}}', "not what maskrt writes .it lacks class_names"),
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
    make(tmp_path / "a.maskrt")
    with Bundle.create(tmp_path / "a.maskrt", MANIFEST) as bundle:
        bundle.write("model.onnx", b"second")
    again = Bundle.open(tmp_path / "a.maskrt")
    assert again.read("model.onnx") == b"second"
    assert again.engines() == []


@pytest.mark.parametrize(
    "manifest",
    [
        '{"name": "My App", "icons": []}',
        '["format_version", "family", "files"]',
        '{"format_version": 1, "files": {}}',
        "not JSON",
        b"\xff\xfe",
    ],
)
def test_another_programs_manifest_is_no_bundle(tmp_path: Path, manifest: str | bytes) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    raw = manifest.encode() if isinstance(manifest, str) else manifest
    (folder / "manifest.json").write_bytes(raw)
    (folder / "dear.jpg").write_bytes(b"memory")
    with (
        pytest.raises(UsageError, match="exists and is not a bundle"),
        Bundle.create(folder, MANIFEST),
    ):
        pass
    assert (folder / "dear.jpg").read_bytes() == b"memory"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    change = Bundle.create(tmp_path / "a", MANIFEST)
    change.__enter__()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dear.jpg").write_bytes(b"memory")
    with pytest.raises(UsageError, match="exists and is not a bundle"):
        change.__exit__(None, None, None)
    assert (tmp_path / "a" / "dear.jpg").read_bytes() == b"memory"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_bundle_of_another_version_is_replaced(tmp_path: Path) -> None:
    old = make(tmp_path / "a.maskrt")
    manifest = old.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 0'))
    assert make(tmp_path / "a.maskrt").read("model.onnx") == b"graph"


def test_edit_keeps_the_files_of_the_user(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    (bundle.path / "r.json").write_text("mine")
    (bundle.path / "engines/cpu/notes.txt").write_text("mine too")
    (bundle.path / "link").symlink_to("engines")
    with bundle.edit() as staged:
        staged.remove("engines/cpu/")
        (bundle.path / "late.txt").write_text("written meanwhile")
    for opened in (bundle, Bundle.open(bundle.path)):
        assert sorted(opened.digests) == ["engines/rtx@fp16/engine.json", "model.onnx"]
    found = {p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_file()}
    assert found - {"manifest.json", *bundle.digests} == {
        "r.json",
        "late.txt",
        "engines/cpu/notes.txt",
    }
    assert (bundle.path / "r.json").read_text() == "mine"
    assert (bundle.path / "link").readlink() == Path("engines")


def test_edit_writes_over_an_unlisted_file(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    (bundle.path / "recipe.json").write_text("not ours")
    with bundle.edit() as staged:
        staged.write("recipe.json", b"ours")
    assert Bundle.open(bundle.path).read("recipe.json") == b"ours"


def test_a_linked_bundle_is_replaced_at_its_real_place(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real = make(tmp_path / "disk" / "a.maskrt").path
    link = tmp_path / "link.maskrt"
    link.symlink_to(real)
    with Bundle.open(link).edit() as staged:
        staged.write("model.onnx", b"edited")
    assert Bundle.open(real).read("model.onnx") == b"edited"
    with Bundle.create(link, MANIFEST) as bundle:
        bundle.write("model.onnx", b"created")
    assert Bundle.open(real).read("model.onnx") == b"created"
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "link.maskrt"]
    assert [p.name for p in real.parent.iterdir()] == ["a.maskrt"]


@pytest.mark.parametrize("inside", [".", "engines"])
def test_a_bundle_around_the_working_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    bundle = make(tmp_path / "a.maskrt")
    monkeypatch.chdir(bundle.path / inside)
    here = Path(".") if inside == "." else Path("..")
    with pytest.raises(UsageError, match="working directory is inside"), Bundle.open(here).edit():
        pass
    with (
        pytest.raises(UsageError, match="working directory is inside"),
        Bundle.create(here, MANIFEST),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]
    assert Bundle.open(bundle.path).read("model.onnx") == b"graph"


def test_a_failed_rename_brings_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make(tmp_path / "a.maskrt")
    (bundle.path / "r.json").write_text("mine")
    rename = Path.replace

    def fail_second(self: Path, target: Path) -> Path:
        if target == bundle.path and self.name != "old":
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(folders, "exchange", lambda *_: False)  # as on NFS
    monkeypatch.setattr(Path, "replace", fail_second)
    with pytest.raises(OSError, match="the disk is gone"), bundle.edit() as staged:
        staged.write("model.onnx", b"new")
    assert Bundle.open(bundle.path).read("model.onnx") == b"graph"
    assert (bundle.path / "r.json").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_if_even_going_back_fails_nothing_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make(tmp_path / "a.maskrt")
    rename = Path.replace

    def fail_later(self: Path, target: Path) -> Path:
        if target == bundle.path:
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(folders, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", fail_later)
    with pytest.raises(OSError, match="the disk is gone"), bundle.edit():
        pass
    (old,) = tmp_path.glob(".a.maskrt.*/old")
    assert Bundle.open(old).read("model.onnx") == b"graph"
    monkeypatch.undo()
    assert Bundle.open(bundle.path).read("model.onnx") == b"graph"  # whoever comes puts it back
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_edits_one_after_the_other(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    for number in range(3):
        with bundle.edit() as staged:
            staged.write(f"report/{number}", b"x")
    assert sum(r.startswith("report/") for r in Bundle.open(bundle.path).digests) == 3


def test_edits_inside_create(tmp_path: Path) -> None:
    """`compile` with a budget checks each engine, and writes its report, before the bundle is."""
    with Bundle.create(tmp_path / "a.maskrt", MANIFEST) as bundle:
        bundle.write("model.onnx", b"graph")
        for number in range(2):
            with bundle.edit() as staged:
                staged.write(f"report/{number}", b"x")
            bundle.write("recipe.json", b"recipe %d" % number)
    opened = Bundle.open(tmp_path / "a.maskrt")
    assert sorted(opened.digests) == ["model.onnx", "recipe.json", "report/0", "report/1"]
    assert opened.read("recipe.json") == b"recipe 1"
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    (bundle.path / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing from the bundle"), bundle.edit():
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.maskrt"]


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
