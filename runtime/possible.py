"""What can be: an engine that is asked for, and measuring one on this machine."""

from pathlib import Path

from ..core import Bundle, Precision, Target
from .build import is_buildable
from .cuda_device import can_run

__all__ = ["check_can_exist", "is_measurable"]


def check_can_exist(
    bundle: Bundle | Path | str,
    target: Target | str | None,
    precision: Precision | str | None,
) -> None:
    """Refuse a precision that the target's hardware lacks; without a target, `cpu` is advised.

    Raises:
        UnsupportedTargetError: no such engine can be built.
    """
    if precision is None:
        return
    opened, wanted = Bundle.open(bundle), Precision.parse(precision)
    if target is not None:
        Target.parse(target).check_computes(wanted)
        return
    places = (Target.parse(name.partition("@")[0]) for name in opened.engines())
    if not any(f"{opened.engine_folder(p, wanted)}/engine.json" in opened for p in places):
        Target.parse("cpu").check_computes(wanted)


def is_measurable(target: Target) -> bool:
    """Whether an engine for `target` is both built and run by this machine."""
    return can_run(target) and is_buildable(target)
