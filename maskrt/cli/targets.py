"""`maskrt targets`: where engines can run, and what this machine can do for each."""

from typing import TYPE_CHECKING

import click
from rich.table import Table

from .json_output import json_option, put
from .options import console

if TYPE_CHECKING:
    from ..catalogue import TargetFacts

__all__ = ["command"]


@click.command("targets")
@json_option
def command() -> None:
    """List the targets, and say what this machine can do for each."""
    from ..catalogue import targets

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("target", "what it is", "SM", "GB", "DLA", "TensorRT", "pays", "here"):
        table.add_column(heading, no_wrap=True)
    rows: dict[str, tuple[str, ...]] = {}
    reasons: dict[str, list[str]] = {}
    found = targets()
    put(found)
    for facts in found:
        row = _row(facts)
        if row[0] not in rows and facts.why_not:
            reasons.setdefault(facts.why_not, []).append(row[0])
        rows.setdefault(row[0], row)
    for row in rows.values():
        table.add_row(*row)
    screen = console()
    screen.print(table)
    for reason, names in reasons.items():
        screen.print(f"{', '.join(names)}: {reason}.")
    for facts in found:
        if facts.cards:
            screen.print(f"{facts.target.name}, by a card's name: {', '.join(facts.cards)}.")
    screen.print(
        "GB: memory of the smallest module. TensorRT: what the device's JetPack releases bring. "
        "pays: precisions that are faster there than the next wider one."
    )


def _row(facts: "TargetFacts") -> tuple[str, ...]:
    """Return the cells of a target; all of one SM of TensorRT-RTX have the same."""
    target = facts.target
    one_sm = target.name.startswith("rtx-")
    versions = [pack.tensorrt_version for pack in target.jetpacks]
    sms = [f"{sm // 10}.{sm % 10}" for sm in target.runs_on]
    return (
        "rtx-SM" if one_sm else target.name,
        "such as rtx-89: one SM" if one_sm else target.description,
        "" if one_sm else f"{sms[0]}-{sms[-1]}" if len(sms) > 2 else ", ".join(sms),
        f"{target.memory}" if target.memory else "",
        f"{target.dla_cores}" if target.is_jetson else "",
        " to ".join(dict.fromkeys((versions[0], versions[-1]))) if versions else "",
        ", ".join(precision.value for precision in target.pays),
        _here(facts),
    )


def _here(facts: "TargetFacts") -> str:
    if facts.builds and facts.runs and facts.target.backend != "tensorrt":
        return "builds, runs"
    return "builds" if facts.builds else "prepares" if facts.prepares else "no"
