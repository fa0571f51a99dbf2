"""What a bundle holds, down to the layers' precisions and their reasons: `inspect`.

Of an ONNX file that another exporter wrote, what surgery recognises in it and where it stops.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from .calib import Recipe
from .calib.bundled import read_model
from .core import Bundle, BundleError, Precision, Target
from .core.bundle import RECIPE, REPORT, SEARCH
from .core.bundle_content import complete
from .core.bundle_files import CompleteEngine, CompletePrepared
from .core.operator_names import operator_of
from .export.surgery import Examination, examine
from .runtime.build.prepared_text import build_command
from .runtime.cuda_device import can_run
from .side_by_side import reports_of

__all__ = [
    "EngineFacts",
    "GraphFacts",
    "Inspection",
    "KeptBack",
    "PreparedFacts",
    "RecipeFacts",
    "inspect",
    "inspect_bundle",
]


@dataclass(frozen=True)
class EngineFacts:
    """A finished engine.

    Attributes:
        name: target, and precision if that is not the bundle's own, such as `"rtx@fp16"`.
        precision: what was asked for.
        layers: precision → how many heavy layers really compute in it; empty if that cannot be
            read from the engine.
        bytes: size of the engine's file.
        build_seconds: how long the build took; back then, if it came out of the cache.
        cached: whether it did.
        runs_here: whether this machine can run it.
        info: all that `engine.json` says.
    """

    name: str
    precision: Precision
    layers: Mapping[str, int]
    bytes: int
    build_seconds: float
    cached: bool
    runs_here: bool
    info: Mapping[str, Any]


@dataclass(frozen=True)
class PreparedFacts:
    """What is ready for a device, which builds the engine itself.

    Attributes:
        name: as of an engine.
        precision: what was asked for.
        segments: how many nodes each stretch between the plugins has, which TensorRT-RTX parsed and
            built here; None if that was not done, and `info["note"]` says why.
        build_memory_mib: at most expected during the build.
        command: builds on the device.
        info: all that `prepared.json` says.
    """

    name: str
    precision: Precision
    segments: tuple[int, ...] | None
    build_memory_mib: int
    command: str
    info: Mapping[str, Any]


@dataclass(frozen=True)
class GraphFacts:
    """The canonical graph.

    Attributes:
        nodes: how many.
        operators: `"Conv"` or, outside ONNX's own domain, `"maskrt::BatchedNMS"` → how many; the
            most frequent first.
    """

    nodes: int
    operators: Mapping[str, int]


@dataclass(frozen=True)
class KeptBack:
    """A layer of another precision than was asked for, and why."""

    layer: str
    precision: Precision
    reason: str


@dataclass(frozen=True)
class RecipeFacts:
    """The recipe.

    Attributes:
        precision: what was asked for.
        layers: precision → how many layers have it.
        scales: of how many tensors ranges are known.
        kept_back: the layers of another precision.
    """

    precision: Precision
    layers: Mapping[Precision, int]
    scales: int
    kept_back: tuple[KeptBack, ...]


@dataclass(frozen=True)
class Inspection:
    """What a bundle holds.

    Attributes:
        bundle: itself; `bundle.manifest` has input, outputs, class names, source and fidelity.
        calibration: how ranges were found and improved (`recipe.json`); None without a recipe.
        search: what was tried to keep a budget (`search.json`); None without one.
        report: the last check's report (`report/report.json`); None without one.
        reports: the last report of each engine, such as `"cpu@int8"`.
        engines: those that are built.
        prepared: those that a device builds.
        graph: None where it was not asked for.
        recipe: None without one, or where it was not asked for.
    """

    bundle: Bundle
    calibration: Mapping[str, Any] | None
    search: Mapping[str, Any] | None
    report: Mapping[str, Any] | None
    engines: tuple[EngineFacts, ...]
    prepared: tuple[PreparedFacts, ...]
    graph: GraphFacts | None = None
    recipe: RecipeFacts | None = None
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@overload
def inspect(path: Bundle) -> Inspection: ...


@overload
def inspect(path: Path | str) -> Inspection | Examination: ...


def inspect(path: Bundle | Path | str) -> Inspection | Examination:
    """Return what a bundle holds; of an ONNX file, what surgery recognises in it.

    Args:
        path: a bundle or its folder, or another exporter's `.onnx` file.

    Raises:
        BundleError: it is neither, or a damaged bundle.
        InputError, UnsupportedModelError: an ONNX file that cannot be read.
        UsageError: an ONNX file that maskrt wrote.
    """
    if isinstance(path, Bundle):
        return inspect_bundle(path, whole=True)
    place = Path(path)
    if place.suffix == ".onnx" and not place.is_dir():
        return examine(place)
    if place.is_file():
        raise BundleError(
            f"{place} is neither a bundle nor an .onnx file: name the folder that maskrt compile "
            "wrote, or another exporter's ONNX file."
        )
    return inspect_bundle(Bundle.open(place), whole=True)


def inspect_bundle(bundle: Bundle, *, whole: bool) -> Inspection:
    """Return what a bundle holds; without `whole`, not what takes a look at the graph."""
    recipe = Recipe.from_json(bundle.read_json(RECIPE)) if RECIPE in bundle else None
    return Inspection(
        bundle=bundle,
        calibration=recipe.calibration if recipe is not None else None,
        search=bundle.read_json(SEARCH) if SEARCH in bundle else None,
        report=bundle.read_json(REPORT) if REPORT in bundle else None,
        engines=tuple(_engine(bundle, name) for name in bundle.engines()),
        prepared=tuple(_prepared(bundle, name) for name in bundle.prepared()),
        graph=_graph(bundle) if whole else None,
        recipe=_recipe(recipe) if whole and recipe is not None else None,
        reports=reports_of(bundle),
    )


def _engine(bundle: Bundle, name: str) -> EngineFacts:
    file = f"engines/{name}/engine.json"
    info = bundle.read_json(file)
    complete(info, CompleteEngine, file, bundle.path)
    return EngineFacts(
        name=name,
        precision=Precision.parse(info["precision"]),
        layers={layer: count for layer, count in (info.get("layers") or {}).items() if count},
        bytes=info["bytes"],
        build_seconds=info["build_seconds"],
        cached=bool(info.get("cached")),
        runs_here=can_run(Target.parse(name.partition("@")[0])),
        info=info,
    )


def _prepared(bundle: Bundle, name: str) -> PreparedFacts:
    file = f"engines/{name}/prepared.json"
    info = bundle.read_json(file)
    complete(info, CompletePrepared, file, bundle.path)
    segments = info["segments"]
    return PreparedFacts(
        name=name,
        precision=Precision.parse(info["precision"]),
        segments=None if segments is None else tuple(part["nodes"] for part in segments),
        build_memory_mib=info["build_memory_mib"],
        command=build_command(info, bundle.path.resolve().name, name),
        info=info,
    )


def _graph(bundle: Bundle) -> GraphFacts:
    nodes = read_model(bundle).graph.node
    kinds = Counter(
        f"{n.domain}::{operator_of(n.op_type)}" if n.domain else n.op_type for n in nodes
    )
    return GraphFacts(len(nodes), dict(kinds.most_common()))


def _recipe(recipe: Recipe) -> RecipeFacts:
    asked = recipe.precision
    wanted = Precision.INT8 if asked is Precision.MIXED else asked
    return RecipeFacts(
        precision=asked,
        layers=dict(Counter(choice.precision for choice in recipe.layers.values())),
        scales=len(recipe.tensors),
        kept_back=tuple(
            KeptBack(name, choice.precision, choice.reason)
            for name, choice in recipe.layers.items()
            if choice.precision is not wanted
        ),
    )
