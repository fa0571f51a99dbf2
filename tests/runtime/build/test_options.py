"""What a builder cannot do is refused in one sentence, and what it can reaches TensorRT."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from maskrt.core import Precision, Target, UnsupportedTargetError, UsageError
from maskrt.runtime.build import BuildOptions, build_engine, worker, worker_main
from maskrt.runtime.build.capabilities import capabilities_of
from maskrt.runtime.build.options import check_options, flags, trtexec_flags
from maskrt.runtime.build.uint8_input import cast_uint8_inputs
from maskrt.runtime.build.worker_steps import Phases

DLA = BuildOptions(dla=0, gpu_fallback=True)


def _check(options: BuildOptions, target: str, version: str, **more: Any) -> None:
    place = Target.parse(target)
    can = capabilities_of(place.backend, version)
    given = {"precision": Precision.INT8, "batch": 2, **more}
    check_options(options, place, can, f"builder {version}", **given)


@pytest.mark.parametrize(
    ("options", "target", "version", "reason"),
    [
        (BuildOptions(workspace_mib=9), "cpu", "1.31", "--workspace .* memory cannot be limited"),
        (BuildOptions(timing_cache=Path("t")), "rtx", "1.7", "--timing-cache .* times no kernels"),
        (BuildOptions(version_compatible=True), "rtx", "1.7", "--version-compatible"),
        (BuildOptions(version_compatible=True), "xavier", "8.5.2", "--version-compatible"),
        (BuildOptions(strip_weights=True), "rtx", "1.7", "--strip-weights"),
        (BuildOptions(strip_weights=True), "orin-nx", "8.6.2", "--strip-weights"),
        (DLA, "rtx", "1.7", "no DLA"),
        (DLA, "orin-nx", "10.13", "--dla .* because it builds for no DLA"),
        (DLA, "orin-nx", "10.7", "builds no int8 engine for a DLA from explicit Q/DQ"),
        (DLA, "orin-nano", "10.3", "target orin-nano has no DLA"),
        (BuildOptions(dla=1, gpu_fallback=True), "orin-nx", "10.3", "has 1 DLA cores"),
        (BuildOptions(dla=0), "agx-orin", "10.3", "add --gpu-fallback"),
        (DLA, "agx-orin", "11.4.0.106", "--dla .* because it builds for no DLA"),
        (DLA, "orin-nx", "11.4.1", "has a DLA on agx-orin alone, not on target orin-nx"),
        (BuildOptions(dynamic_batch=(1, 2, 4)), "rtx", "1.7", "computes 2 pictures a call"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused(
    options: BuildOptions, target: str, version: str, reason: str
) -> None:
    with pytest.raises(UnsupportedTargetError, match=reason) as error:
        _check(options, target, version)
    assert "\n" not in str(error.value)


def test_a_dla_computes_fp16_and_int8_alone() -> None:
    for precision in (Precision.FP32, Precision.BF16):
        with pytest.raises(UnsupportedTargetError, match="add --precision fp16 or int8"):
            _check(DLA, "agx-orin", "10.3", precision=precision)
    _check(DLA, "agx-orin", "10.3", precision=Precision.FP16)


def test_tensorrt_8_has_neither_bf16_nor_what_the_hardware_lacks() -> None:
    plain = BuildOptions()
    with pytest.raises(UnsupportedTargetError, match="builds no bf16 engine for target orin-nx"):
        _check(plain, "orin-nx", "8.6.2", precision=Precision.BF16)
    with pytest.raises(UnsupportedTargetError, match=r"FP8 needs SM 8\.9"):
        _check(plain, "orin-nx", "10.3", precision=Precision.FP8)
    _check(plain, "orin-nx", "10.3", precision=Precision.BF16)
    _check(plain, "thor", "10.13", precision=Precision.FP8)


@pytest.mark.parametrize(
    ("options", "target", "version"),
    [
        (BuildOptions(), "cpu", "1.31"),
        (BuildOptions(workspace_mib=64), "rtx", "1.7"),
        (BuildOptions(dynamic_batch=(2, 2, 2)), "rtx", "1.7"),
        (BuildOptions(version_compatible=True, strip_weights=True), "orin-nano", "10.3"),
        (BuildOptions(timing_cache=Path("t")), "xavier", "8.5.2"),
        (DLA, "xavier", "8.5.2"), (DLA, "agx-orin", "11.4.1"),
        (BuildOptions(dla=1, gpu_fallback=True), "agx-orin", "8.6.2"),
    ],
)  # fmt: skip
def test_what_can_be_had_is_not_refused(options: BuildOptions, target: str, version: str) -> None:
    _check(options, target, version)


@pytest.mark.parametrize(
    "wrong",
    [{"workspace_mib": 0}, {"gpu_fallback": True}, {"dynamic_batch": (2, 1, 4)},
     {"dynamic_batch": (0, 1, 4)}],
)  # fmt: skip
def test_what_makes_no_sense_is_wrong_usage(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        BuildOptions(**wrong)


def test_options_in_the_words_of_either_program() -> None:
    options = BuildOptions(64, None, True, True, 1, True)
    assert flags(options) == (
        " --workspace 64 --version-compatible --strip-weights --dla 1 --gpu-fallback"
    )
    assert trtexec_flags(options, 64) == (
        " --memPoolSize=workspace:64 --versionCompatible --stripWeights"
    )
    assert flags(BuildOptions()) == ""
    timed = BuildOptions(timing_cache=Path("far/my cache"))
    assert flags(timed) == " --timing-cache 'my cache'"
    assert trtexec_flags(timed, 8) == " --memPoolSize=workspace:8 --timingCacheFile='my cache'"


class _Config:
    """`IBuilderConfig` as far as it is written to."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.pools: dict[str, int] = {}
        self.timing: Any = None

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def create_timing_cache(self, known: bytes) -> Any:
        if known == b"corrupt":
            return None  # as TensorRT does with what it cannot read
        return SimpleNamespace(known=known, serialize=lambda: known + b"+measured")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert cache is not None
        assert ignore_mismatch is False
        if cache.known == b"foreign":
            return False
        self.timing = cache
        return True


