"""What a bundle holds, as the verbs print it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..core import Bundle, Manifest, Placing, counted
from ..core.masks import MaskFrame
from .json_output import put
from .options import console

if TYPE_CHECKING:
    from ..inspection import EngineFacts, Inspection, PreparedFacts

_SKIPPED_SHOWN = 5
_COMPARED = {
    "compared", "pictures", "instances", "violations", "worst_box_iou", "worst_score_difference",
    "worst_mask_iou",
}  # fmt: skip
_CLASSES_SHOWN = 12
_RUN_AGAIN = re.compile(r"\.\d+$")

__all__ = ["engine_layers", "inspected", "megabytes", "print_bundle", "print_inspection"]

_PLACED = {
    Placing.TOP_LEFT: "letterboxed",
    Placing.CENTRE: "letterboxed in the middle",
    Placing.SQUASH: "squashed",
}


def print_bundle(bundle: Bundle) -> None:
    """Print the bundle's model, fidelity and engines."""
    from ..inspection import inspect_bundle

    found = inspect_bundle(bundle, whole=False)
    put(inspected(found))
    print_inspection(found)
    if bundle.manifest.class_names is None:
        console().print(
            "  warning   there are no class names, so labels are matched with a data set's "
            "categories by number alone: give --class-names FILE",
            style="yellow",
        )


def inspected(found: "Inspection") -> dict[str, Any]:
    """Return the document of `--json`: the manifest, and what else the bundle holds."""
    held = {field.name: getattr(found, field.name) for field in fields(found)}
    return {"manifest": found.bundle.manifest.to_json(), **held}


def print_inspection(found: "Inspection") -> None:
    """Print the same of a bundle that was inspected."""
    bundle = found.bundle
    screen, manifest = console(), bundle.manifest
    spec = manifest.input
    screen.print(str(bundle.path), style="bold")
    model = manifest.source.get("model", "of unknown source")
    screen.print(f"  model     {model}, {_weights(manifest.source)}")
    size = f"{spec.batch} x {spec.height} x {spec.width} x 3 uint8 RGB"
    screen.print(f"  input     {size}, {_PLACED[spec.placing]}")
    screen.print(f"  classes   {_classes(manifest)}", markup=False)
    if "masks" in manifest.outputs:
        screen.print(f"  masks     {_masks(manifest)}")
    screen.print(f"  fidelity  {_fidelity(manifest.fidelity)}")
    for warning in manifest.fidelity.get("violations", []):
        screen.print(f"  warning   the conversion is not exact. {warning}", style="yellow")
    if manifest.fidelity.get("violations"):
        screen.print(
            "            maskrt check --weights says what that costs in AP", style="yellow"
        )
    for sentence in manifest.fidelity.get("borderline", []):
        screen.print(f"  note      {sentence}")
    for warning in manifest.fidelity.get("warnings", []):
        screen.print(f"  warning   {warning}", style="yellow")
    if "warning" in manifest.source:
        screen.print(f"  warning   {manifest.source['warning']}", style="yellow")
    if found.calibration:
        _print_calibration(found.calibration)
    if found.search is not None:
        screen.print(f"  search    {_search(found.search)}")
    for name, report in found.reports.items():
        screen.print(f"  accuracy  {_accuracy(report, name, report == found.report)}")
        for line in _origin(report):
            screen.print(f"            {line}")
    if found.engines:
        screen.print(_engines(found.engines))
    for prepared in found.prepared:
        _print_prepared(bundle, prepared)


def _classes(manifest: Manifest) -> str:
    """Name the classes, the first few of many; label 0 is the background."""
    if manifest.class_names is None:
        return "no names"
    names = manifest.class_names[1:]
    more = f", and {len(names) - _CLASSES_SHOWN} more" if len(names) > _CLASSES_SHOWN else ""
    return f"{len(names)}: {', '.join(names[:_CLASSES_SHOWN])}{more}"


def _masks(manifest: Manifest) -> str:
    if manifest.mask_frame is not MaskFrame.BOX:
        return "over the picture, at about a quarter of its size"
    return f"over boxes, pasted as {manifest.mask_paste} pastes"


def _print_calibration(found: Mapping[str, Any]) -> None:
    """Print how many pictures the recipe's ranges come from, and each that was left out."""
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


