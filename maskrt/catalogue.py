"""What may be asked for: `targets` that engines are built for, and `models` that compile.

Neither loads a model or builds anything, and `models` needs no torch.
"""

import importlib.util
from dataclasses import dataclass

from .core import TARGETS, Target
from .core.cards import CARDS
from .core.target import RTX_SMS
from .export.zoo import TIMM_PREFIX, ZOO
from .export.zoo.known_weights import ONE_PASS_FILES, ONNX_FILES, TORCHVISION, weights_of

__all__ = ["ModelFacts", "TargetFacts", "models", "targets"]


@dataclass(frozen=True)
class TargetFacts:
    """A target, and what this machine can do for it.

    Attributes:
        target: its name, backend, compute capabilities and memory.
        builds: whether this machine builds its engines.
        runs: whether this machine runs them.
        prepares: whether this machine prepares what the device then builds.
        why_not: half a sentence, where this machine does not do all that can be done.
        cards: names of cards that stand for it, such as `"rtx-3090"` for `rtx-86`.
    """

    target: Target
    builds: bool
    runs: bool = False
    prepares: bool = False
    why_not: str = ""
    cards: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFacts:
    """Something that `compile` takes.

    Attributes:
        kind: `"torchvision"`, `"maskrt"`, `"timm"` (any name of timm's in the place of `NAME`) or
            `"onnx"`.
        model: the words for `compile`; of an ONNX file, who wrote it and how.
        weights: whose weights fit; of an ONNX file, which of them, or empty if all.
    """

    kind: str
    model: str
    weights: str


def targets() -> tuple[TargetFacts, ...]:
    """Return every target: those of `maskrt.core.TARGETS`, and one for each SM of TensorRT-RTX."""
    one_sm = [Target.parse(f"rtx-{sm}") for sm in RTX_SMS]
    return tuple(_here(target) for target in (*TARGETS.values(), *one_sm))


def models() -> tuple[ModelFacts, ...]:
    """Return what compiles by name, and the ONNX files that surgery reads.

    A model of your own compiles, too, as `package.module:factory` or a `torch.nn.Module`, if it is
    of one of these families.
    """
    trained = "torchvision's and trained with its code"
    return (
        *(ModelFacts("torchvision", f"torchvision:{name}", trained) for name in TORCHVISION),
        *(ModelFacts("maskrt", f"maskrt:{name}", weights_of(name)) for name in sorted(ZOO)),
        ModelFacts("timm", f"maskrt:{TIMM_PREFIX}NAME", weights_of(TIMM_PREFIX)),
        *(ModelFacts("onnx", exporter, opsets) for exporter, opsets in ONNX_FILES.items()),
        *(ModelFacts("onnx", writer, limits) for writer, limits in ONE_PASS_FILES.items()),
    )


def _here(target: Target) -> TargetFacts:
    from .runtime.build import tensorrt
    from .runtime.cuda_device import can_run

    if target.backend == "tensorrt":
        reason = tensorrt.why_not(target)
        if not reason:
            return TargetFacts(target, builds=True, runs=True)
        device = ", so the engine is built on the device" if target.is_jetson else ""
        return TargetFacts(target, builds=False, prepares=target.is_jetson, why_not=reason + device)
    if importlib.util.find_spec(target.backend) is None:
        reason = f"{target.backend.replace('_', '-')} is not installed here"
        return TargetFacts(target, builds=False, why_not=reason, cards=_cards(target))
    runs = can_run(target)
    reason = "" if runs else "no GPU here runs it"
    return TargetFacts(target, builds=True, runs=runs, why_not=reason, cards=_cards(target))


def _cards(target: Target) -> tuple[str, ...]:
    """Return the names of cards that an engine for this one SM is for."""
    if target.name in TARGETS:
        return ()
    return tuple(name for name, sm in CARDS.items() if target.sms == (sm,))
