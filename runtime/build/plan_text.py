r"""Reads the program out of a TensorRT-RTX plan, which needs no GPU.

A plan cannot be deserialised without a GPU, but it carries its compiled program as text. What this
module relies on was seen in plans of TensorRT-RTX 1.7; it is documented nowhere, so whatever is not
recognised stays unknown, and a plan without a recognisable program gives None.

    header { ... region = { name=devmem size=8978432 ... } ... accelerators={sm80 } }
    descriptors {
      tensor={ ... const_payload_size=9216 dims={ 32 32 3 3 } ... name="w" ... type=int8 }
      sub_tensor={ base="x" ... name="x^deref" ... type=int8 }
    }
    main {
     label bb1:
      corrltn={ name="conv1" output={"y" } input={"x" "w" } ... layers="[ONNX Layer: conv1]\x1f" }
      function={ name=__myl_MulMinMaxRounCast ... input_args={ "x" ... } ... layers="..." }
    }

One statement is one kernel launch: `corrltn` a convolution, `deconvolution`, `fully_connected` a
GEMM, `function` and `runtime_function` generated kernels, `runtime_fusion` a convolution or GEMM
(`backbone=`) together with its neighbours. Further `header`s follow after the first: each holds the
statements inside one such fusion (its *body*), with their own tensors.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Argument", "Kernel", "Plan", "read_plan"]

_SECTION = re.compile(rb"descriptors \{\n(.*?)\n\}\nmain \{\n(.*?)\n\}", re.DOTALL)
_TENSOR = re.compile(r'\b(?:sub_)?tensor=\{.*?\bname="(?P<name>[^"]*)".*\btype=(?P<type>\w+) \}')
_BASE = re.compile(r'\bbase="([^"]*)"')
_STATEMENT = re.compile(r"^ *(?P<kind>[a-z_]\w*)=\{ (?P<text>.*)\}$")
_NAME = re.compile(r'\bname=(?:"(?P<quoted>[^"]*)"|(?P<bare>\S+))')
_INPUTS = re.compile(r'\binput(?:_args)?=\{(?P<list>(?: ?"[^"]*")*) ?\}')
_OUTPUTS = re.compile(r'\boutput(?:_args)?=\{(?P<list>(?: ?"[^"]*")*) ?\}')
_DIMS = re.compile(r"\bdims=\{((?: *\b\d{1,12}\b){0,8}) *\}")
_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_PAYLOAD = re.compile(r"\bconst_payload_size=(\d{1,18})\b")
_BACKBONE = re.compile(r"\bbackbone=(\w+)")
_ACCELERATORS = re.compile(rb"\baccelerators=\{([^}*\n]*)\}")
_DEVICE_MEMORY = re.compile(rb"\bname=devmem size=(\d{1,18})\b")

_CONTROL = {
    "memset", "copy", "cjmp", "jmp", "ret", "signal", "wait", "record", "barrier", "free", "alloc",
}  # fmt: skip
_TYPE_BYTES = {
    "int8": 1, "uint8": 1, "bool": 1, "fp8_e4m3": 1, "half": 2, "bf16": 2, "float": 4, "int32": 4,
    "int64": 8,
}  # fmt: skip
_CATEGORY = {"corrltn": "convolution", "deconvolution": "convolution", "fully_connected": "gemm"}
_BACKBONES = {"conv": "convolution", "gemm": "gemm"}


@dataclass(frozen=True)
class Argument:
    """One tensor that a kernel reads or writes.

    Attributes:
        name: the plan's own name.
        type: `"int8"`, `"half"`, `"float"`, ...; None where the plan does not say.
        constant_bytes: size of its constant content; 0 for an activation.
        size_bytes: of all of it; 0 where the plan does not say.
    """

    name: str
    type: str | None
    constant_bytes: int
    size_bytes: int = 0


@dataclass(frozen=True)
class Kernel:
    """One statement of the program.

    Attributes:
        kind: the statement's own word, such as `"corrltn"`.
        category: `"convolution"`, `"gemm"`, `"other"`, or `"control"` for what launches nothing.
        name: for a convolution or GEMM the ONNX node's name, else a generated one.
        layers: names of the ONNX nodes that were fused into it.
        inputs: what it reads; for a convolution or GEMM first the data, then the weights.
        outputs: what it writes.
    """

    kind: str
    category: str
    name: str
    layers: tuple[str, ...]
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...] = ()

    @property
    def traffic_bytes(self) -> int:
        """How much it reads and writes, each tensor once however often it is listed."""
        return sum(
            sum({argument.name: argument.size_bytes for argument in side}.values())
            for side in (self.inputs, self.outputs)
        )

    @property
    def is_rounding(self) -> bool:
        """Whether it is a generated kernel that quantises, as no convolution absorbed that."""
        to_fp8 = any(argument.type == "fp8_e4m3" for argument in self.outputs)
        quantises = to_fp8 or "Roun" in self.name
        return self.category == "other" and self.name.startswith("__myl_") and quantises


@dataclass(frozen=True)
class Plan:
    """What a plan's text says.

    Attributes:
        kernels: the statements of the program, in order.
        bodies: the statements inside its fusions.
        accelerators: what it was compiled for, such as `("sm80",)`.
        device_memory_bytes: activations and scratch on the device, or None.
    """

    kernels: tuple[Kernel, ...]
    bodies: tuple[Kernel, ...]
    accelerators: tuple[str, ...]
    device_memory_bytes: int | None

    def count(self) -> dict[str, int]:
        """Return how many kernels of each category a frame launches."""
        categories = [kernel.category for kernel in self.kernels]
        counts = {name: categories.count(name) for name in ("convolution", "gemm", "other")}
        return {**counts, "rounding": sum(kernel.is_rounding for kernel in self.kernels)}

    def traffic(self) -> dict[str, int]:
        """Return how many bytes a frame moves, and what it had to.

        `frame` is what all kernels read and write, the body of a loop once; `rounding` the share of
        those that only round; `floor` all tensors that convolutions and GEMMs read or write, once.
        """
        launched = [kernel for kernel in self.kernels if kernel.category != "control"]
        heavy = [kernel for kernel in launched if kernel.category in _CATEGORY.values()]
        needed = {a.name: a.size_bytes for k in heavy for a in (*k.inputs, *k.outputs)}
        return {
            "frame": sum(kernel.traffic_bytes for kernel in launched),
            "rounding": sum(kernel.traffic_bytes for kernel in launched if kernel.is_rounding),
            "floor": sum(needed.values()),
        }


def read_plan(plan: bytes) -> Plan | None:
    """Return the program of a serialized engine, or None where its text is not recognised."""
    sections = [tuple(_kernels(*match.groups())) for match in _SECTION.finditer(plan)]
    if not sections or not any(kernel.layers for kernel in sections[0]):
        return None
    accelerators = _ACCELERATORS.search(plan)
    memory = _DEVICE_MEMORY.search(plan)
    return Plan(
        kernels=sections[0],
        bodies=tuple(kernel for section in sections[1:] for kernel in section),
        accelerators=tuple(accelerators[1].decode("latin-1").split()) if accelerators else (),
        device_memory_bytes=int(memory[1]) if memory else None,
    )


def _kernels(descriptors: bytes, program: bytes) -> Iterator[Kernel]:
    tensors = _tensors(descriptors.decode("latin-1"))
    for line in program.decode("latin-1").split("\n"):
        statement = _STATEMENT.match(line)
        if statement:
            yield _kernel(statement["kind"], statement["text"], tensors)


def _tensors(text: str) -> dict[str, Argument]:
    """Return every tensor by name; a `sub_tensor` is as constant as the tensor it is part of."""
    tensors: dict[str, Argument] = {}
    for line in text.split("\n"):
        tensor, payload, base = _TENSOR.search(line), _PAYLOAD.search(line), _BASE.search(line)
        if tensor is None:
            continue
        size = int(payload[1]) if payload else 0
        if base and base[1] in tensors:
            size = tensors[base[1]].constant_bytes
        whole = _size(line, tensor["type"])
        tensors[tensor["name"]] = Argument(tensor["name"], tensor["type"], size, whole)
    return tensors


def _size(line: str, kind: str) -> int:
    dims = _DIMS.search(line)
    return math.prod(map(int, dims[1].split())) * _TYPE_BYTES.get(kind, 0) if dims else 0


def _kernel(kind: str, text: str, tensors: dict[str, Argument]) -> Kernel:
    name = _NAME.search(text)

    def arguments(pattern: re.Pattern[str]) -> tuple[Argument, ...]:
        found = pattern.search(text)
        names = re.findall(r'"([^"]*)"', found["list"]) if found else []
        return tuple(tensors.get(n, Argument(n, None, 0)) for n in names)

    return Kernel(
        kind=kind,
        category=_category(kind, text),
        name=(name["quoted"] or name["bare"] or "") if name else "",
        layers=tuple(_LAYER.findall(text)),
        inputs=arguments(_INPUTS),
        outputs=arguments(_OUTPUTS),
    )


def _category(kind: str, text: str) -> str:
    if kind in _CONTROL:
        return "control"
    if kind == "runtime_fusion":
        backbone = _BACKBONE.search(text)
        return _BACKBONES.get(backbone[1], "other") if backbone else "other"
    return _CATEGORY.get(kind, "other")
