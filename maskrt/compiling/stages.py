"""The stages, each of which reads a bundle that is being edited and adds to it.

This file and `pipeline` are where `export`, `calib` and `runtime` meet, which never import each
other.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from .. import calib
from ..calib.bundled import read_model, read_recipe
from ..checking.accuracy import measure
from ..checking.conversion import prove
from ..core import (
    Bundle,
    BundleError,
    CheckFailedError,
    Precision,
    Progress,
    Target,
    require,
)
from ..core.bundle import MODEL, RECIPE, SEARCH
from ..precision.observation import forget, observe, settled
from ..precision.payoff import payoff
from ..precision.request import Judged, RecipeRequest
from ..runtime.build import WeakTypes, build_engine, is_buildable, prepare
from ..runtime.check.losses import budget_sentence
from .request import DEFAULT_SIZE, EngineRequest, ModelRequest

if TYPE_CHECKING:
    from ..export import Export
    from ..export.surgery import OnnxExport

__all__ = [
    "fit_recipe_to_budget",
    "hold_to_budget",
    "improve_recipe",
    "make_export",
    "write_engine",
    "write_export",
    "write_recipe",
]

_LOG = logging.getLogger(__name__)


def make_export(asked: ModelRequest, progress: Progress) -> "Export | OnnxExport":
    """Export a model to canonical ONNX, with what it is compared with: the model itself."""
    require("onnxruntime", "compare the exported graph with the original")
    progress("export", 0, 1)
    exported = _operate(asked) if asked.is_onnx else _trace(asked)
    progress("export", 1, 1)
    return exported


def _trace(asked: ModelRequest) -> "Export":
    from ..export import export_model

    model = asked.model
    return export_model(
        str(model) if isinstance(model, Path) else model,
        weights=asked.weights,
        num_classes=asked.num_classes,
        input_size=asked.input_size or DEFAULT_SIZE,
        batch=asked.batch,
        class_names=asked.class_names,
        paste=asked.paste,
    )


def _operate(asked: ModelRequest) -> "OnnxExport":
    from ..export.surgery import export_onnx

    return export_onnx(
        Path(str(asked.model)),
        input_size=asked.input_size,
        batch=asked.batch,
        class_names=asked.class_names,
        paste=asked.paste,
        outputs=asked.head.outputs,
        head={name: value for name, value in asked.head.said.items() if name != "outputs"},
        **asked.normalisation,
    )


def write_export(
    bundle: Bundle,
    exported: "Export | OnnxExport",
    pictures: Sequence[Any] | None,
    progress: Progress,
) -> None:
    """Write the canonical graph, and how close it is to the model that it came from."""
    bundle.write(MODEL, exported.model.SerializeToString())
    fidelity = prove(exported, pictures, progress=progress)
    _LOG.info("proven on %(pictures)d pictures, %(instances)d instances", fidelity)
    bundle.update(fidelity=fidelity)


def write_recipe(
    bundle: Bundle, model: onnx.ModelProto, asked: RecipeRequest, progress: Progress
) -> None:
    """Calibrate on the pictures of `asked`, if there are any, and write the recipe.

    Raises:
        UsageError: the method does not fit the model.
    """
    calib.check_method_fits(model, asked.precision, asked.method)
    asked.keep(model, calib.make_recipe(model, Precision.FP32))  # a wrong name is said at once
    if asked.pictures is None:
        store_recipe(bundle, model, asked, None, {})
        return
    spec = bundle.manifest.input
    seen = observe(model, asked.pictures, spec, progress)
    store_recipe(bundle, model, asked, *settled(seen, len(asked.pictures)))
    forget(model, asked.pictures, spec)


def store_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    asked: RecipeRequest,
    statistics: calib.Statistics | None,
    facts: dict[str, Any],
) -> None:
    """Write the recipe that `statistics` give, with the `facts` of the pictures behind them."""
    recipe = calib.make_recipe(model, asked.precision, statistics, method=asked.method)
    recipe = asked.keep(model, recipe)
    recipe = replace(recipe, calibration={**recipe.calibration, **facts})
    bundle.write(RECIPE, recipe.to_json())
    bundle.update(precision=asked.precision)


def remove_stale(bundle: Bundle) -> None:
    """Remove what was made from the recipe that is about to be replaced."""
    for prefix in ("engines/", "report/", SEARCH):
        bundle.remove(prefix)


def improve_recipe(
    bundle: Bundle, asked: RecipeRequest, judged: Judged, progress: Progress
) -> None:
    """Try the improvements that are asked for on the bundle's recipe, and keep what raises AP."""
    from ..precision.improvement import improve

    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    improved = improve(bundle, read_model(bundle), recipe, asked, judged, progress)
    bundle.write(RECIPE, improved.to_json())


