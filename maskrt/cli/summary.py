"""What a bundle holds, as the verbs print it."""

import re
from typing import Any

from rich.table import Table

from ..core import Bundle, BundleError, Manifest, Placing, Target, counted
from ..core.bundle import RECIPE, REPORT, SEARCH
from ..core.masks import MaskFrame
from ..runtime.cuda_device import can_run
from .options import console

_SKIPPED_SHOWN = 5
_RUN_AGAIN = re.compile(r"\.\d+$")

__all__ = ["engine_layers", "megabytes", "print_bundle"]

_PLACED = {
    Placing.TOP_LEFT: "letterboxed",
    Placing.CENTRE: "letterboxed in the middle",
    Placing.SQUASH: "squashed",
}


def print_bundle(bundle: Bundle) -> None:
    """Print the bundle's model, fidelity and engines."""
    screen, manifest = console(), bundle.manifest
    spec = manifest.input
    screen.print(str(bundle.path), style="bold")
    model = manifest.source.get("model", "of unknown source")
    screen.print(f"  model     {model}, {_weights(manifest.source)}")
    size = f"{spec.batch} x {spec.height} x {spec.width} x 3 uint8 RGB"
    screen.print(f"  input     {size}, {_PLACED[spec.placing]}")
    if "masks" in manifest.outputs:
        screen.print(f"  masks     {_masks(manifest)}")
    screen.print(f"  fidelity  {_fidelity(manifest.fidelity)}")
    for warning in manifest.fidelity.get("violations", []):
        screen.print(f"  warning   the conversion is not exact. {warning}", style="yellow")
    if manifest.fidelity.get("violations"):
        screen.print(
            "            maskrt check --weights says what that costs in AP", style="yellow"
        )
    for warning in manifest.fidelity.get("warnings", []):
        screen.print(f"  warning   {warning}", style="yellow")
    if "warning" in manifest.source:
        screen.print(f"  warning   {manifest.source['warning']}", style="yellow")
    if RECIPE in bundle:
        _print_calibration(bundle.read_json(RECIPE))
    if SEARCH in bundle:
        screen.print(f"  search    {_search(bundle.read_json(SEARCH))}")
    if REPORT in bundle:
        screen.print(f"  accuracy  {_accuracy(bundle.read_json(REPORT))}")
    if bundle.engines():
        screen.print(_engines(bundle))
    for name in bundle.prepared():
        _print_prepared(bundle, name)


def _masks(manifest: Manifest) -> str:
    if manifest.mask_frame is not MaskFrame.BOX:
        return "over the picture, at about a quarter of its size"
    return f"over boxes, pasted as {manifest.mask_paste} pastes"


def _print_calibration(recipe: Any) -> None:
    """Print how many pictures the recipe's ranges come from, and each that was left out."""
    found = recipe.get("calibration", {}) if isinstance(recipe, dict) else {}
    if not found:
        return
    screen, skipped = console(), found.get("skipped", [])
    left_out = f", and {len(skipped)} left out that cannot be read" if skipped else ""
    screen.print(f"  pictures  {found.get('pictures')} for calibration{left_out}")
    if "improvements" in found:
        screen.print(f"  improved  {_improvements(found['improvements'])}")
    for sentence in skipped[:_SKIPPED_SHOWN]:
        screen.print(f"  warning   {sentence}", style="yellow")


def megabytes(count: int) -> str:
    """Return a number of bytes as MB with one decimal."""
    return f"{count / 1e6:.1f} MB"


def engine_layers(info: dict[str, Any]) -> str:
    """Return what an engine's heavy layers really compute in, such as `62 int8, 3 fp32`."""
    layers = {name: count for name, count in (info.get("layers") or {}).items() if count}
    return ", ".join(f"{count} {name}" for name, count in layers.items()) or "not readable"


def _share(info: dict[str, Any]) -> str:
    """Return which share of an INT8 engine's layers really is INT8, such as ` (98 % int8)`."""
    layers = info.get("layers") or {}
    if info["precision"] != "int8" or not sum(layers.values()):
        return ""
    return f" ({100 * layers.get('int8', 0) / sum(layers.values()):.0f} % int8)"


def _payoff(info: dict[str, Any]) -> str:
    found = info.get("payoff")
    return str(found.get("sentence", "")) if isinstance(found, dict) else ""


def _program(info: dict[str, Any]) -> str:
    """Return what an engine launches, moves and holds, where its builder could count that."""
    kernels, moved = info.get("kernels"), info.get("traffic_bytes") or {}
    if not kernels or "floor" not in moved:
        return ""
    heavy, other = kernels["convolution"] + kernels["gemm"], kernels["other"]
    held = info.get("device_memory_bytes")
    memory = "" if held is None else f", {megabytes(held)} of device memory"
    return (
        f"a frame launches {heavy} convolutions and GEMMs and {counted(other, 'other kernel')}, "
        f"and moves {megabytes(moved['frame'])}, of which {megabytes(moved['floor'])} are weights "
        f"and data of layers, each once{memory}; counted, not timed."
    )


def _complete(info: dict[str, Any], name: str) -> dict[str, Any]:
    missing = [key for key in ("precision", "bytes", "build_seconds") if key not in info]
    if missing:
        raise BundleError(
            f"engines/{name}/engine.json does not say {missing[0]}: build the engine again."
        )
    return info


