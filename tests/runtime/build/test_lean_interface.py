"""What the builder's child asks of full TensorRT is there, in two versions of its real bindings.

`tensorrt-lean` has no builder, but the enumerations, monitor and runtime of its full sister. A
process holds one TensorRT, so each version is asked in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
VERSIONS = ("10.16.1.11", "11.4.0.106")

_ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_lean as trt
from maskrt.runtime.build.capabilities import capabilities_of
from maskrt.runtime.build.worker_steps import make_monitor

told = []
monitor = make_monitor(trt, told.append, lambda: len(told) < 2)
assert isinstance(monitor, trt.IProgressMonitor)
monitor.phase_start("all", None, 4)
goes_on = [monitor.step_complete("all", index) for index in range(2)]
monitor.phase_finish("all")
can = capabilities_of("tensorrt", trt.__version__)
flags = trt.BuilderFlag.__members__
print(json.dumps({
    "version": trt.__version__, "told": told, "goes_on": goes_on, "flags": sorted(flags),
    "dla": hasattr(trt.DeviceType, "DLA"), "pool": hasattr(trt.MemoryPoolType, "WORKSPACE"),
    "detailed": hasattr(trt.ProfilingVerbosity, "DETAILED"),
    "json": hasattr(trt.LayerInformationFormat, "JSON"), "timing": hasattr(trt, "ITimingCache"),
    "dla_core": hasattr(trt.Runtime, "DLA_core"),
    "portable": hasattr(trt.Runtime, "engine_host_code_allowed"),
    "builder_flags": can.builder_flags, "strip": can.strip_weights,
}))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_asked_for_is_there(version: str) -> None:
    lean = ROOT / "build/lean" / version
    if not lean.is_dir():
        pytest.skip(f"TensorRT's bindings are not here: run `make build/lean/{version}`")
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(lean)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] == version
    assert (found["told"], found["goes_on"]) == ([25, 50], [True, False])
    assert {"TF32", "VERSION_COMPATIBLE", "STRIP_PLAN", "GPU_FALLBACK"} <= set(found["flags"])
    for name in ("dla", "dla_core", "pool", "detailed", "json", "timing", "portable", "strip"):
        assert found[name], name
    # The flags that ask for a precision are gone in 11, and maskrt uses them in no version.
    assert ("INT8" in found["flags"]) is version.startswith("10.")
    assert found["builder_flags"] is False