def engine_layers(layers: Mapping[str, int]) -> str:
    """Return what an engine's heavy layers really compute in, such as `62 int8, 3 fp32`."""
    return ", ".join(f"{n} {name}" for name, n in layers.items() if n) or "not readable"


def _share(engine: "EngineFacts") -> str:
    """Return which share of an INT8 engine's layers really is INT8, such as ` (98 % int8)`."""
    if engine.precision.value != "int8" or not engine.layers:
        return ""
    share = 100 * engine.layers.get("int8", 0) / sum(engine.layers.values())
    return f" ({share:.0f} % int8)"


def _payoff(info: Mapping[str, Any]) -> str:
    found = info.get("payoff")
    return str(found.get("sentence", "")) if isinstance(found, dict) else ""


def _program(info: Mapping[str, Any]) -> str:
    """Return what an engine launches, moves and holds, where its builder could count that."""
    kernels, moved = info.get("kernels") or {}, info.get("traffic_bytes") or {}
    if not {"convolution", "gemm", "other"} <= kernels.keys():
        return ""
    if not {"frame", "floor"} <= moved.keys():
        return ""
    heavy, other = kernels["convolution"] + kernels["gemm"], kernels["other"]
    held = info.get("device_memory_bytes")
    memory = "" if held is None else f", {megabytes(held)} of device memory"
    return (
        f"a frame launches {heavy} convolutions and GEMMs and {counted(other, 'other kernel')}, "
        f"and moves {megabytes(moved['frame'])}, of which {megabytes(moved['floor'])} are weights "
        f"and data of layers, each once{memory}; counted, not timed."
    )


def _engines(engines: "Sequence[EngineFacts]") -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("engine", "asked", "layers really in", "size", "built in", "runs here"):
        table.add_column(heading, justify="right" if heading in ("size", "built in") else "left")
    notes = []
    for engine in engines:
        table.add_row(
            engine.name, engine.precision.value, engine_layers(engine.layers) + _share(engine),
            megabytes(engine.bytes), _seconds(engine), "yes" if engine.runs_here else "no",
        )  # fmt: skip
        texts = (_program(engine.info), engine.info.get("note"), _payoff(engine.info))
        notes += [f"{engine.name}: {text}" for text in texts if text]
    counting = _counting([engine.info for engine in engines])
    table.caption = "\n".join([*notes, *counting]) or None
    table.caption_justify = "left"
    return table


