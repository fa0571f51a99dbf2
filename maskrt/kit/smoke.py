"""`python -m maskrt.kit.smoke KIT`: builds a kit's engine where it is missing, and tests it.

    build      seconds, size, precisions of the layers
    load       seconds
    pictures   how many of FP32's instances are found again, and how well
    latency    milliseconds a picture, from pixels to instances

The last line is `PASSED`, or `FAILED` with one sentence. An instance of FP32 counts from a score of
0.5, and is found again under the same label at a box IoU of 0.5 or more. `smoke.json` keeps the
numbers.
"""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import click
import numpy as np

from .. import __version__
from ..core import Bundle, CheckFailedError, InputError, MaskrtError, Precision, Target
from ..core.bundle_checks import storing
from ..core.typed import Within
from ..core.typed_files import read_typed
from ..core.words import for_terminal
from .pictures import PICTURES, REFERENCE

__all__ = ["main", "smoke"]

_CONFIDENT = 0.5
_LEAST_FOUND = {Precision.FP32: 0.95, Precision.FP16: 0.9, Precision.BF16: 0.8}
_LEAST_FOUND_ELSE = 0.5
Say = Callable[[str, str], None]


class _Kit(TypedDict):
    """What `kit.json` says, as far as it is read back."""

    bundle: Annotated[str, Within(1, 255)]
    target: str
    precision: Precision


def smoke(
    kit: Path, say: Say, *, target: str | None = None, runs: int = 20, trust: bool = False
) -> dict[str, Any]:
    """Build, load and test; return the numbers.

    Args:
        kit: the folder.
        say: told each step's name and what came of it.
        target: another one than the kit's, such as `cpu`.
        runs: predictions that are timed.
        trust: open an engine that the kit brings along and this machine did not build.

    Raises:
        MaskrtError: a step failed.
        CheckFailedError: too little of what FP32 finds is found again.
    """
    about = read_typed(kit / "kit.json", _Kit, "make the kit again with maskrt build --kit")
    bundle, place = Bundle.open(kit / about["bundle"]), Target.parse(target or about["target"])
    precision = Precision.parse(about["precision"])
    say("machine", _machine())
    numbers: dict[str, Any] = {"target": place.name, "precision": precision.value}
    numbers["build"] = _build(bundle, place, precision, say)
    from ..pipeline import load

    started = time.perf_counter()
    with load(bundle, place, precision=precision, trust=trust) as session:
        numbers["load_seconds"] = round(time.perf_counter() - started, 2)
        say("load", f"{numbers['load_seconds']} s")
        with storing(f"read {kit / PICTURES}"):
            pictures = sorted((kit / PICTURES).iterdir())
        if not pictures:
            raise InputError(f"{kit / PICTURES} is empty: make the kit again with maskrt build.")
        found = [session.predict(picture) for picture in pictures]
        numbers["agreement"] = _agreement(kit, found)
        say("pictures", _sentence(numbers["agreement"]))
        numbers["latency_ms"] = _latency(session, pictures[0], runs)
        median, worst = numbers["latency_ms"]["median"], numbers["latency_ms"]["p95"]
        say("latency", f"{median} ms median, {worst} ms p95, {runs} pictures one by one")
    _check(numbers["agreement"], precision)
    return numbers


def _machine() -> str:
    from ..runtime.cuda_device import compute_capabilities, gpu_names

    gpus = [f"{name} (SM {sm / 10:.1f})"
            for name, sm in zip(gpu_names(), compute_capabilities(), strict=True)]  # fmt: skip
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"maskrt {__version__}, {where}, {', '.join(gpus) or 'no NVIDIA GPU'}"


