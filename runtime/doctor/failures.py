"""The known failures of TensorRT deployments, as data: what is seen, why, and what to do.

A finding is a failure that was recognised here, with the evidence. The failures that cannot be
recognised by looking (a program of one's own that crashes) are in the table all the same, for
`maskrt doctor --known`.
"""

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["FAILURES", "Failure", "Finding", "Level"]


class Level(str, enum.Enum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Failure:
    """One known failure.

    Attributes:
        symptom: what a user sees.
        cause: why.
        fix: what to do.
        source: where users reported it, or empty.
    """

    symptom: str
    cause: str
    fix: str
    source: str = ""


@dataclass(frozen=True)
class Finding:
    """A failure that was recognised.

    Attributes:
        failure: key in `FAILURES`.
        level: how bad it is.
        seen: the evidence, one sentence.
        command: what to run, if a command mends it.
        cause: why, here; empty is what `FAILURES` says.
        fix: what to do, here; likewise.
    """

    failure: str
    level: Level
    seen: str
    command: str = ""
    cause: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        """Take from `FAILURES` what is not said of this one."""
        object.__setattr__(self, "cause", self.cause or FAILURES[self.failure].cause)
        object.__setattr__(self, "fix", self.fix or FAILURES[self.failure].fix)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, cause and fix included."""
        return {
            "failure": self.failure,
            "level": self.level.value,
            "seen": self.seen,
            "cause": self.cause,
            "fix": self.fix,
            "command": self.command,
        }


FAILURES: dict[str, Failure] = {
    "no-driver": Failure(
        "no CUDA device is found although a card is there",
        "The NVIDIA kernel driver is not loaded.",
        "Install the driver for this kernel, restart, and see that nvidia-smi lists the card.",
    ),
    "gpu-hidden": Failure(
        "the driver is loaded and no CUDA device is visible",
        "The container was started without the GPU, or CUDA_VISIBLE_DEVICES hides it.",
        "Start the container with --gpus all (on a Jetson --runtime nvidia), or unset "
        "CUDA_VISIBLE_DEVICES.",
    ),
    "driver-older-than-toolkit": Failure(
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION, or a plugin's kernel does not load",
        "The driver compiles PTX only of its own CUDA version and older ones.",
        "Update the driver, or install a CUDA toolkit and NVRTC that are not newer than the driver "
        "and build again.",
    ),
    "venv-hides-tensorrt": Failure(
        "No module named 'tensorrt' on a Jetson that has it",
        "JetPack installs TensorRT into the system's Python, which a plain virtual environment "
        "does not see.",
        "Make the environment with --system-site-packages and the system's python3.",
    ),
    "foreign-tensorrt": Failure(
        "TensorRT crashes or finds no device on a Jetson",
        "A TensorRT wheel from PyPI shadows the one that JetPack made for this module.",
        "Uninstall the wheel, and use JetPack's own TensorRT through --system-site-packages.",
    ),
    "no-tensorrt": Failure(
        "engines for this GPU can be neither built nor run",
        "Neither TensorRT nor TensorRT-RTX is installed for this Python.",
        "Install one of them: on a desktop pip install 'maskrt[rtx]', on a Jetson JetPack's own.",
    ),
    "numpy-too-new": Failure(
        "AOT plugins fail in numpy while TensorRT builds",
        "TensorRT 11.1 and older use an interface that numpy 2.4 removed. maskrt's plugins do not.",
        "Install numpy older than 2.4 for plugins of other programs.",
    ),
    "numpy-misreads-fields": Failure(
        "a Python plugin gets [0.25, 0.25] where the graph says [0.25, 0.125]",
        "With numpy 2, the Python bindings of TensorRT 10.0 to 10.15 read each element of a plugin "
        "field as its first. maskrt's plugins have fields of one element alone, which are right; "
        "those of other programs are not.",
        "Install numpy older than 2, as the prepared command does: pip install 'numpy<2'.",
    ),
    "jetpack-too-old": Failure(
        "maskrt does not install on the device, or its TensorRT is refused",
        "JetPack 5 has Python 3.8 and TensorRT 8.5, and JetPack 6.0 TensorRT 8.6: no strongly "
        "typed networks.",
        "Install JetPack 6.1 or later, or build the prepared folder with trtexec.",
    ),
    "build-out-of-memory": Failure(
        "the build is killed on a Jetson",
        "Weights, tactics under test and workspace share the module's memory with the system.",
        "Close the desktop (sudo systemctl isolate multi-user.target), add swap, and keep the "
        "workspace limit that maskrt build chose.",
        "NVIDIA/TensorRT#424",
    ),
    "slow-power-mode": Failure(
        "latency is far from what others measure on the same module",
        "The power mode caps clocks and cores, or the GPU's clock follows the load.",
        "Choose the highest mode (sudo nvpmodel -m ID, as /etc/nvpmodel.conf lists them), then "
        "sudo jetson_clocks.",
    ),
    "wider-than-asked": Failure(
        "FP16 or INT8 was asked for, and the engine is FP32",
        "Builder flags are permissions: TensorRT falls back where a layer has no faster kernel or "
        "no scale. A strongly typed graph leaves no such choice.",
        "Build with maskrt build, which reads the precisions back and refuses such an engine.",
        "roboflow/rf-detr#1453",
    ),
    "precision-unknown": Failure(
        "it cannot be told what layers compute in",
        "The engine's program text was not recognised.",
        "Compare the engine's speed and size with FP32's, and report the versions.",
    ),
    "int8-slower": Failure(
        "INT8 is slower than FP16",
        "Rounding that did not fuse, layers that are small or few, or a machine without fast INT8 "
        "take what INT8 gains.",
        "Build FP16 too and compare with maskrt bench on the device.",
        "NVIDIA/Model-Optimizer#80",
    ),
    "cpu-fp16": Failure(
        "FP16 on target cpu is not faster than FP32",
        "ONNX Runtime has no FP16 convolution for x86: it computes in FP32 with FP16's rounding.",
        "Use INT8 for speed on the CPU; FP16 there only measures accuracy.",
    ),
    "no-detections": Failure(
        "the engine detects nothing after conversion",
        "Normalisation, channel order or letterboxing differ from training, the weights are not "
        "the trained ones, or scores underflow in FP16.",
        "Compile with the trained weights, let the graph normalise (it takes uint8 RGB), and "
        "compare with FP32 by maskrt check.",
        "NVIDIA/TensorRT#3792, #3932",
    ),
    "little-proven": Failure(
        "the proof of the conversion rests on too few instances",
        "The pictures that the model was proven on show few objects, or none were given.",
        "Compile again with --calibration and pictures in which the model finds ten objects or "
        "more in the first four, or measure AP by maskrt check.",
    ),
    "conversion-loss": Failure(
        "AP is lost in conversion, before any quantisation",
        "The exported graph does not compute what the PyTorch model computes.",
        "See the violations in maskrt inspect; compile again with a current maskrt, and report "
        "the model.",
        "NVIDIA's detectron2 sample loses 0.8 box AP",
    ),
    "few-calibration-pictures": Failure(
        "INT8 loses accuracy on some pictures",
        "Too few pictures were seen in calibration to meet the range of the activations.",
        "Calibrate on 100 or more pictures of the kind that will be seen.",
    ),
    "plugin-not-found": Failure(
        "plugin not found, or getPluginCreator fails, on another machine",
        "The engine names a plugin that a library registers, and that library was not loaded.",
        "Load the engine with maskrt, which registers its plugins first, or build with TensorRT "
        "10.9 or later, whose engines hold the kernels.",
        "mmdeploy#65, #914",
    ),
    "other-tensorrt": Failure(
        "the engine does not deserialise: version tag mismatch",
        "An engine is read by the TensorRT version that built it, unless built version-compatible.",
        "Build it again on this machine; what the bundle holds suffices.",
    ),
    "engine-from-elsewhere": Failure(
        "an engine is refused because it was not built on this machine",
        "An engine is machine code, and this machine's record does not say that it built this one.",
        "Build it here, verify the sender's signature (maskrt verify), or trust it with --trust.",
    ),
    "other-gpu": Failure(
        "the engine does not run on this GPU",
        "An engine holds kernels of the compute capabilities that it was built for.",
        "Build it for this machine's GPU, or copy the bundle to a machine with such a GPU.",
    ),
    "prepared-only": Failure(
        "there is no engine for the device yet",
        "A Jetson's engine is built on the Jetson.",
        "Copy the bundle to the device and build there.",
    ),
    "no-engine": Failure(
        "the bundle holds no engine",
        "It was exported or calibrated, and not built.",
        "Build one.",
    ),
    "damaged-bundle": Failure(
        "a file of the bundle is missing or altered",
        "It was edited by hand, copied incompletely, or the disk failed.",
        "Copy the bundle again with its manifest, or compile the model again.",
    ),
    "batch-wrong": Failure(
        "with batch > 1, pictures get each other's detections or none",
        "Graph surgery fixed a batch of 1 in a Reshape, or an NMS without batch index.",
        "Compile with --batch: every operator of maskrt carries the batch, and maskrt check "
        "measures at that batch.",
        "mmdeploy#1565",
    ),
    "zero-detections-crash": Failure(
        "crash on a picture without objects",
        "A tensor of zero detections reaches an operator or a kernel with an empty grid.",
        "Use maskrt's engines: outputs have a fixed size and a count; no shape depends on data.",
        "pytorch/vision#2251",
    ),
    "paste-dominates": Failure(
        "pasting masks takes most of the time",
        "Each mask is resized to the whole picture, one after the other.",
        "Use result.masks only where needed: masks are pasted when first asked for, and each in "
        "its box; maskrt bench shows the share.",
        "mmdeploy#2512",
    ),
    "context-in-threads": Failure(
        "invalid device context, or a hang, when predicting in a thread",
        "pycuda's context belongs to the thread that made it (pycuda.autoinit in the main thread).",
        "Push and pop the context in each thread, or use maskrt's session, which does so with the "
        "device's primary context, from any thread, also where it runs by pycuda.",
        "tensorrt_demos#63",
    ),
}
