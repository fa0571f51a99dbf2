"""What the host finds wrong in a kernel: each fault is planted, and must be named."""

from pathlib import Path

import numpy as np
import pytest

from maskrt.plugins.adapters.host import KernelFaultError, build, run_plan, sanitize_plan
from maskrt.plugins.launch import LaunchPlan, Stage, Tensor

KERNEL = """#include "common.cuh"
extern "C" __global__ void f(const float* __restrict__ x, int n, float* __restrict__ y) {{
    __shared__ float s[64];
    {body}
}}"""
X = np.arange(64, dtype=np.float32)


def _plan(folder: Path, body: str, blocks: int = 1, **changes: tuple) -> LaunchPlan:
    source = folder / "kernel.cu"
    source.write_text(KERNEL.format(body=body))
    tensors = {"x": Tensor((64,), "float32"), "y": Tensor((64,), "float32")}
    tensors["n"] = Tensor((64,), "int32")
    parts = {"inputs": ("x",), "extras": (64,), "outputs": ("y",), **changes}
    stage = Stage("f", grid=(blocks, 1, 1), block=64, **parts)
    return LaunchPlan(source, {}, ("x",), ("y",), tensors, (stage,))


FAULTLESS = """s[threadIdx.x] = x[threadIdx.x]; __syncthreads();
    float v = s[63 - threadIdx.x] + __shfl_xor_sync(FULL_WARP, x[threadIdx.x], 1);
    y[threadIdx.x] = v + (float)n;"""


def test_a_faultless_kernel_passes_everything(tmp_path: Path) -> None:
    plan = _plan(tmp_path, FAULTLESS)
    expected = X[::-1] + X.reshape(-1, 2)[:, ::-1].ravel() + 64
    for order in range(4):
        np.testing.assert_array_equal(run_plan(plan, [X], order=order, pattern=order)[0], expected)
    for sanitizer in ("address,undefined", "thread"):
        np.testing.assert_array_equal(sanitize_plan(plan, [X], sanitizer)[0], expected)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("s[0] = x[0]; if (threadIdx.x < 32) { __syncthreads(); } y[threadIdx.x] = n;", "barrier"),
        ("s[0] = 0; if (threadIdx.x < 16) y[n % 64] = __shfl_sync(FULL_WARP, x[0], 0);", "mask"),
        ("s[0] = x[0]; y[threadIdx.x + 1] = n;", "beside tensor 'y'"),
        ("s[0] = 0; y[threadIdx.x] = n; ((float*)x)[threadIdx.x] = 1;", "input 'x' was written"),
        ("s[0] = 0; y[threadIdx.x] = __shfl_sync(1u, x[n % 64], 5);", "mask"),
    ],
)
def test_faults_that_every_run_finds(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(KernelFaultError, match=words):
        run_plan(_plan(tmp_path, body), [X])


def test_uninitialised_shared_memory_gives_two_results(tmp_path: Path) -> None:
    plan = _plan(tmp_path, "y[threadIdx.x] = x[threadIdx.x] + s[threadIdx.x] + n;")
    first, second = (run_plan(plan, [X], pattern=p)[0] for p in (0xFF, 0x00))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("s[0] = 0; y[threadIdx.x] = x[threadIdx.x + 1] + n;", "heap-buffer-overflow"),
        ("if (threadIdx.x == 0) { s[n] = x[0]; } y[threadIdx.x] = s[0];", "out of bounds"),
        ("s[0] = 0; y[threadIdx.x] = ((const float4*)(x + 1))[0].x + n;", "misaligned"),
    ],
)
def test_faults_that_the_address_sanitizer_finds(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(KernelFaultError, match=words):
        sanitize_plan(_plan(tmp_path, body), [X], "address,undefined")


@pytest.mark.parametrize(
    ("body", "blocks"),
    [
        ("s[threadIdx.x] = x[threadIdx.x]; y[threadIdx.x] = s[63 - threadIdx.x] + n;", 1),
        # The second round writes what some threads still read from the first.
        (
            "for (int i = 0; i < 3; ++i) { s[threadIdx.x] = x[threadIdx.x] + i; __syncthreads(); "
            "y[threadIdx.x] = s[63 - threadIdx.x] + n; }",
            1,
        ),
        # A warp's barrier does not order the other warp.
        (
            "s[threadIdx.x] = x[threadIdx.x]; __syncwarp(); "
            "y[threadIdx.x] = s[63 - threadIdx.x] + n;",
            1,
        ),
        ("s[0] = 0; if (threadIdx.x == 0) y[0] = x[0] + n;", 2),  # two blocks, one place
    ],
)
def test_races_that_the_thread_sanitizer_finds(tmp_path: Path, body: str, blocks: int) -> None:
    body = body.replace("s[0] = 0;", "s[threadIdx.x] = 0;")
    with pytest.raises(KernelFaultError, match="data race"):
        sanitize_plan(_plan(tmp_path, body, blocks), [X], "thread")


@pytest.mark.parametrize(
    ("body", "blocks"),
    [
        ("s[threadIdx.x] = x[threadIdx.x]; atomicAdd((int*)y, n);", 2),
        ("s[threadIdx.x] = x[0]; __syncwarp(); y[threadIdx.x] = s[threadIdx.x ^ 1] + n;", 1),
        ("s[0] = x[n % 64] + __shfl_xor_sync(FULL_WARP, x[0], 1); if (n < 0) y[0] = 0;", 3),
    ],
)
def test_no_race_is_seen_where_there_is_none(tmp_path: Path, body: str, blocks: int) -> None:
    body = body.replace("s[0] =", "s[threadIdx.x] =")
    sanitize_plan(_plan(tmp_path, body, blocks), [X], "thread")


@pytest.mark.parametrize(
    "changes",
    [{"extras": ()}, {"extras": (64, 64)}, {"inputs": ("x", "x")}, {"inputs": ("n",)}],
    ids=str,
)
def test_another_argument_list_is_refused(tmp_path: Path, changes: dict[str, tuple]) -> None:
    with pytest.raises(KernelFaultError, match=r"takes .* passes"):
        run_plan(_plan(tmp_path, FAULTLESS, **changes), [X])


def test_inputs_of_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="input 'x'"):
        run_plan(_plan(tmp_path, FAULTLESS), [X[:32]])


def test_a_library_that_others_may_write_is_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded as code, and the cache may lie where others write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build._folder.cache_clear()
    try:
        plan = _plan(tmp_path, FAULTLESS)
        library = build.build(plan)
        assert library.parent.stat().st_mode & 0o077 == 0
        made = library.read_bytes()
        library.write_bytes(b"somebody else's code")
        library.chmod(0o666)
        assert build.build(plan).read_bytes() == made
        before = library.stat().st_mtime_ns
        assert build.build(plan).stat().st_mtime_ns == before
    finally:
        build._folder.cache_clear()