def fit_recipe_to_budget(
    bundle: Bundle, asked: RecipeRequest, judged: Judged, progress: Progress
) -> None:
    """Search the fastest recipe inside the budget, and write it and what was tried.

    Raises:
        CheckFailedError: there is none.
    """
    from ..precision.search import fit_recipe, search_report

    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    outcome = fit_recipe(bundle, read_model(bundle), recipe, asked, judged, progress)
    assert outcome.best is not None
    bundle.write(RECIPE, outcome.best.recipe.to_json())
    bundle.write(SEARCH, search_report(outcome, judged))


def write_engine(bundle: Bundle, asked: EngineRequest, progress: Progress) -> None:
    """Render the recipe, build the engine, and write it with what it really is.

    What only the target's own device can build is prepared for it instead.
    """
    target, precision, options = asked.target, asked.precision, asked.options
    stage, total = f"build {target.name} {precision}", 1
    progress(stage, 0, total)
    model, wanted = read_model(bundle), read_recipe(bundle, precision)
    recipe = calib.recipe_for(model, wanted, target)
    style = calib.Style.ORT if target.backend == "onnxruntime" else calib.Style.TENSORRT
    _LOG.info("%s at %s: render %d layers", target.name, precision, len(recipe.layers))
    started = time.perf_counter()
    rendered = calib.render(model, recipe, style)
    folder = bundle.engine_folder(target, precision)

    def step(done: int, of: int) -> None:
        nonlocal total
        total = of
        progress(stage, min(done, of - 1), of)

    if is_buildable(target) or options.here:
        names = () if options.dla is None else _accelerated(model, recipe)
        # What was suited to TensorRT-RTX may have no INT8 left: each layer is held to its own.
        suited = recipe is not wanted and target.backend == "tensorrt_rtx"
        held = Precision.MIXED if suited else precision
        engine = build_engine(rendered, target, held, options, step, accelerated=names)
    else:
        engine = prepare(
            rendered, target, precision, bundle_name=asked.bundle_name, folder=folder,
            canonical=calib.improved(model, recipe), weak=_weak_types(model, recipe, target),
            progress=progress, options=options,
        )  # fmt: skip
    bundle.remove(folder + "/")
    for file, data in engine.files.items():
        bundle.write(f"{folder}/{file}", data)
    sources = {
        "graph": bundle.digests[MODEL],
        "recipe": bundle.digests[RECIPE],
        "interface": bundle.manifest.interface_digest,
    }
    info = {**engine.info, "sha256": {**sources, **engine.info.get("sha256", {})}}
    if recipe is not wanted:
        bundle.write(f"{folder}/{RECIPE}", recipe.to_json())
        info |= calib.own_info(info, wanted, recipe, target)
    if found := payoff(model, recipe, target, info):
        info["payoff"] = found
    if is_buildable(target):
        info["total_seconds"] = round(time.perf_counter() - started, 2)
    bundle.write(f"{folder}/{'engine' if is_buildable(target) else 'prepared'}.json", info)
    progress(stage, total, total)


def _accelerated(model: onnx.ModelProto, recipe: calib.Recipe) -> set[str]:
    """Return the names of the nodes that a DLA takes, which rendering keeps."""
    takes = calib.accelerated(model, recipe).takes
    return {node.name for node in model.graph.node if node.output[0] in takes}


def _weak_types(model: onnx.ModelProto, recipe: calib.Recipe, target: Target) -> WeakTypes:
    """Return the recipe for the TensorRT 8 of a Jetson's older JetPack releases."""
    scales = calib.implicit_scales(model, recipe)
    old = [pack for pack in target.jetpacks if scales and pack.tensorrt < (10, 0)]
    caches = {pack.version: calib.calibration_cache(scales, pack.tensorrt) for pack in old}
    precisions, free = calib.layer_types(model, recipe)
    if not target.dla_cores:
        return WeakTypes(precisions, free, caches)
    dla = calib.accelerated(model, recipe)
    return WeakTypes(precisions, free, caches, dla.takes, dla.leaves, dla.loadables)


def hold_to_budget(bundle: Bundle, target: Target, judged: Judged, progress: Progress) -> None:
    """Raise `CheckFailedError` if the engine misses the budget, before the bundle appears."""
    report, _, unsaved = measure(
        bundle, judged.dataset, target=target, max_ap_drop=judged.budget,
        max_ap75_drop=judged.ap75_budget, max_class_drop=judged.class_budget,
        command="maskrt.compile", progress=progress,
    )  # fmt: skip
    if unsaved:
        raise BundleError(unsaved)
    if not report.passed:
        raise CheckFailedError(f"{budget_sentence(report)} No bundle was written.")
