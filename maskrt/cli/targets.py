"""`maskrt targets`: where engines can run, and what this machine can do for each."""

import importlib.util
from dataclasses import replace

import click
from rich.table import Table

from ..core import TARGETS, Target
from ..core.cards import CARDS
from ..core.target import RTX_SMS
from .options import console

__all__ = ["command"]


@click.command("targets")
def command() -> None:
    """List the targets, and say what this machine can do for each."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("target", "what it is", "SM", "GB", "DLA", "TensorRT", "pays", "here"):
        table.add_column(heading, no_wrap=True)
    reasons: dict[str, list[str]] = {}
    for target in (*TARGETS.values(), _ONE_SM):
        can, reason = _here(target)
        table.add_row(*_facts(target), can)
        if reason:
            reasons.setdefault(reason, []).append(target.name)
    console().print(table)
    for reason, names in reasons.items():
        console().print(f"{', '.join(names)}: {reason}.")
    for sm, names in _cards().items():
        console().print(f"rtx-{sm}, by a card's name: {', '.join(names)}.")
    console().print(
        "GB: memory of the smallest module. TensorRT: what the device's JetPack releases bring. "
        "pays: precisions that are faster there than the next wider one."
    )


_ONE_SM = replace(Target.parse("rtx-89"), name="rtx-SM", description="such as rtx-89: one SM")


def _cards() -> dict[int, list[str]]:
    """Return the names of cards by the compute capability that an engine can be built for."""
    found: dict[int, list[str]] = {}
    for name, sm in CARDS.items():
        if sm in RTX_SMS:
            found.setdefault(sm, []).append(name)
    return found


def _facts(target: Target) -> tuple[str, ...]:
    versions = [pack.tensorrt_version for pack in target.jetpacks]
    sms = [f"{sm // 10}.{sm % 10}" for sm in target.runs_on]
    return (
        target.name,
        target.description,
        "" if target is _ONE_SM else f"{sms[0]}-{sms[-1]}" if len(sms) > 2 else ", ".join(sms),
        f"{target.memory}" if target.memory else "",
        f"{target.dla_cores}" if target.is_jetson else "",
        " to ".join(dict.fromkeys((versions[0], versions[-1]))) if versions else "",
        ", ".join(precision.value for precision in target.pays),
    )


def _here(target: Target) -> tuple[str, str]:
    """Return what this machine can do for a target, and why not more."""
    from ..runtime.build import tensorrt
    from ..runtime.cuda_device import can_run

    if target.backend == "tensorrt":
        reason = tensorrt.why_not(target)
        if not reason:
            return "builds", ""
        device = ", so the engine is built on the device" if target.is_jetson else ""
        return "prepares" if target.is_jetson else "no", reason + device
    if importlib.util.find_spec(target.backend) is None:
        return "no", f"{target.backend.replace('_', '-')} is not installed here"
    if can_run(target):
        return "builds, runs", ""
    return "builds", "no GPU here runs it"