def _engines(bundle: Bundle) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("engine", "asked", "layers really in", "size", "built in", "runs here"):
        table.add_column(heading, justify="right" if heading in ("size", "built in") else "left")
    notes, infos = [], []
    for name in bundle.engines():
        info = _complete(bundle.read_json(f"engines/{name}/engine.json"), name)
        infos.append(info)
        table.add_row(
            name, info["precision"], engine_layers(info) + _share(info),
            megabytes(info["bytes"]), _seconds(info), "yes" if _runs_here(name) else "no",
        )  # fmt: skip
        texts = (_program(info), info.get("note"), _payoff(info))
        notes += [f"{name}: {text}" for text in texts if text]
    table.caption = "\n".join([*notes, *_counting(infos)]) or None
    table.caption_justify = "left"
    return table


def _counting(infos: list[dict[str, Any]]) -> list[str]:
    """Return how layers are counted where that shows: a head that is run on several pyramid levels.

    Its second and further runs are the module's path with a number, such as `rpn.head.conv.2`.
    """
    for info in infos:
        names = info.get("layer_precisions") or {}
        if any(_RUN_AGAIN.sub("", name) in names for name in names if _RUN_AGAIN.search(name)):
            return ["A layer that is run on several pyramid levels counts once for each."]
    return []


def _print_prepared(bundle: Bundle, name: str) -> None:
    """Print what is ready for a device, and the one command to run there."""
    from ..runtime.build.prepared_text import build_command

    screen, folder = console(), f"engines/{name}"
    info = bundle.read_json(f"{folder}/prepared.json")
    screen.print(f"{name}: prepared at {info['precision']}, to be built on the device.")
    if info["segments"] is None:
        screen.print(f"  warning   {info['note']}", style="yellow")
    else:
        segments = info["segments"]
        nodes = sum(segment["nodes"] for segment in segments)
        screen.print(
            f"  checked   {counted(nodes, 'node')} between the plugins, in "
            f"{counted(len(segments), 'segment')}, parsed and built by TensorRT-RTX"
        )
    if text := _payoff(info):
        screen.print(f"  int8      {text}", soft_wrap=True)
    there = build_command(info, bundle.path.resolve().name)
    screen.print(f"  there     {there}", soft_wrap=True)
    screen.print(
        f"  memory    at most {info['build_memory_mib']} MiB expected during the build; more in "
        f"{bundle.path}/{folder}/README.md",
        soft_wrap=True,
    )


def _seconds(info: dict[str, Any]) -> str:
    """Return how long the build took; back then, if it came out of the cache."""
    return f"{info['build_seconds']:.1f} s" + (", cached" if info.get("cached") else "")


def _runs_here(engine: str) -> bool:
    """Whether this machine, not the one that built it, can run an engine such as `rtx@fp16`."""
    return can_run(Target.parse(engine.partition("@")[0]))


def _weights(source: dict[str, Any]) -> str:
    recorded = source.get("weights")
    if recorded:
        return f"weights {recorded['file']} ({recorded['sha256'][:12]}{_part(recorded)})"
    if (file := source.get("onnx")) is not None:
        return f"rewritten by surgery ({file['sha256'][:12]})"
    return "no weights given: the model is as its builder made it, untrained unless that trains it"


def _part(recorded: dict[str, Any]) -> str:
    """Say which part of a checkpoint was taken, where it holds more than weights."""
    averaged = "averaged over training (EMA)" if recorded.get("averaged") else ""
    beside = f"not {recorded['beside']}" if "beside" in recorded else ""
    prefix = f"without {recorded['prefix']}" if "prefix" in recorded else ""
    left_out = f"{recorded['left_out']} others left out" if "left_out" in recorded else ""
    words = (recorded.get("part", ""), averaged, beside, prefix, left_out)
    return "".join(f", {word}" for word in words if word)


def _improvements(found: dict[str, Any]) -> str:
    kept = " and ".join(found["kept"])
    tried = ", ".join(f"{drop:.2f} with {name}" for name, drop in found["ap_drop"].items())
    return f"by {kept or 'nothing, since nothing raised AP'}; AP lost: {tried}"


def _search(found: dict[str, Any]) -> str:
    best = found["best"]
    return (
        f"{best['int8_layers']} of {best['layers']} layers in INT8 with the scales of "
        f"{best['method']} lose {max(best['drop'], 0):.2f} AP of the {found['budget']:g} allowed; "
        f"the fastest of {counted(len(found['trials']), 'recipe')} tried"
    )


def _accuracy(report: dict[str, Any]) -> str:
    """Return AP and its change in one line, from the last check's report."""
    drop = report["drop"] or {}
    parts = []
    for kind in ("box", "mask"):
        if kind in report["metrics"]:
            lost = drop.get(kind, {}).get("AP")
            change = "" if lost is None else f" ({-lost:+.2f} against {report['reference_name']})"
            parts.append(f"{kind} AP {report['metrics'][kind]['AP']:.2f}{change}")
    verdict = ""
    if report["budget"] is not None:
        place = "inside" if report["passed"] else "outside"
        verdict = f", {place} the budget of {report['budget']:g}"
    where = f"{report['target']} {report['precision']} on {report['images']} pictures"
    return f"{', '.join(parts)}: {where}{verdict}; report/report.html"


def _fidelity(found: dict[str, Any]) -> str:
    if "instances" not in found:
        return "not measured"
    pictures = counted(found["pictures"], "picture")
    if not found["instances"] and not found["violations"]:
        return f"nothing was found in {pictures}, so nothing was compared"
    mask = found["worst_mask_iou"]
    masks = "" if mask is None else f", mask IoU {mask:.4f}"
    original = "the original ONNX" if "original ONNX" in found["compared"] else "PyTorch FP32"
    return (
        f"{counted(found['instances'], 'instance')} in {pictures} against {original}: "
        f"worst box IoU {found['worst_box_iou']:.5f}, score difference "
        f"{found['worst_score_difference']:.1e}{masks}"
    )
