"""Where an engine is to run: one name for backend, compute capability and device."""

import re
from dataclasses import dataclass

from .errors import UnknownTargetError

__all__ = ["TARGETS", "Target"]

_RTX_SMS = (75, 80, 86, 89, 120, 121)
_RTX_PORTABLE_SMS = (80, 86, 89, 120, 121)  # what TensorRT-RTX builds for unless told otherwise


@dataclass(frozen=True)
class Target:
    """A place to run, and the backend that serves it.

    Attributes:
        name: what a user writes after `--target`, such as `"rtx-89"`.
        backend: `"onnxruntime"`, `"tensorrt_rtx"` or `"tensorrt"`.
        sms: compute capabilities (89 means 8.9) that the engine is built for; empty means the
            backend's portable default, or no CUDA at all.
        description: one line for `maskrt targets`.
    """

    name: str
    backend: str
    sms: tuple[int, ...] = ()
    description: str = ""

    @property
    def runs_on(self) -> tuple[int, ...]:
        """Compute capabilities that a finished engine for this target runs on; empty for a CPU."""
        portable = _RTX_PORTABLE_SMS if self.backend == "tensorrt_rtx" else ()
        return self.sms or portable

    @classmethod
    def parse(cls, name: "Target | str") -> "Target":
        """Return the target named `name`, or raise `UnknownTargetError`."""
        if isinstance(name, Target):
            return name
        if name in TARGETS:
            return TARGETS[name]
        match = re.fullmatch(r"rtx-(\d+)", name)
        if match and int(match[1]) in _RTX_SMS:
            capability = int(match[1])
            about = f"TensorRT-RTX for SM {capability // 10}.{capability % 10}"
            return cls(name, "tensorrt_rtx", (capability,), about)
        sms = ", ".join(f"rtx-{s}" for s in _RTX_SMS)
        raise UnknownTargetError(
            f"target {name!r} is unknown: choose one of {', '.join(TARGETS)} or {sms}."
        )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("cpu", "onnxruntime", (), "ONNX Runtime on any CPU"),
        Target("rtx", "tensorrt_rtx", (), "TensorRT-RTX, desktop GPUs from Ampere on"),
        Target("gpu", "tensorrt", (), "TensorRT 10/11 on this machine's GPU"),
        Target("orin-nano", "tensorrt", (87,), "Jetson Orin Nano"),
        Target("orin-nx", "tensorrt", (87,), "Jetson Orin NX"),
        Target("agx-orin", "tensorrt", (87,), "Jetson AGX Orin"),
        Target("thor", "tensorrt", (110,), "Jetson Thor"),
        Target("xavier", "tensorrt", (72,), "Jetson Xavier (JetPack 5)"),
    )
}