def test_options_reach_the_builder() -> None:
    config = _Config()
    names = ("TF32", "VERSION_COMPATIBLE", "STRIP_PLAN", "GPU_FALLBACK")
    trt = SimpleNamespace(
        BuilderFlag=SimpleNamespace(**{name: name for name in names}),
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
        ProfilingVerbosity=SimpleNamespace(DETAILED="DETAILED"),
        DeviceType=SimpleNamespace(DLA="DLA", GPU="GPU"),
    )
    builder = SimpleNamespace(create_builder_config=lambda: config)
    options = BuildOptions(None, None, True, True, 1, True)
    request = {"package": "tensorrt", "sms": (), "workspace": 7, **options.to_json()}
    made = worker_main._config(trt, builder, request)
    assert made.flags == {"VERSION_COMPATIBLE", "STRIP_PLAN", "GPU_FALLBACK"}
    assert made.pools == {"WORKSPACE": 7}
    assert (made.default_device_type, made.DLA_core) == ("GPU", 1)


@pytest.mark.parametrize("before", [None, b"old", b"foreign", b"corrupt"])
def test_timings_are_kept_for_the_next_build(tmp_path, before: bytes | None) -> None:
    file = tmp_path / "timing" / "device.cache"
    if before is not None:
        file.parent.mkdir()
        file.write_bytes(before)
    config = _Config()
    messages: list[tuple[str, str]] = []
    cache = worker_main._read_timing(config, str(file), messages)
    assert config.timing is cache
    begun_anew = [text for _, text in messages if f"{file} is of another device" in text]
    assert len(begun_anew) == len(messages) == (before in (b"foreign", b"corrupt"))
    worker_main._keep_timing(cache, str(file))
    kept = before if before == b"old" else b""
    assert file.read_bytes() == kept + b"+measured"
    assert [p.name for p in file.parent.iterdir()] == ["device.cache"]


def test_a_builder_without_timing_caches_goes_without(tmp_path) -> None:
    config = SimpleNamespace(create_timing_cache=lambda known: None)
    assert worker_main._read_timing(config, str(tmp_path / "absent"), []) is None


@pytest.mark.rtx
def test_the_workspace_limit_is_tensorrts(small_network) -> None:
    with pytest.raises(UnsupportedTargetError, match="workspace"):
        build_engine(small_network("int8"), Target.parse("rtx"), Precision.INT8,
                     BuildOptions(workspace_mib=1))  # fmt: skip


@pytest.mark.rtx
def test_a_real_build_tells_how_far_it_is(small_network) -> None:
    told: list[tuple[int, int]] = []
    build_engine(small_network("int8"), Target.parse("rtx"), Precision.INT8,
                 step=lambda done, total: told.append((done, total)))  # fmt: skip
    done = [d for d, _ in told]
    assert {total for _, total in told} == {100}
    assert done == sorted(done)
    assert len(set(done)) > 10
    assert done[-1] == 100


_STOPPED = """
import sys
import onnx
import tensorrt_rtx as trt
from maskrt.runtime.build.worker_steps import make_monitor

told = []
builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, builder.logger)
assert parser.parse_from_file(sys.argv[1])
config = builder.create_builder_config()
config.progress_monitor = monitor = make_monitor(trt, told.append, lambda: len(told) < 3)
assert builder.build_serialized_network(network, config) is None
assert 3 <= len(told) < 20, told
"""


@pytest.mark.rtx
def test_a_build_that_nobody_wants_any_more_stops(small_network, tmp_path) -> None:
    model = small_network("int8")
    cast_uint8_inputs(model)
    onnx.save(model, tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED, str(tmp_path / "m.onnx")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_phases_inside_phases_are_one_number_that_only_rises() -> None:
    phases = Phases()
    phases.start("building", None, 4)
    assert phases.step("building", 0) == 25
    phases.start("optimising", "building", 2)
    assert phases.step("optimising", 0) == 37
    phases.start("timing", "optimising", 2)
    assert phases.step("timing", 0) == 43
    phases.finish("timing")
    assert phases.percent() == 43
    phases.step("optimising", 1)
    phases.finish("optimising")
    assert phases.step("building", 1) == 50
    phases.start("another", None, 10)  # a build may have several roots
    assert phases.step("another", 0) == 50
    assert phases.step("unheard of", 3) == 50


def test_the_timing_cache_is_one_a_device(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path))
    monkeypatch.setattr(worker, "gpu_names", lambda: ("Orin (nvgpu)/..",))
    found = worker._timing_cache("tensorrt", "10.3.0", BuildOptions())
    assert found == str(tmp_path / "timing" / "tensorrt-10.3.0-Orin_nvgpu_...cache")
    assert worker._timing_cache("tensorrt_rtx", "1.7", BuildOptions()) == ""
    assert worker._timing_cache("tensorrt", "10.3.0", BuildOptions(cache=False)) == ""
    given = BuildOptions(timing_cache=tmp_path / "mine")
    assert worker._timing_cache("tensorrt", "10.3.0", given) == str(tmp_path / "mine")
