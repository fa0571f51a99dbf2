"""The build cache: the same inputs never build twice, and nothing else comes out of it."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from onnx import numpy_helper

from maskrt.core import Precision, Target, UsageError
from maskrt.runtime.build import BuildOptions, build_engine, worker
from maskrt.runtime.build.cache import BuildCache, kept_folder, key_of, open_cache
from maskrt.runtime.trust import record

FILES = {"engine.trt": b"plan" * 100, "report.json": b"{}"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that is switched on."""
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _entries(folder: Path) -> list[Path]:
    return [p for p in (folder / "builds").iterdir() if not p.name.startswith(".")]


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, 1 << 20)
    assert cache.get("k") is None
    cache.put("k", FILES)
    assert cache.get("k") == FILES
    cache.put("k", {"engine.trt": b"another"})  # a rival that was slower
    assert cache.get("k") == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("damage", [b"", b"plan" * 99 + b"plam"])
def test_a_damaged_entry_is_dropped(tmp_path: Path, damage: bytes) -> None:
    cache = BuildCache(tmp_path, 1 << 20)
    cache.put("k", FILES)
    (tmp_path / "k/engine.trt").write_bytes(damage)
    assert cache.get("k") is None
    assert not (tmp_path / "k").exists()
    cache.put("k", FILES)
    assert cache.get("k") == FILES


def test_an_entry_without_its_index_is_none(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, 1 << 20)
    cache.put("k", FILES)
    (tmp_path / "k/index.json").unlink()
    assert cache.get("k") is None


def test_the_least_recently_used_entries_go(tmp_path: Path) -> None:
    cache = BuildCache(tmp_path, 3500)
    for age, key in ((300, "a"), (200, "b"), (100, "c")):
        cache.put(key, {"f": key.encode() * 1000})
        os.utime(tmp_path / key, (1e9 - age, 1e9 - age))
    cache.get("a")  # used just now
    cache.put("d", {"f": b"d" * 1000})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c", "d"]
    cache.put("huge", {"f": b"x" * 4000})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c", "d"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    BuildCache(tmp_path / "x", 1 << 20).put("k", FILES)


def test_a_file_in_the_folders_place_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    cache = BuildCache(tmp_path / "x", 1 << 20)
    cache.put("k", FILES)
    assert cache.get("k") is None


def test_keys_tell_parts_apart() -> None:
    assert key_of([b"ab", b"c"]) != key_of([b"a", b"bc"])
    assert key_of([b"a"]) != key_of([b"a", b""])


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKRT_CACHE", "off")
    assert kept_folder() is None
    assert open_cache() is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRT_CACHE", "near")  # a builder's process works elsewhere
    assert kept_folder() == tmp_path / "near"
    monkeypatch.delenv("MASKRT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_folder() == tmp_path / "maskrt"
    assert open_cache(False) is None
    monkeypatch.setenv("MASKRT_CACHE_MIB", "much")
    with pytest.raises(UsageError, match="MASKRT_CACHE_MIB"):
        open_cache()


@pytest.mark.rtx
def test_the_same_graph_is_built_once(small_network, folder, monkeypatch) -> None:
    rtx, int8 = Target.parse("rtx"), Precision.INT8
    first = build_engine(small_network("int8"), rtx, int8)
    assert first.info["cached"] is False
    with monkeypatch.context() as patched:
        patched.setattr(worker, "_WORKER", ["false"])  # a build now would fail
        again = build_engine(small_network("int8"), rtx, int8)
    assert again.files == first.files
    assert again.info == {**first.info, "cached": True}
    assert again.info["build_seconds"] > 0
    anew = build_engine(small_network("int8"), rtx, int8, BuildOptions(cache=False))
    assert anew.info["cached"] is False


@pytest.mark.rtx
def test_anything_else_is_built_anew(small_network, folder) -> None:
    rtx, fp32 = Target.parse("rtx"), Precision.FP32
    build_engine(small_network(), rtx, fp32)
    other = small_network()
    weight = next(t for t in other.graph.initializer if t.name == "head.fc.weight")
    changed = numpy_helper.to_array(weight).copy()
    changed[0, 0] += 1e-3
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    assert build_engine(other, rtx, fp32).info["cached"] is False
    assert build_engine(small_network(), Target.parse("rtx-89"), fp32).info["cached"] is False
    more = BuildOptions(workspace_mib=512)
    assert build_engine(small_network(), rtx, fp32, more).info["cached"] is False
    assert len(_entries(folder)) == 4
    assert build_engine(small_network(), rtx, fp32).info["cached"] is True


@pytest.mark.rtx
def test_a_failed_build_is_not_kept(small_network, folder) -> None:
    with pytest.raises(RuntimeError, match="workspace"):
        build_engine(small_network("int8"), Target.parse("rtx"), Precision.INT8,
                     BuildOptions(workspace_mib=1))  # fmt: skip
    assert not (folder / "builds").exists()


def test_the_cpu_engine_is_read_back_once(small_network, folder) -> None:
    pytest.importorskip("onnxruntime")
    cpu, fp16 = Target.parse("cpu"), Precision.FP16
    first = build_engine(small_network("fp16"), cpu, fp16)
    again = build_engine(small_network("fp16"), cpu, fp16)
    assert (first.info["cached"], again.info["cached"]) == (False, True)
    assert again.info == {**first.info, "cached": True}
    assert len(_entries(folder)) == 1


@pytest.mark.rtx
def test_what_another_machine_put_into_a_shared_cache_is_built_anew(
    small_network, folder, elsewhere, monkeypatch
) -> None:
    """A plan is machine code, and the folder may be one that others write to."""
    rtx, fp32 = Target.parse("rtx"), Precision.FP32
    first = build_engine(small_network(), rtx, fp32)
    (place,) = _entries(folder)
    foreign = b"code of somebody else's"
    index = json.loads((place / "index.json").read_text())
    index["engine.trt"] = hashlib.sha256(foreign).hexdigest()
    (place / "engine.trt").write_bytes(foreign)
    (place / "index.json").write_text(json.dumps(index))
    again = build_engine(small_network(), rtx, fp32)
    assert again.info["cached"] is False
    assert again.files == first.files
    assert build_engine(small_network(), rtx, fp32).info["cached"] is True
    monkeypatch.setattr(record, "_noted", {})  # another process of this machine
    assert build_engine(small_network(), rtx, fp32).info["cached"] is True
    shutil.rmtree(elsewhere)
    monkeypatch.setattr(record, "_noted", {})  # another machine that has the cache
    assert build_engine(small_network(), rtx, fp32).info["cached"] is False


@pytest.mark.rtx
def test_every_build_is_noted_the_failed_ones_apart(small_network, folder, elsewhere) -> None:
    plan = build_engine(small_network(), Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]
    (file,) = elsewhere.iterdir()
    entry = json.loads(file.read_text())
    assert file.stem == entry["sha256"] == hashlib.sha256(plan).hexdigest()
    assert (entry["target"], entry["builder"]) == ("rtx-89", "tensorrt_rtx")
    assert entry["version_compatible"] is False
    with pytest.raises(RuntimeError, match="workspace"):
        build_engine(small_network("int8"), Target.parse("rtx"), Precision.INT8,
                     BuildOptions(workspace_mib=1))  # fmt: skip
    assert len(list(elsewhere.iterdir())) == 1
