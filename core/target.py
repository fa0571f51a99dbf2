"""Where an engine is to run: one name for backend, compute capability and device."""

import re
from dataclasses import dataclass

from .cards import sm_of_card
from .errors import UnknownTargetError, UnsupportedTargetError
from .jetpack import JETPACKS, JetPack
from .precision import Precision
from .words import suggestion

__all__ = ["RTX_SMS", "TARGETS", "Target"]

RTX_SMS = (75, 80, 86, 89, 120, 121)
_OLDEST_SMS = {Precision.BF16: 80, Precision.FP8: 89}
_RTX_PORTABLE_SMS = (80, 86, 89, 120, 121)  # what TensorRT-RTX builds for unless told otherwise


@dataclass(frozen=True)
class Target:
    """A place to run, and the backend that serves it.

    Attributes:
        name: what a user writes after `--target`, such as `"rtx-89"`; a card's name is read, too.
        backend: `"onnxruntime"`, `"tensorrt_rtx"` or `"tensorrt"`.
        sms: compute capabilities (89 means 8.9) that the engine is built for; empty means the
            backend's portable default, or no CUDA at all.
        description: one line for `maskrt targets`.
        memory: GB of the smallest module, shared by CPU and GPU; 0 where it is not known.
        dla_cores: deep learning accelerators.
        pays: precisions that are faster there than the next wider one, fastest first.
    """

    name: str
    backend: str
    sms: tuple[int, ...] = ()
    description: str = ""
    memory: int = 0
    dla_cores: int = 0
    pays: tuple[Precision, ...] = (Precision.INT8, Precision.FP16)

    @property
    def is_jetson(self) -> bool:
        """Whether it is one module of known memory, whose engines are built on the device."""
        return self.backend == "tensorrt" and self.memory > 0

    @property
    def jetpacks(self) -> tuple[JetPack, ...]:
        """The JetPack releases that run on it, oldest first; none for a desktop."""
        if not self.is_jetson:
            return ()
        fitting = (pack for pack in JETPACKS if set(self.sms) & set(pack.sms))
        return tuple(pack for pack in fitting if self.name in (pack.targets or (self.name,)))

    @property
    def runs_on(self) -> tuple[int, ...]:
        """Compute capabilities that a finished engine for this target runs on; empty for a CPU."""
        portable = _RTX_PORTABLE_SMS if self.backend == "tensorrt_rtx" else ()
        return self.sms or portable

    def check_computes(self, precision: Precision) -> None:
        """Raise `UnsupportedTargetError` if the target's hardware has no such arithmetic.

        BF16 is there from SM 8.0 on and FP8 from SM 8.9 on; a portable engine has what the oldest
        of its GPUs has. Of a target without known GPUs, its builder will say.
        """
        oldest = _OLDEST_SMS.get(precision)
        if oldest is None:
            return
        name = precision.value.upper()
        if self.backend == "onnxruntime":
            raise UnsupportedTargetError(
                f"{name} cannot be had on target {self.name}: ONNX Runtime has no {name} layers "
                "for a CPU; choose fp16 or int8, or a target with a GPU."
            )
        if any(sm < oldest for sm in self.runs_on):
            least = min(self.runs_on)
            raise UnsupportedTargetError(
                f"{name} cannot be had on target {self.name}: it includes SM {least // 10}."
                f"{least % 10}, and {name} needs SM {oldest // 10}.{oldest % 10} or later; choose "
                f"another precision, or a target such as rtx-{oldest}."
            )

    @classmethod
    def parse(cls, name: "Target | str") -> "Target":
        """Return the target named `name`; a card's name, such as `"rtx-3090"`, is its SM's.

        Raises:
            UnknownTargetError: there is none.
            UnsupportedTargetError: a card that TensorRT-RTX builds nothing for.
        """
        if isinstance(name, Target):
            return name
        if name in TARGETS:
            return TARGETS[name]
        match = re.fullmatch(r"rtx-(\d+)", name)
        if match and int(match[1]) in RTX_SMS:
            return cls._of_sm(int(match[1]))
        card = sm_of_card(name)
        if card in RTX_SMS:
            return cls._of_sm(card)
        if card is not None:
            raise UnsupportedTargetError(
                f"a card {name} is SM {card // 10}.{card % 10}, for which TensorRT-RTX builds no "
                "engines: build on the machine that has it, for target gpu, with TensorRT."
            )
        if re.match(r"(rtx|gtx|quadro)[-\s_]?\w*\d{2}", name, re.IGNORECASE):
            raise UnknownTargetError(
                f"target {name!r} is unknown (see maskrt targets): give the card's compute "
                f"capability, as one of {', '.join(f'rtx-{sm}' for sm in RTX_SMS)}."
            )
        known = [*TARGETS, *(f"rtx-{sm}" for sm in RTX_SMS)]
        raise UnknownTargetError(
            f"target {name!r} is unknown (see maskrt targets): {suggestion(name, known)}"
        )

    @classmethod
    def _of_sm(cls, sm: int) -> "Target":
        about = f"TensorRT-RTX for SM {sm // 10}.{sm % 10}"
        return cls(f"rtx-{sm}", "tensorrt_rtx", (sm,), about, pays=(Precision.FP16,))


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # ONNX Runtime's CPU kernels compute FP16 in FP32: it saves memory, not time.
        Target("cpu", "onnxruntime", (), "ONNX Runtime on any CPU", pays=(Precision.INT8,)),
        # TensorRT-RTX leaves many of the rounding kernels apart, so INT8 need not beat FP16.
        Target(
            "rtx", "tensorrt_rtx", (), "TensorRT-RTX, Ampere and later",
            pays=(Precision.FP16,),
        ),
        Target("gpu", "tensorrt", (), "TensorRT on this machine's GPU"),
        Target("orin-nano", "tensorrt", (87,), "Jetson Orin Nano", 4, 0),
        Target("orin-nx", "tensorrt", (87,), "Jetson Orin NX", 8, 1),
        Target("agx-orin", "tensorrt", (87,), "Jetson AGX Orin", 32, 2),
        Target("thor", "tensorrt", (110,), "Jetson Thor", 64, 0),
        Target("xavier", "tensorrt", (72,), "Jetson Xavier", 8, 2),
    )
}  # fmt: skip
