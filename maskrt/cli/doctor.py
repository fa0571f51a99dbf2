"""`maskrt doctor`: what this machine and a bundle are, what is wrong with them, and the remedy."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from .json_output import json_option, put
from .options import console, progress_bars

if TYPE_CHECKING:
    from ..runtime.doctor import Diagnosis, Machine

__all__ = ["command"]


@click.command("doctor")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@json_option
@click.option("--known", is_flag=True, help="List the known failures with cause and fix.")
def command(bundle: Path | None, known: bool) -> int:
    """Look at this machine, and at BUNDLE if given: what is wrong, why, and what to do.

    The exit status is 1 if something is broken.
    """
    from ..runtime.doctor import doctor

    if known:
        _print_known()
        return 0
    with progress_bars():
        diagnosis = doctor(bundle)
    put(diagnosis.to_json())
    _print_machine(diagnosis.machine)
    _print_findings(diagnosis)
    return 0 if diagnosis.healthy else 1


def _print_machine(machine: "Machine") -> None:
    from .. import __version__
    from ..runtime.doctor.machine import PACKAGES

    screen = console()
    screen.print(f"maskrt {__version__}, Python {machine.python}, {machine.architecture}")
    for name, value in _facts(machine):
        screen.print(f"  {name:14} {value}")
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("package", "version", "needed for"):
        table.add_column(heading)
    for package, purpose in PACKAGES.items():
        table.add_row(package, machine.packages.get(package, "not installed"), purpose)
    screen.print(table)


def _facts(machine: "Machine") -> list[tuple[str, str]]:
    gpus = [f"{gpu.name} SM {gpu.sm // 10}.{gpu.sm % 10}".strip() for gpu in machine.gpus]
    driver = f"{machine.driver or 'unknown version'}, CUDA {machine.driver_cuda or 'unknown'}"
    free = f"{machine.memory_free_gb} free, {machine.swap_gb} swap"
    facts = [
        ("GPU", ", ".join(gpus) or "none, so rtx engines can be built here but not run"),
        ("driver", driver if machine.driver or machine.driver_cuda else "none"),
        ("CUDA toolkit", machine.toolkit or "none in /usr/local/cuda"),
        ("memory", f"{machine.memory_gb} GB, {free}"),
    ]
    if machine.system_tensorrt:
        facts.append(("TensorRT", f"{machine.system_tensorrt}, of the system"))
    if machine.jetson:
        jetson = machine.jetson
        facts += [
            ("module", jetson.model),
            ("L4T", f"{jetson.l4t or 'unknown'}, JetPack {jetson.jetpack or 'unknown'}"),
            ("power mode", jetson.power_mode or "unknown"),
            ("GPU clock", f"{jetson.gpu_mhz} of {jetson.gpu_max_mhz} MHz"),
        ]
    return facts


def _print_findings(diagnosis: "Diagnosis") -> None:
    screen = console()
    styles = {"error": "red", "warning": "yellow", "note": ""}
    screen.print()
    if not diagnosis.findings:
        screen.print("Nothing wrong was found.")
    for finding in diagnosis.findings:
        level = finding.level.value
        screen.print(f"{level}: {finding.seen}", style=styles[level])
        screen.print(f"  cause  {finding.cause}")
        screen.print(f"  fix    {finding.fix}")
        if finding.command:
            screen.print(f"  run    {finding.command}")


def _print_known() -> None:
    from ..runtime.doctor import FAILURES

    put(FAILURES)
    screen = console()
    for known in FAILURES.values():
        screen.print(known.symptom, style="bold")
        screen.print(f"  cause  {known.cause}")
        screen.print(f"  fix    {known.fix}")
        if known.source:
            screen.print(f"  seen   {known.source}")
