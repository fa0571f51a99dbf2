"""Every operator's kernels compile cleanly for every GPU that maskrt names, and spill nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maskrt.core import MissingDependencyError, UnsupportedTargetError
from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters import nvrtc
from maskrt.plugins.adapters.nvrtc import compile_plan, compile_source
from maskrt.plugins.launch import LaunchPlan

from .examples import EXAMPLES, example_plan

SMS = (75, 80, 86, 87, 89, 90, 100, 110, 120)
FAST = (75, 87)  # the oldest, and Orin
SHARED_LIMIT = 48 * 1024  # what TensorRT's AOT plugins may use
DOCS = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def test_every_operator_has_examples() -> None:
    assert {name for name, _ in EXAMPLES} == set(OPERATORS)


@pytest.mark.parametrize(
    "sm", [pytest.param(sm, marks=[] if sm in FAST else [pytest.mark.slow]) for sm in SMS]
)
@pytest.mark.parametrize("key", EXAMPLES, ids="-".join)
def test_compiles_without_warning_or_spill(key: tuple[str, str], sm: int) -> None:
    plan = example_plan(key)
    usage = compile_plan(plan, sm, "cubin").usage
    assert {stage.entry for stage in plan.stages} <= set(usage)
    for name, needs in usage.items():
        assert needs.spilled == 0, name
        assert needs.shared <= SHARED_LIMIT, name
        blocks = [s.block for s in plan.stages if s.entry == name]
        assert all(needs.registers * block <= 65536 for block in blocks), name


@pytest.mark.parametrize("key", EXAMPLES, ids="-".join)
def test_ptx_takes_what_the_plan_passes(key: tuple[str, str]) -> None:
    """Count and kind of a kernel's parameters, as the driver will see them."""
    plan = example_plan(key)
    text = compile_plan(plan, 87).code.decode()
    for stage in plan.stages:
        found = re.search(rf"\.entry {stage.entry}\((.*?)\)", text, re.DOTALL)
        assert found, stage.entry
        kinds = re.findall(r"\.param \.(?:\w+ \.\w+ \.\w+ )?\.?(u64|u32|b64|b32)", found[1])
        pointers = {"u64": "pointer", "b64": "pointer", "u32": "int", "b32": "int"}
        assert [pointers[k] for k in kinds] == [
            *["pointer"] * len(stage.inputs),
            *["int"] * len(stage.extras),
            *["pointer"] * len(stage.outputs),
        ]


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "warns.cu"
    source.write_text('extern "C" __global__ void f(float* x) { int unused; *x = 1.0f; }')
    with pytest.raises(RuntimeError, match="does not compile cleanly"):
        compile_source(source, (), 87, "ptx")


def test_a_spill_is_seen(tmp_path: Path) -> None:
    """The figure that the other tests hold to zero can be other than zero."""
    source = tmp_path / "spills.cu"
    source.write_text(
        'extern "C" __global__ void __launch_bounds__(1024) f(float* x, int n) {\n'
        "float v[128];\n"
        "#pragma unroll\nfor (int i = 0; i < 128; ++i) v[i] = x[i * n];\n"
        "for (int k = 0; k < n; ++k)\n"
        "#pragma unroll\nfor (int i = 0; i < 128; ++i) v[i] = v[i] * v[127 - i] + x[k];\n"
        "#pragma unroll\nfor (int i = 0; i < 128; ++i) x[i * n] = v[i];\n}"
    )
    assert compile_source(source, (), 87, "cubin").usage["f"].spilled > 0


def test_kernels_compile_without_torch() -> None:
    """As on a device: PyTorch, where it was imported, has opened NVRTC's builtins already."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from maskrt.plugins.adapters.nvrtc import compile_source\n"
        "print(len(compile_source(Path(sys.argv[1]), (), 87, 'cubin').code))\n"
        "assert 'torch' not in sys.modules"
    )
    source = Path(__file__).parents[2] / "runtime" / "cuda" / "kernel.cu"
    words = ["-c", code.replace("()", "(('THREADS', '256'),)", 1), str(source)]
    environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def test_unknown_sm_is_refused() -> None:
    with pytest.raises(UnsupportedTargetError, match="SM 53"):
        compile_plan(example_plan(next(iter(EXAMPLES))), 53)


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    nvrtc._library.cache_clear()
    nvrtc.supported_sms.cache_clear()
    nvrtc.compile_source.cache_clear()
    monkeypatch.setattr(nvrtc, "_candidates", lambda: ["libnvrtc-of-nowhere.so"])
    try:
        with pytest.raises(MissingDependencyError, match="pip install nvidia-cuda-nvrtc"):
            compile_plan(example_plan(next(iter(EXAMPLES))), 87)
    finally:
        nvrtc._library.cache_clear()


def _kernels(plan: LaunchPlan) -> set[str]:
    return {stage.entry for stage in plan.stages}


def test_the_docs_list_every_kernel() -> None:
    """`python benchmarks/kernels.py --docs` writes the table."""
    text = DOCS.read_text(encoding="utf-8").partition("<!-- kernels: begin -->")[2]
    wanted = set().union(*(_kernels(example_plan(key)) for key in EXAMPLES))
    assert wanted == set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