def _counting(infos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how layers are counted where that shows: a head that is run on several pyramid levels.

    Its second and further runs are the module's path with a number, such as `rpn.head.conv.2`.
    """
    for info in infos:
        names = info.get("layer_precisions") or {}
        if any(_RUN_AGAIN.sub("", name) in names for name in names if _RUN_AGAIN.search(name)):
            return ["A layer that is run on several pyramid levels counts once for each."]
    return []


def _print_prepared(bundle: Bundle, found: "PreparedFacts") -> None:
    """Print what is ready for a device, and the one command to run there."""
    screen, info = console(), found.info
    screen.print(f"{found.name}: prepared at {found.precision}, to be built on the device.")
    if found.segments is None:
        screen.print(f"  warning   {info['note']}", style="yellow")
    else:
        screen.print(
            f"  checked   {counted(sum(found.segments), 'node')} between the plugins, in "
            f"{counted(len(found.segments), 'segment')}, parsed and built by TensorRT-RTX"
        )
    if text := _payoff(info):
        screen.print(f"  int8      {text}", soft_wrap=True)
    screen.print(f"  there     {found.command}", soft_wrap=True)
    screen.print(
        f"  memory    at most {found.build_memory_mib} MiB expected during the build; more in "
        f"{bundle.path}/engines/{found.name}/README.md",
        soft_wrap=True,
    )


def _seconds(engine: "EngineFacts") -> str:
    return f"{engine.build_seconds:.1f} s" + (", cached" if engine.cached else "")


def _weights(source: Mapping[str, Any]) -> str:
    recorded = source.get("weights")
    if recorded:
        return f"weights {recorded['file']} ({recorded['sha256'][:12]}{_part(recorded)})"
    if (file := source.get("onnx")) is not None:
        return f"rewritten by surgery ({file['sha256'][:12]})"
    return "no weights given: the model is as its builder made it, untrained unless that trains it"


def _part(recorded: Mapping[str, Any]) -> str:
    """Say which part of a checkpoint was taken, where it holds more than weights."""
    averaged = "averaged over training (EMA)" if recorded.get("averaged") else ""
    beside = f"not {recorded['beside']}" if "beside" in recorded else ""
    prefix = f"without {recorded['prefix']}" if "prefix" in recorded else ""
    left_out = f"{recorded['left_out']} others left out" if "left_out" in recorded else ""
    words = (recorded.get("part", ""), averaged, beside, prefix, left_out)
    return "".join(f", {word}" for word in words if word)


def _improvements(found: Mapping[str, Any]) -> str:
    kept = " and ".join(found["kept"])
    tried = ", ".join(f"{drop:.2f} with {name}" for name, drop in found["ap_drop"].items())
    return f"by {kept or 'nothing, since nothing raised AP'}; AP lost: {tried}"


def _search(found: Mapping[str, Any]) -> str:
    best = found["best"]
    lost = "undefined" if best["drop"] is None else f"{max(best['drop'], 0):.2f}"
    return (
        f"{best['int8_layers']} of {best['layers']} layers in INT8 with the scales of "
        f"{best['method']} lose {lost} AP of the {found['budget']:g} allowed; "
        f"the fastest of {counted(len(found['trials']), 'recipe')} tried"
    )


def _accuracy(report: Mapping[str, Any], name: str, newest: bool) -> str:
    """Return AP and its change in one line, from an engine's last report."""
    from ..runtime.check.losses import in_words

    drop = report.get("drop") or {}
    parts = []
    for kind in ("box", "mask"):
        if kind in report["metrics"]:
            lost, found = drop.get(kind, {}).get("AP"), report["metrics"][kind]["AP"]
            change = "" if lost is None else f" ({in_words(lost)})"
            parts.append(f"{kind} AP " + ("undefined" if found is None else f"{found:.2f}{change}"))
    against = f" against {report['reference_name']}" if report.get("reference_name") else ""
    verdict = ""
    if report.get("budget") is not None:
        place = "inside" if report["passed"] else "outside"
        verdict = f", {place} the budget of {report['budget']:g}"
    where = f"{report['target']} {report['precision']} on {report['images']} pictures"
    file = "report/report.html" if newest else f"report/{name}/report.html"
    return f"{', '.join(parts)}{against}: {where}{verdict}; {file}"


def _origin(report: Mapping[str, Any]) -> list[str]:
    """Return when and with what a report was made, and of which files, in short."""
    found = report.get("provenance") or {}
    if not found:
        return []
    digests, machine = found.get("sha256", {}), found.get("machine", {})
    files = digests.get("engine", {})
    named = {name: digests.get(name) for name in ("weights", "graph", "recipe")}
    named["engine"] = next((d for name, d in files.items() if name != "engine.json"), None)
    named["data"] = digests.get("data")
    versions = found.get("versions", {})
    with_what = ", ".join(
        f"{name} {versions[name]}"
        for name in ("maskrt", "onnxruntime", "tensorrt", "tensorrt_rtx")
        if name in versions
    )
    return [
        f"{found.get('date')} on {machine.get('gpu') or machine.get('cpu')}, {with_what}",
        "SHA-256: " + ", ".join(f"{n} {d[:12]}" for n, d in named.items() if d),
        found.get("command", ""),
    ]


def _fidelity(found: Mapping[str, Any]) -> str:
    if not found.keys() >= _COMPARED:
        return "not measured"
    pictures = counted(found["pictures"], "picture")
    if not found["instances"] and not found["violations"]:
        return f"nothing was found in {pictures}, so nothing was compared"
    worst = found["worst_box_iou"], found["worst_score_difference"]
    if None in worst:
        return f"the worst of {counted(found['instances'], 'instance')} in {pictures} is not told"
    mask = found["worst_mask_iou"]
    masks = "" if mask is None else f", mask IoU {mask:.4f}"
    original = "the original ONNX" if "original ONNX" in found["compared"] else "PyTorch FP32"
    return (
        f"{counted(found['instances'], 'instance')} in {pictures} against {original}: "
        f"worst box IoU {worst[0]:.5f}, score difference {worst[1]:.1e}{masks}"
    )
