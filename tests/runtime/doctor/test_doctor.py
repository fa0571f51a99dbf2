"""Facts are read from a machine's files, and each known failure is recognised from its facts."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from maskrt.cli import main
from maskrt.cli.calibrate import command as calibrate_command
from maskrt.core import Bundle, InputSpec, Manifest, Precision
from maskrt.runtime.doctor import FAILURES, Finding, Level, Probe, doctor, look

from ...built import note_built

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x\n"
DPKG = """Package: libc6
Version: 2.35

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5
"""
MODES = "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=10W >\n"
PACKAGES = {"numpy": "1.26.4", "onnx": "1.17.0"}


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _jetson(root: Path, **changes: Any) -> Probe:
    """An Orin NX with JetPack 6.2, in 10 W mode, in an environment that sees the system."""
    _write(
        root,
        {
            "etc/nv_tegra_release": RELEASE,
            "proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Kit\0",
            "proc/meminfo": "MemTotal: 7802000 kB\nMemAvailable: 5200000 kB\nSwapTotal: 0 kB\n",
            "etc/nvpmodel.conf": MODES,
            "var/lib/nvpmodel/status": "pmode:0001",
            "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
            "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
            "usr/local/cuda/version.json": '{"cuda": {"version": "12.6.68"}}',
            "var/lib/dpkg/status": DPKG,
            "venv/pyvenv.cfg": "include-system-site-packages = true\n",
        },
    )
    settings = {
        "root": root, "version": {**PACKAGES, "tensorrt": "10.3.0"}.get, "sms": lambda: (87,),
        "driver_cuda": lambda: (12, 6), "environment": {}, "python": "3.10.12",
        "architecture": "aarch64", "in_venv": True, "venv": root / "venv",
    }  # fmt: skip
    return Probe(**{**settings, **changes})


def _desktop(root: Path, **changes: Any) -> Probe:
    """A workstation with an RTX 4090, a driver and TensorRT-RTX."""
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
    _write(
        root,
        {
            "proc/driver/nvidia/version": version,
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA RTX 4090\n",
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
            "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
            "proc/meminfo": "MemTotal: 65802000 kB\nMemAvailable: 5200000 kB\n",
        },
    )
    settings = {
        "root": root, "version": {**PACKAGES, "tensorrt-rtx": "1.7.1"}.get, "sms": lambda: (89,),
        "driver_cuda": lambda: (12, 8), "environment": {}, "in_venv": False,
    }  # fmt: skip
    return Probe(**{**settings, **changes})


def _found(probe: Probe, bundle: Path | None = None) -> set[str]:
    return {finding.failure for finding in doctor(bundle, probe=probe).findings}


def test_facts_of_a_jetson(tmp_path: Path) -> None:
    machine = look(_jetson(tmp_path))
    assert machine.jetson is not None
    assert machine.jetson.model.startswith("NVIDIA Jetson Orin NX")
    assert (machine.jetson.l4t, machine.jetson.jetpack) == ("36.4.3", "6.2")
    assert machine.jetson.power_mode == "1 10W"
    assert (machine.jetson.gpu_mhz, machine.jetson.gpu_max_mhz) == (306, 918)
    assert (machine.toolkit, machine.system_tensorrt) == ("12.6.68", "10.3.0.30")
    assert (machine.memory_gb, machine.swap_gb, machine.venv) == (8.0, 0.0, "system-site")


@pytest.mark.parametrize(
    ("release", "revision", "jetpack"),
    [
        (32, "7.6", "4"), (35, "4.1", "5.1"), (36, "3.0", "6.0"), (36, "4", "6.1"),
        (36, "4.7", "6.2.1 or later"), (38, "4.0", "7.1"), (39, "2.0", "7.2"),
        (39, "2.1", "7.2.1"), (39, "3.0", "7.2.2 or later"), (41, "1.0", ""),
    ],
)  # fmt: skip
def test_jetpack_of_an_l4t(tmp_path: Path, release: int, revision: str, jetpack: str) -> None:
    probe = _jetson(tmp_path)
    text = RELEASE.replace("R36", f"R{release}").replace("4.3", revision)
    _write(tmp_path, {"etc/nv_tegra_release": text})
    found = look(probe).jetson
    assert found is not None
    assert found.jetpack == jetpack


def test_fields_are_misread_by_some_versions_alone(tmp_path: Path) -> None:
    for numpy, tensorrt in (("1.26.4", "10.3.0"), ("2.3.0", "10.16.1"), ("2.3.0", "11.4.0")):
        version = {**PACKAGES, "numpy": numpy, "tensorrt": tensorrt}.get
        assert "numpy-misreads-fields" not in _found(_jetson(tmp_path, version=version))


def test_facts_of_a_desktop(tmp_path: Path) -> None:
    machine = look(_desktop(tmp_path))
    assert machine.jetson is None
    assert [(gpu.sm, gpu.name) for gpu in machine.gpus] == [(89, "NVIDIA RTX 4090")]
    assert (machine.driver, machine.driver_cuda, machine.nvidia_cards) == ("570.86.15", "12.8", 1)
    assert _found(_desktop(tmp_path)) == set()


def test_an_empty_machine_is_no_error(tmp_path: Path) -> None:
    nothing = Probe(root=tmp_path, version=lambda _: None, sms=tuple, driver_cuda=lambda: None)
    assert doctor(probe=nothing).findings == ()


def test_a_small_jetson_in_a_slow_mode(tmp_path: Path) -> None:
    assert _found(_jetson(tmp_path)) == {"build-out-of-memory", "slow-power-mode"}


@pytest.mark.parametrize(
    ("change", "files", "expected"),
    [
        ({"version": PACKAGES.get}, {"venv/pyvenv.cfg": ""}, "venv-hides-tensorrt"),
        ({"version": PACKAGES.get}, {}, "no-tensorrt"),
        ({"version": {**PACKAGES, "tensorrt-cu12": "10.16.1.11"}.get}, {}, "foreign-tensorrt"),
        ({}, {"etc/nv_tegra_release": RELEASE.replace("R36", "R35")}, "jetpack-too-old"),
        ({"version": {"pycuda": "2024.1", "tensorrt": "10.3.0"}.get}, {}, "context-in-threads"),
        ({"version": {"numpy": "2.4.0", "tensorrt": "10.3.0"}.get}, {}, "numpy-too-new"),
        ({"version": {"numpy": "2.0.0", "tensorrt": "10.15.1"}.get}, {}, "numpy-misreads-fields"),
        ({"driver_cuda": lambda: (12, 2)}, {}, "driver-older-than-toolkit"),
    ],
)
def test_failures_of_a_jetson(
    tmp_path: Path, change: dict[str, Any], files: dict[str, str], expected: str
) -> None:
    assert expected not in _found(_jetson(tmp_path))
    probe = _jetson(tmp_path, **change)
    _write(tmp_path, files)
    assert expected in _found(probe)


def test_failures_of_a_desktop(tmp_path: Path) -> None:
    none: dict[str, Any] = {"sms": lambda: (), "driver_cuda": lambda: None}
    probe = _desktop(tmp_path, **none)
    assert _found(probe) == {"gpu-hidden"}
    (tmp_path / "proc/driver/nvidia/version").unlink()
    assert _found(probe) == {"no-driver"}
    assert _found(_desktop(tmp_path, version=PACKAGES.get)) == {"no-tensorrt"}


INFO: dict[str, Any] = {
    "backend": "tensorrt_rtx", "backend_version": "1.7.1", "precision": "int8",
    "layers": {"int8": 50, "fp16": 0, "fp32": 0, "unknown": 0}, "wider": [],
    "kernels": {"rounding": 0},
}  # fmt: skip


RECIPE: dict[str, Any] = {
    "format_version": 3, "graph": "0123", "precision": "int8", "rest": "fp32", "method": "minmax",
    "calibration": {"pictures": 4}, "layers": {},
    "tensors": {"x": {"min": 0.0, "max": 1.0, "scales": {"minmax": 0.5}}},
}  # fmt: skip


def _bundle(path: Path, engines: dict[str, Any], fidelity: dict[str, Any] | None = None) -> Path:
    manifest = Manifest(
        "test", InputSpec(64, 64), {"count": (1,)}, precision=Precision.INT8,
        fidelity=fidelity or {},
    )  # fmt: skip
    note_built(b"engine")
    with Bundle.create(path, manifest) as bundle:
        bundle.write("model.onnx", b"graph")
        for name, info in engines.items():
            bundle.write(f"engines/{name}/engine.trt", b"engine")
            bundle.write(f"engines/{name}/engine.json", info)
    return path


def _layers(**counts: int) -> dict[str, Any]:
    return {"layers": {**dict.fromkeys(INFO["layers"], 0), **counts}}


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("rtx", {}, set()),
        ("rtx", _layers(fp32=50), {"wider-than-asked"}),
        ("rtx", _layers(int8=49, fp32=1), {"wider-than-asked"}),
        ("rtx", _layers(int8=49, unknown=1), {"precision-unknown"}),
        ("rtx", {"kernels": {"rounding": 38}}, {"int8-slower"}),
        ("rtx", {"backend_version": "1.6.0"}, {"other-tensorrt"}),
        ("rtx-120", {}, {"other-gpu"}),
        ("gpu", {"backend": "tensorrt", "sms": [89], "form": "aot"}, {"no-tensorrt"}),
        ("cpu", {"backend": "onnxruntime", "precision": "fp16"}, {"cpu-fp16"}),
        ("mars", {}, {"damaged-bundle"}),
        ("rtx", {"layers": 3}, {"damaged-bundle"}),
    ],
)
def test_engines(tmp_path: Path, name: str, change: dict[str, Any], expected: set[str]) -> None:
    path = _bundle(tmp_path / "b.maskrt", {name: {**INFO, **change}})
    assert _found(_desktop(tmp_path / "root"), path) == expected


def test_an_engine_of_full_tensorrt_with_plugins(tmp_path: Path) -> None:
    info = {**INFO, "backend": "tensorrt", "backend_version": "10.3.0", "sms": [87]}
    path = _bundle(tmp_path / "b.maskrt", {"orin-nx": {**info, "form": "plugins"}})
    found = _found(_jetson(tmp_path / "root"), path)
    assert found == {"build-out-of-memory", "slow-power-mode", "plugin-not-found"}


def test_an_fp32_engine_that_was_to_be_int8_is_an_error(tmp_path: Path) -> None:
    path = _bundle(tmp_path / "b.maskrt", {"rtx": {**INFO, **_layers(fp32=50)}})
    diagnosis = doctor(path, probe=_desktop(tmp_path / "root"))
    assert not diagnosis.healthy
    assert diagnosis.findings[0].command.startswith(f"maskrt build {path} --target rtx")


def test_layers_that_the_recipe_keeps_back_need_no_note(tmp_path: Path) -> None:
    change = {**_layers(int8=48, fp32=2), "wider": ["stem", "head"], "backend": "onnxruntime"}
    path = _bundle(tmp_path / "b.maskrt", {"cpu": {**INFO, **change}})
    kept = {"precision": "fp32", "reason": "3 input channels", "refuses": {"int8": "3 channels"}}
    asked = {"precision": "int8", "reason": "as asked", "refuses": {}}
    recipe = {**RECIPE, "calibration": {}, "tensors": {}}

    def findings(layers: dict[str, Any]) -> list[Finding]:
        with Bundle.open(path).edit() as staged:
            staged.write("recipe.json", {**recipe, "layers": layers})
        return list(doctor(path, probe=_desktop(tmp_path / "root")).findings)

    assert findings({"stem": kept, "head": kept}) == []
    (found,) = findings({"stem": kept, "head": asked})
    assert found.seen == "cpu: 1 layer computes wider than int8 (head)."
    assert "ONNX Runtime" in found.cause
    assert "TensorRT" not in found.cause + found.fix


def test_the_verdict_on_int8_is_the_one_of_the_build(tmp_path: Path) -> None:
    def seen(payoff: dict[str, Any]) -> list[str]:
        info = {**INFO, "kernels": {"rounding": 38}, "payoff": payoff}
        path = _bundle(tmp_path / "b.maskrt", {"rtx": info})
        return [f.seen for f in doctor(path, probe=_desktop(tmp_path / "root")).findings]

    assert seen({"pays": True, "sentence": "INT8 should be faster."}) == []
    assert seen({"pays": False, "sentence": "INT8 gains little."}) == ["rtx: INT8 gains little."]
    assert seen({}) == ["rtx: 38 rounding kernels beside the convolutions."]


def test_engines_for_a_gpu_that_is_not_here_are_named_together(tmp_path: Path) -> None:
    path = _bundle(tmp_path / "b.maskrt", {"rtx": INFO, "rtx@fp16": INFO, "rtx-120": INFO})
    none = Probe(root=tmp_path / "root", version=lambda _: None, sms=tuple,
                 driver_cuda=lambda: None)  # fmt: skip
    found = [f for f in doctor(path, probe=none).findings if f.failure == "other-gpu"]
    assert [f.seen.partition(" a GPU")[0] for f in found] == ["rtx, rtx@fp16 need", "rtx-120 needs"]
    for finding in found:
        assert finding.fix.startswith("Run on target cpu here, or copy the bundle")
    (other,) = doctor(path, probe=_desktop(tmp_path / "root")).findings
    assert other.level is Level.WARNING
    assert "build for the GPU that is here" in other.fix


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    path = _bundle(tmp_path / "so lo.maskrt", {"rtx": {**INFO, **_layers(fp32=50)}})
    prepared = {
        "bundle": "old.maskrt", "build_memory_mib": 10, "commands": {
            "build": "~/maskrt/bin/maskrt build old.maskrt --target orin-nx --here"},
    }  # fmt: skip
    with Bundle.open(path).edit() as staged:
        staged.write("recipe.json", RECIPE)
        staged.write("engines/orin-nx/prepared.json", prepared)
    found = doctor(path, probe=_desktop(tmp_path / "root")).findings
    words = {f.failure: shlex.split(f.command) for f in found}
    assert words["wider-than-asked"][:5] == ["maskrt", "build", str(path), "--target", "rtx"]
    assert words["prepared-only"][2:5] == ["so lo.maskrt", "--target", "orin-nx"]
    calibrate = words["few-calibration-pictures"]
    context = calibrate_command.make_context("calibrate", calibrate[2:])
    assert (context.params["bundle"], context.params["calibration"]) == (path, Path("PICTURES"))


def test_fidelity_and_files(tmp_path: Path) -> None:
    fidelity = {"instances": 0, "pictures": 2, "violations": ["worst box IoU is 0.8."]}
    path = _bundle(tmp_path / "b.maskrt", {"rtx": INFO}, fidelity)
    probe = _desktop(tmp_path / "root")
    assert _found(probe, path) == {"no-detections", "conversion-loss"}
    few = {"instances": 3, "pictures": 2, "violations": [], "warnings": ["Only 3."]}
    assert _found(probe, _bundle(tmp_path / "c.maskrt", {"rtx": INFO}, few)) == {"little-proven"}
    (path / "model.onnx").write_bytes(b"other")
    (path / "engines/rtx/engine.trt").unlink()
    errors = [f for f in doctor(path, probe=probe).findings if f.level is Level.ERROR]
    assert [f.failure for f in errors] == ["damaged-bundle"] * 2
    assert _found(probe, tmp_path / "nowhere") == {"damaged-bundle"}


def test_recipe_and_missing_engine(tmp_path: Path) -> None:
    path = _bundle(tmp_path / "b.maskrt", {})
    with Bundle.open(path).edit() as staged:
        staged.write("recipe.json", RECIPE)
    found = _found(_desktop(tmp_path / "root"), path)
    assert found == {"no-engine", "few-calibration-pictures"}


def test_every_failure_is_complete_sentences() -> None:
    for key, known in FAILURES.items():
        assert known.cause.endswith("."), key
        assert known.fix.endswith("."), key
        assert not known.symptom.endswith("."), key


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    bundle = str(_bundle(tmp_path / "b.maskrt", {}))
    _, text = run(bundle, "--json")
    assert {f["failure"] for f in json.loads(text)["findings"]} >= {"no-engine"}
    (tmp_path / "b.maskrt/model.onnx").write_bytes(b"other")
    status, text = run(bundle)
    assert status == 1
    assert "is not the file that maskrt wrote" in text
    assert FAILURES["damaged-bundle"].fix in text
    status, text = run("--known")
    assert status == 0
    assert all(known.symptom in text for known in FAILURES.values())


def test_pycuda_is_said_to_be_used_where_it_is(tmp_path: Path) -> None:
    def seen(packages: dict[str, str]) -> str:
        found = doctor(probe=_jetson(tmp_path, version=packages.get)).findings
        return next(f.seen for f in found if f.failure.startswith("context"))

    alone = {"pycuda": "2024.1", "tensorrt": "10.3.0"}
    assert "maskrt runs engines by it" in seen(alone)
    assert "uses cuda-bindings instead" in seen({**alone, "cuda-bindings": "12.6.0"})


@pytest.mark.parametrize("release", [f"R{'3' * 5000} (release), REVISION: 4.3",
                                     "R36 (release), REVISION: " + "4" * 5000])  # fmt: skip
def test_numbers_without_end_are_left_out(tmp_path: Path, release: str) -> None:
    """A file of the system's can be anybody's, in a container."""
    files = {
        "etc/nv_tegra_release": f"# {release}, GCID: 1",
        "proc/device-tree/model": "NVIDIA Jetson Orin NX\0",
        "proc/meminfo": f"MemTotal: {'9' * 5000} kB\nMemAvailable: 5200000 kB\n",
        "etc/nvpmodel.conf": f"< POWER_MODEL ID={'1' * 5000} NAME=MAXN >",
        "var/lib/nvpmodel/status": f"pmode:{'1' * 5000}",
        "sys/class/devfreq/17000000.gpu/cur_freq": "\u00b2",
        "sys/class/devfreq/17000000.gpu/max_freq": "9" * 5000,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = look(Probe(tmp_path, lambda _: None, lambda: (), lambda: None, {}, venv=tmp_path))
    assert found.memory_free_gb == 5.3
    assert found.jetson is not None
    assert (found.jetson.power_mode, found.jetson.gpu_mhz) == ("", 0)
    assert len(found.jetson.l4t) < 30