def _build(bundle: Bundle, target: Target, precision: Precision, say: Say) -> dict[str, Any]:
    """Build the engine unless the kit has it, and return what `engine.json` says of it."""
    place = f"{bundle.engine_folder(target, precision)}/engine.json"
    brought = place in bundle
    if not brought:
        from ..pipeline import build
        from ..runtime.build import BuildOptions

        options = BuildOptions(here=target.backend == "tensorrt")
        bundle = build(bundle, target, precision=precision, options=options)
    info = bundle.read_json(place)
    layers = ", ".join(f"{count} {kind}" for kind, count in info["layers"].items() if count)
    how = "brought along" if brought else f"{info['build_seconds']} s"
    say("build", f"{how}, {info['bytes'] / 1e6:.1f} MB, layers: {layers}")
    return {"brought": brought, "seconds": info["build_seconds"], "layers": info["layers"]}


def _agreement(kit: Path, found: list[Any]) -> dict[str, Any]:
    from ..runtime.check.agreement import compare_instances
    from ..runtime.check.stored import StoredResults

    with storing(f"read {kit / REFERENCE}"):
        stored = StoredResults.from_bytes((kit / REFERENCE).read_bytes())
    expected = [stored.of(index) for index in range(len(found))]
    compared = [compare_instances(e, f) for e, f in zip(expected, found, strict=True)]
    confident = sum(int((e.scores >= _CONFIDENT).sum()) for e in expected)
    lost = sum(int((c.missed >= _CONFIDENT).sum()) + len(c.changed) for c in compared)
    ious = np.concatenate([c.box_iou for c in compared])
    masks = [c.mask_iou for c in compared if c.mask_iou is not None]
    gaps = np.concatenate([c.score_difference for c in compared])
    return {
        "pictures": len(found), "expected": confident, "found_again": max(confident - lost, 0),
        "invented": sum(int((c.invented >= _CONFIDENT).sum()) for c in compared),
        "box_iou": _mean(ious), "mask_iou": _mean(np.concatenate(masks)) if masks else None,
        "largest_score_difference": round(float(gaps.max(initial=0)), 4),
    }  # fmt: skip


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _sentence(found: dict[str, Any]) -> str:
    masks = "" if found["mask_iou"] is None else f", mask IoU {found['mask_iou']}"
    return (
        f"{found['found_again']} of {found['expected']} instances of FP32 found again in "
        f"{found['pictures']} pictures, {found['invented']} invented; mean box IoU "
        f"{found['box_iou']}{masks}; scores differ by at most {found['largest_score_difference']}"
    )


def _latency(session: Any, picture: Path, runs: int) -> dict[str, Any]:
    from ..runtime import read_image

    image, times = read_image(picture), []
    for _ in range(runs + 2):
        started = time.perf_counter()
        session.predict(image)
        times.append((time.perf_counter() - started) * 1e3)
    timed = np.array(times[2:])
    return {
        "median": round(float(np.median(timed)), 2),
        "p95": round(float(np.percentile(timed, 95)), 2), "runs": runs,
    }  # fmt: skip


def _check(found: dict[str, Any], precision: Precision) -> None:
    least = _LEAST_FOUND.get(precision, _LEAST_FOUND_ELSE)
    if found["found_again"] < least * found["expected"]:
        raise CheckFailedError(
            f"{found['found_again']} of {found['expected']} instances of FP32 were found again, "
            f"and {least:.0%} are expected at {precision}: send smoke.json to whoever made the kit."
        )


@click.command()
@click.argument("kit", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--target", help="Another target than the kit's, such as cpu.")
@click.option("--runs", type=click.IntRange(min=1), default=20, help="Predictions that are timed.")
@click.option("--trust", is_flag=True, help="Open an engine that the kit brings along.")
def main(kit: Path, target: str | None, runs: int, trust: bool) -> None:
    """Build and test the engine of KIT; the last line says whether it passed."""

    def say(step: str, what: str) -> None:
        click.echo(for_terminal(f"{step:10}{what}"))

    try:
        numbers = smoke(kit, say, target=target, runs=runs, trust=trust)
    except MaskrtError as error:
        said = str(error).replace("trust=True", "--trust")
        click.echo(for_terminal(f"FAILED: {said}"))
        raise SystemExit(1) from None
    (kit / "smoke.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    click.echo("PASSED")


if __name__ == "__main__":
    main()
