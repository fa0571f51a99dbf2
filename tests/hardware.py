"""How far each path to a device has been executed, and by which tests: `docs/hardware.md`'s table.

    python tests/hardware.py --write      write the table into the document

The levels, each of which includes what is before it:

| level | meaning |
|---|---|
| text | what the device is handed is written, and compared with the documentation |
| parsed | a parser of the program that takes it has taken it |
| host | its code has run on a CPU, with stand-ins where the device's libraries would answer |
| real part | NVIDIA's own library or bindings have run it, without a GPU |
| GPU, Jetson | it has run there |
"""

import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["LEVELS", "PATHS", "Row", "table"]

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "hardware.md"
START, END = "<!-- paths -->\n", "<!-- end of paths -->\n"
LEVELS = ("text", "parsed", "host", "real part", "GPU", "Jetson")


class Row(NamedTuple):
    """One path: its name, the furthest level, what that was, and the tests that show it."""

    path: str
    level: str
    what: str
    tests: tuple[str, ...]


PATHS = (
    Row("TensorRT-RTX's builder", "real part",
        "engines built without a GPU, their precisions read back from the plan",
        ("tests/runtime/build/test_rtx.py", "tests/runtime/build/test_plan_text.py")),
    Row("TensorRT's builder (`--here`)", "host",
        "its child with a stand-in; what lies between the plugins built by TensorRT-RTX; flags, "
        "monitor and runtime compared with the bindings of 10.16 and 11.4",
        ("tests/runtime/build/test_full_tensorrt.py", "tests/runtime/build/test_segments.py",
         "tests/runtime/build/test_lean_interface.py")),
    Row("Inspector's verdict", "host", "reports written by hand",
        ("tests/runtime/build/test_tensorrt.py",)),
    Row("`IPluginV3`", "real part",
        "TensorRT's registry with the bindings of 10.3, 10.9, 10.13, 10.16 and 11.4, NumPy 1.26 "
        "and 2; `enqueue` runs the kernels on the CPU",
        ("tests/plugins/adapters/test_tensorrt.py",)),
    Row("AOT plugins", "real part",
        "TensorRT's `plugin` package of 10.9, 10.13, 10.16 and 11.4; what it is told is launched "
        "on the CPU", ("tests/plugins/adapters/test_tensorrt.py",)),
    Row("CUDA kernels", "real part",
        "compiled by NVRTC for SM 7.5 to 12.0; run on the CPU against their references, and with "
        "sanitizers", ("tests/plugins/test_kernels.py", "tests/plugins/test_host_adapter.py",
         "tests/plugins/test_batched_nms_kernel.py")),
    Row("Running TensorRT engines", "host", "TensorRT played by a stand-in of its interface",
        ("tests/runtime/backends/test_tensorrt.py", "tests/runtime/test_every_backend.py")),
    Row("cuda-python, pycuda", "host",
        "stand-ins whose names are compared with cuda-python's own; without a driver, "
        "cuda-bindings 12.8 and 13 themselves",
        ("tests/runtime/cuda/test_contract.py",)),
    Row("CUDA graphs, whole frames", "host",
        "the frame's code and kernels on the CPU, by a contract stricter than CUDA's",
        ("tests/runtime/cuda/test_frame.py", "tests/runtime/cuda/test_session_on_device.py")),
    Row("DLA", "host", "chosen by NVIDIA's table; the builder is a stand-in",
        ("tests/calib/test_dla.py", "tests/runtime/build/test_tensorrt8_dla.py",
         "tests/runtime/build/test_full_tensorrt.py")),
    Row("TensorRT 8 by `trtexec`", "parsed",
        "the graph runs in ONNX Runtime with the plugins emulated, its rest is built by "
        "TensorRT-RTX; `trtexec`'s words are compared with the documentation",
        ("tests/runtime/build/test_tensorrt8.py",)),
    Row("DeepStream", "parsed",
        "TensorRT-RTX parses the graph; the parser is compiled against nvinfer's published "
        "structures and run; keys are compared with the documentation",
        ("tests/packaging/deepstream/test_package.py",
         "tests/packaging/deepstream/test_parser.py")),
    Row("`maskrt build --kit`", "host",
        "its scripts install without a network; the smoke test runs to where a GPU is needed, and "
        "on target `cpu` to the end",
        ("tests/kit/test_kit.py", "tests/kit/test_offline.py")),
    Row("A Jetson's processor", "host",
        "emulated aarch64, Debian's Python 3.11 in the place of JetPack's: the kit's scripts, "
        "`cpu` engines, kernels, `IPluginV3` in TensorRT 10.16's registry; DeepStream's parser "
        "is compiled for it", ("tests/kit/test_aarch64.py",)),
    Row("Triton", "host",
        "a real Triton server on the CPU, with a backend of the tests' in NVIDIA's place",
        ("tests/packaging/test_triton_server.py", "tests/examples/test_triton_client.py")),
    Row("C++ without Python (`examples/cpp`)", "host",
        "TensorRT played by headers of the tests'; letterbox, boxes and masks compared with a "
        "session's", ("tests/examples/test_cpp.py",)),
)  # fmt: skip


def table() -> str:
    """Return the table's text."""
    lines = ["| path | executed so far | what that was | shown by |", "|---|---|---|---|"]
    for row in PATHS:
        shown = ", ".join(f"`{name.removeprefix('tests/')}`" for name in row.tests)
        lines.append(f"| {row.path} | {row.level} | {row.what} | {shown} |")
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    """Print the table, or write it into the document."""
    if words != ["--write"]:
        sys.stdout.write(table())
        return 0
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    DOCUMENT.write_text(before + START + table() + END + rest.partition(END)[2], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
