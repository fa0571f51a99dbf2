"""The stages, each of which reads a bundle that is being edited and adds to it.

This file and `pipeline` are where `export`, `calib` and `runtime` meet, which never import each
other.
"""

import time
from collections.abc import Mapping, Sequence
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
    UsageError,
    require,
)
from ..core.bundle import MODEL, RECIPE, SEARCH
from ..core.masks import MaskPaste
from ..precision.observation import forget, observe, settled
from ..precision.payoff import payoff
from ..runtime.build import BuildOptions, WeakTypes, build_engine, is_buildable, prepare
from ..runtime.check import CocoDataset
from ..runtime.check.evaluate import budget_sentence

if TYPE_CHECKING:
    from torch import nn

    from ..export import Export
    from ..export.surgery import OnnxExport

__all__ = [
    "fit_recipe_to_budget",
    "hold_to_budget",
    "improve_recipe",
    "is_onnx",
    "make_export",
    "write_engine",
    "write_export",
    "write_recipe",
]

_DEFAULT_SIZE = (512, 512)


def make_export(
    model: "str | Path | nn.Module",
    weights: Path | str | None,
    num_classes: int | None,
    input_size: tuple[int, int] | None,
    batch: int,
    class_names: Sequence[str] | None,
    progress: Progress,
    normalisation: Mapping[str, Any] | None = None,
    *,
    paste: MaskPaste | None = None,
) -> "Export | OnnxExport":
    """Export a model to canonical ONNX, with what it is compared with: the model itself.

    `normalisation` holds those of `mean`, `std` and `channel_order` that were given, which are for
    an ONNX file alone.
    """
    require("onnxruntime", "compare the exported graph with the original")
    progress("export", 0, 1)
    if is_onnx(model):
        exported = _operate(
            Path(str(model)), weights, num_classes, input_size, batch, class_names,
            normalisation or {}, paste,
        )  # fmt: skip
        progress("export", 1, 1)
        return exported
    if normalisation:
        given = " and ".join(f"{name}=" for name in normalisation)
        raise UsageError(
            f"{given} says how pictures are normalised for an ONNX file, and a PyTorch model says "
            "that itself: leave it out."
        )
    from ..export import export_model

    traced = export_model(
        str(model) if isinstance(model, Path) else model,
        weights=weights,
        num_classes=num_classes,
        input_size=input_size or _DEFAULT_SIZE,
        batch=batch,
        class_names=class_names,
        paste=paste,
    )
    progress("export", 1, 1)
    return traced


def is_onnx(model: "str | Path | nn.Module") -> bool:
    """Whether MODEL is an ONNX file and not a PyTorch model."""
    return isinstance(model, str | Path) and str(model).endswith(".onnx")


def _operate(
    path: Path,
    weights: Path | str | None,
    num_classes: int | None,
    input_size: tuple[int, int] | None,
    batch: int,
    class_names: Sequence[str] | None,
    normalisation: Mapping[str, Any],
    paste: MaskPaste | None,
) -> "OnnxExport":
    from ..export.surgery import export_onnx

    for name, value in (("weights", weights), ("num_classes", num_classes)):
        if value is not None:
            raise UsageError(f"{path} holds its own weights and classes: leave {name} out.")
    return export_onnx(
        path,
        input_size=input_size,
        batch=batch,
        class_names=class_names,
        paste=paste,
        **normalisation,
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
    bundle.update(fidelity=fidelity)


def write_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    precision: Precision,
    pictures: list[Any] | None,
    progress: Progress,
    method: str = calib.DEFAULT_METHOD,
) -> None:
    """Calibrate on `pictures`, if there are any, and write the recipe."""
    if pictures is None:
        store_recipe(bundle, model, precision, None, {}, method)
        return
    seen = observe(model, pictures, bundle.manifest.input, progress)
    statistics, facts = settled(seen, len(pictures))
    store_recipe(bundle, model, precision, statistics, facts, method)
    forget(model, pictures, bundle.manifest.input)


