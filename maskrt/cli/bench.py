"""`maskrt bench`: latency, throughput, memory, power and where the time goes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from ..core import UsageError
from .json_output import json_file_option, put
from .options import (
    OUTPUT_FILE,
    bundle_argument,
    console,
    model_words_option,
    on_device_option,
    precision_option,
    progress_bars,
    trust_options,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from ..running.bench import Bench
    from ..running.bench_engines import Benches
    from ..runtime.trust import Trust

__all__ = ["command"]


@click.command("bench")
@bundle_argument
@click.option("--target", help="Default: the best that this machine can run.")
@precision_option
@click.option(
    "--engine", "engines", multiple=True, metavar="NAME",
    help="One such as cpu@int8; give several, and they are timed in turn.",
)  # fmt: skip
@click.option("--all", "all_engines", is_flag=True, help="In turn, all that this machine can run.")
@on_device_option
@trust_options
@click.option("--runs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option(
    "--images", type=click.Path(path_type=Path),
    help="Folder of pictures; default: drawn ones, in which little is found.",
)  # fmt: skip
@click.option(
    "--weights", type=click.Path(path_type=Path),
    help="The PyTorch weights that BUNDLE was compiled from: time PyTorch, too.",
)  # fmt: skip
@model_words_option
@json_file_option(OUTPUT_FILE, "figures")
@click.option("--plot", type=OUTPUT_FILE, metavar="FILE", help="Draw them: .svg or .png.")
def command(
    bundle: Path,
    target: str | None,
    precision: str | None,
    engines: tuple[str, ...],
    all_engines: bool,
    on_device: bool,
    runs: int,
    images: Path | None,
    weights: Path | None,
    model: str | None,
    json_file: Path | None,
    plot: Path | None,
    trust: "Trust",
) -> None:
    """Measure an engine of BUNDLE, or several in turn, from picture files to pasted masks."""
    from ..core.whole_file import write_text
    from ..running.bench import Bench, bench
    from ..running.bench_chart import check_chart_name, write_chart
    from ..running.bench_engines import bench_engines

    if plot is not None:
        check_chart_name(plot)
    several = bool(engines) or all_engines
    if several:
        _refuse_beside_engines(
            target=target, precision=precision, weights=weights, model=model,
            all=all_engines and engines,
        )  # fmt: skip
    found: Bench | Benches
    with progress_bars() as progress:
        if several:
            found = bench_engines(
                bundle, engines or None, runs=runs, images=images, on_device=on_device,
                trust=trust, progress=progress,
            )  # fmt: skip
        else:
            found = bench(
                bundle, target=target, precision=precision, runs=runs, images=images,
                weights=weights, model=model, on_device=on_device, trust=trust, progress=progress,
            )  # fmt: skip
    put(found.to_json())
    if json_file is not None:
        write_text(json_file, json.dumps(found.to_json(), indent=2) + "\n")
    if plot is not None:
        write_chart(found, plot)
    if isinstance(found, Bench):
        _print(found)
    else:
        _print_several(found)


def _refuse_beside_engines(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                f"--engine and --all say what is timed, so --{name} says nothing more: leave out "
                "one of the two."
            )


def _print_several(found: "Benches") -> None:
    first = found.engines[0]
    told = _told(one.stages_ms["total"] for one in found.engines)
    table = Table(header_style="bold", title=f"in turn, {first.runs} runs of each")
    totals = [f"{key} ms" for key in told]
    for heading in ("engine", *totals, "engine p50", "pictures/s", "stream", "of the fastest"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for name, one in zip(found.names, found.engines, strict=True):
        table.add_row(
            name, *_cells(one.stages_ms["total"], told), f"{one.stages_ms['engine']['p50']:.2f}",
            f"{one.pictures_per_second:.1f}", f"{one.stream_pictures_per_second:.1f}",
            f"{found.times(one):.2f} x",
        )  # fmt: skip
    screen = console()
    screen.print(table)
    for name, one in zip(found.names, found.engines, strict=True):
        if one.device_bytes is not None:
            screen.print(f"GPU memory  {one.device_bytes / 1e6:.0f} MB  {name}")
    memory = max(one.peak_bytes for one in found.engines)
    screen.print(f"memory      {memory / 1e6:.0f} MB at the peak of this process, which held all")


def _print(found: "Bench") -> None:
    told = _told(found.stages_ms.values())
    table = Table(header_style="bold", title=f"{found.target} {found.precision}, {found.runs} runs")
    for heading in ("stage", *(f"{key} ms" for key in told)):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, values in found.stages_ms.items():
        table.add_row(stage, *_cells(values, told))
    if found.pytorch is not None:
        table.add_section()
        table.add_row("PyTorch total", *_cells(found.pytorch["total_ms"], told))
        table.add_row("total beside it", *_cells(found.pytorch["engine_total_ms"], told))
    screen = console()
    screen.print(table)
    screen.print(
        f"throughput  {found.pictures_per_second:.1f} pictures/s at batch {found.batch}, "
        f"{found.stream_pictures_per_second:.1f} as a stream"
    )
    screen.print(f"instances   {found.instances:.1f} in a picture")
    screen.print(f"memory      {found.peak_bytes / 1e6:.0f} MB at the peak of this process")
    if found.device_bytes is not None:
        screen.print(f"GPU memory  {found.device_bytes / 1e6:.0f} MB")
    if found.pytorch is not None:
        _print_pytorch(screen, found.pytorch)
    if found.power is not None:
        _print_power(screen, found.power)


def _print_pytorch(screen: "Console", pytorch: dict[str, Any]) -> None:
    screen.print(
        f"PyTorch     {pytorch['speedup']:.2f} times the engine's median, on the CPU, in "
        f"{pytorch['runs']} alternating runs"
    )


def _print_power(screen: "Console", power: dict[str, Any]) -> None:
    if power["watts"] is None:
        screen.print("power       the sensors did not answer")
        return
    rails = ", ".join(f"{name} {watts:.1f}" for name, watts in power["rails_watts"].items())
    screen.print(
        f"power       {power['watts']:.1f} W ({rails}), "
        f"{power['joules_per_picture']:.3f} J a picture"
    )
    if power["idle_watts"] is not None:
        above = power["joules_per_picture_above_idle"]
        screen.print(f"idle        {power['idle_watts']:.1f} W; {above:.3f} J a picture above that")


def _told(rows: "Iterable[Mapping[str, float]]") -> list[str]:
    """Return the percentiles that some row has: of few calls there are fewer."""
    found = list(rows)
    return [key for key in ("p50", "p90", "p99") if any(key in row for row in found)]


def _cells(values: "Mapping[str, float]", told: "list[str]") -> list[str]:
    return [f"{values[key]:.2f}" if key in values else "-" for key in told]