def store_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    precision: Precision,
    statistics: calib.Statistics | None,
    facts: dict[str, Any],
    method: str,
) -> None:
    """Write the recipe that `statistics` give, with the `facts` of the pictures behind them."""
    recipe = calib.make_recipe(model, precision, statistics, method=method)
    recipe = replace(recipe, calibration={**recipe.calibration, **facts})
    bundle.write(RECIPE, recipe.to_json())
    bundle.update(precision=precision)


def remove_stale(bundle: Bundle) -> None:
    """Remove what was made from the recipe that is about to be replaced."""
    for prefix in ("engines/", "report/", SEARCH):
        bundle.remove(prefix)


def improve_recipe(
    bundle: Bundle,
    targets: Sequence[Target],
    dataset: CocoDataset,
    pictures: Sequence[Any] | None,
    asked: Sequence[str],
    progress: Progress,
) -> None:
    """Try the improvements `asked` on the bundle's recipe, and keep those that raise AP."""
    from ..precision.improvement import improve

    recipe = improve(
        bundle,
        read_model(bundle),
        calib.Recipe.from_json(bundle.read_json(RECIPE)),
        dataset,
        pictures or [],
        targets,
        asked,
        progress,
    )
    bundle.write(RECIPE, recipe.to_json())


def fit_recipe_to_budget(
    bundle: Bundle,
    targets: Sequence[Target],
    dataset: CocoDataset,
    pictures: list[Any] | None,
    budget: float,
    progress: Progress,
) -> None:
    """Search the fastest recipe inside the budget, and write it and what was tried.

    Raises:
        CheckFailedError: there is none.
    """
    from ..precision.search import fit_recipe, search_report

    outcome = fit_recipe(
        bundle,
        read_model(bundle),
        calib.Recipe.from_json(bundle.read_json(RECIPE)),
        dataset,
        pictures or [],
        budget,
        targets,
        progress,
    )
    assert outcome.best is not None
    bundle.write(RECIPE, outcome.best.recipe.to_json())
    bundle.write(SEARCH, search_report(outcome, budget, targets))


def write_engine(
    bundle: Bundle,
    name: str,
    target: Target,
    precision: Precision,
    progress: Progress,
    options: BuildOptions | None = None,
) -> None:
    """Render the recipe, build the engine, and write it with what it really is.

    What only the target's own device can build is prepared for it instead.
    """
    stage, total = f"build {target.name} {precision}", 1
    progress(stage, 0, total)
    asked = options or BuildOptions()
    model, wanted = read_model(bundle), read_recipe(bundle, precision)
    recipe = calib.recipe_for(model, wanted, target)
    style = calib.Style.ORT if target.backend == "onnxruntime" else calib.Style.TENSORRT
    started = time.perf_counter()
    rendered = calib.render(model, recipe, style)
    folder = bundle.engine_folder(target, precision)

    def step(done: int, of: int) -> None:
        nonlocal total
        total = of
        progress(stage, min(done, of - 1), of)

    if is_buildable(target) or asked.here:
        names = () if asked.dla is None else _accelerated(model, recipe)
        # What was suited to TensorRT-RTX may have no INT8 left: each layer is held to its own.
        suited = recipe is not wanted and target.backend == "tensorrt_rtx"
        held = Precision.MIXED if suited else precision
        engine = build_engine(rendered, target, held, asked, step, accelerated=names)
    else:
        engine = prepare(
            rendered, target, precision, bundle_name=name, folder=folder,
            canonical=calib.improved(model, recipe), weak=_weak_types(model, recipe, target),
            progress=progress, options=asked,
        )  # fmt: skip
    bundle.remove(folder + "/")
    for file, data in engine.files.items():
        bundle.write(f"{folder}/{file}", data)
    sources = {"graph": bundle.digests[MODEL], "recipe": bundle.digests[RECIPE]}
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


def hold_to_budget(
    bundle: Bundle,
    target: Target,
    dataset: CocoDataset,
    budget: float,
    progress: Progress,
) -> None:
    """Raise `CheckFailedError` if the engine misses the budget, before the bundle appears."""
    report, _, unsaved = measure(
        bundle,
        dataset,
        target=target,
        max_ap_drop=budget,
        progress=progress,
    )
    if unsaved:
        raise BundleError(unsaved)
    if not report.passed:
        raise CheckFailedError(f"{budget_sentence(report)} No bundle was written.")
