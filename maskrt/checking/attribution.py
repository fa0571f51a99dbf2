"""Attribution: where the AP was lost, by swapping one stage after the other for its definition.

    start   reference model         defined letterbox   defined paste
    surgery      canonical graph    defined letterbox   defined paste
    letterbox    canonical graph    runtime's           defined paste
    precision    one more group of layers at the engine's precision, in ONNX Runtime; a part each
    engine       the engine itself  runtime's           defined paste
    paste        the engine itself  runtime's           runtime's

A part is the AP before its step minus the AP after it, so the parts add up to the whole loss,
exactly. What they share is counted where it first shows. The reference is the PyTorch model if
weights are given; without them it is the canonical graph, and there is no surgery part.

AP alone is a blunt witness on few pictures, so each stage is also held against its definition
directly (`findings`): canvases pixel by pixel, pasted masks, the operators of the graph, labels.
The suspect is the first stage with a finding, else the one that lost most, if that was anything.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from .. import calib
from ..core import Bundle, Instances, Precision, Progress, Target, silent
from ..core.bundle import RECIPE
from ..runtime import Backend, Session
from ..runtime.backends.cpu import CpuBackend
from ..runtime.check import Agreement, CocoDataset, CocoImage, Recorder
from ..runtime.check.definitions import defined_letterbox, definition_of
from ..runtime.check.fidelity import mask_iou
from .operator_probes import probe_operators
from .references import bare_session, evaluate_session

__all__ = ["attribute_loss", "layer_groups"]

_NEGLIGIBLE = 0.05  # AP; a stage that lost less is no suspect
_MOST_GROUPS = 8
_GREY_LEVELS = 2
_PASTE_IOU = 0.98
_KINDS = ("box", "mask")


@dataclass(frozen=True)
class _Step:
    """One stage's swap: after it, this session runs."""

    stage: str
    what: str
    open: Callable[[], Session]


def attribute_loss(
    bundle: Bundle,
    model: onnx.ModelProto,
    dataset: CocoDataset,
    *,
    target: Target,
    precision: Precision,
    open_engine: Callable[[], Backend],
    open_reference: Callable[[], Backend] | None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Split the AP lost into stages.

    Args:
        bundle: holds the recipe.
        model: the canonical graph.
        dataset: what AP is measured on.
        target: of the engine.
        precision: of the engine.
        open_engine: opens the engine.
        open_reference: opens the PyTorch model, or None.
        progress: told what goes on.

    Returns:
        `start` (the reference's name), `whole` (kind → AP lost), `parts` (each `stage`, `what`,
        `lost`), `findings` (each `stage`, `sentence`) and `suspect` (a stage or None).
    """
    run = _Runner(bundle, dataset, progress)
    findings = [{"stage": "surgery", "sentence": said} for said in probe_operators(model)]
    steps = list(_steps(run, bundle, model, target, precision, open_engine, open_reference))
    first = steps.pop(0)
    start = before = run.ap(first, findings)
    parts = []
    for step in steps:
        after = run.ap(step, findings)
        lost = {kind: before[kind] - after[kind] for kind in before}
        parts.append({"stage": step.stage, "what": step.what, "lost": lost})
        before = after
    return {
        "start": first.what,
        "whole": {kind: start[kind] - before[kind] for kind in start},
        "parts": parts,
        "suspect": _suspect(parts, findings),
        "findings": findings,
    }


def layer_groups(names: list[str]) -> dict[str, list[str]]:
    """Return the layers in at most eight groups, by the modules that they come from.

    Names without modules are cut into quarters, in the graph's order.
    """
    for depth in (2, 1):
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(".".join(name.split(".")[:depth]), []).append(name)
        if len(groups) <= _MOST_GROUPS:
            return groups
    quarters = np.array_split(np.array(names, dtype=object), 4)
    return {f"{q[0]} to {q[-1]}": q.tolist() for q in quarters if len(q)}


def _steps(
    run: "_Runner",
    bundle: Bundle,
    model: onnx.ModelProto,
    target: Target,
    precision: Precision,
    open_engine: Callable[[], Backend],
    open_reference: Callable[[], Backend] | None,
) -> Iterator[_Step]:
    paste = definition_of(bundle.manifest.mask_frame, bundle.manifest.mask_paste)

    def defined(open_backend: Callable[[], Backend]) -> Callable[[], Session]:
        return lambda: run.session(
            open_backend(), letterbox_with=defined_letterbox, paste_with=paste
        )

    def letterboxed(open_backend: Callable[[], Backend]) -> Callable[[], Session]:
        return lambda: run.session(open_backend(), paste_with=paste)

    def canonical() -> Backend:
        return CpuBackend(model.SerializeToString())

    if open_reference is None:
        yield _Step("start", "canonical FP32", defined(canonical))
    else:
        yield _Step("start", "PyTorch FP32", defined(open_reference))
        yield _Step("surgery", "PyTorch to canonical ONNX", defined(canonical))
    yield _Step("letterbox", "letterboxing and resize", letterboxed(canonical))
    for name, graph in _rendered_groups(bundle, model, target, precision):
        yield _Step("precision", name, letterboxed(_opener(graph)))
    yield _Step("engine", f"the engine for {target.name}", letterboxed(open_engine))
    yield _Step("paste", "mask pasting", lambda: run.session(open_engine()))


def _opener(graph: bytes) -> Callable[[], Backend]:
    return lambda: CpuBackend(graph)


def _rendered_groups(
    bundle: Bundle, model: onnx.ModelProto, target: Target, precision: Precision
) -> Iterator[tuple[str, bytes]]:
    """Yield, for each group of layers, the graph in which it and those before it are lowered."""
    from ..runtime.build.host_graph import host_graph

    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    if precision is not recipe.precision:
        recipe = recipe.with_precision(precision)
    recipe = calib.recipe_for(model, recipe, target)
    lowered = [n for n, c in recipe.layers.items() if c.precision is not Precision.FP32]
    chosen: set[str] = set()
    for name, members in layer_groups(lowered).items():
        chosen |= set(members)
        layers = {
            layer: choice if layer in chosen else replace(choice, precision=Precision.FP32)
            for layer, choice in recipe.layers.items()
        }
        partial = replace(recipe, layers=layers)
        own = target.backend == "onnxruntime"
        graph = calib.render(model, partial, calib.Style.ORT, full_range=own)
        count = f"{len(members)} layer{'s' if len(members) > 1 else ''}"
        yield f"{name}, {count} at {precision}", host_graph(graph)


class _Runner:
    """Runs sessions over the data set, and holds what they do against the definitions."""

    def __init__(self, bundle: Bundle, dataset: CocoDataset, progress: Progress) -> None:
        self._manifest, self._dataset, self._progress = bundle.manifest, dataset, progress
        self._names = bundle.manifest.class_names
        self._start: Any = None
        self._defined: Any = None

    def session(self, backend: Backend, **stages: Any) -> Session:
        return bare_session(backend, self._manifest, **stages)

    def ap(self, step: _Step, findings: list[dict[str, str]]) -> dict[str, float]:
        """Return box and mask AP after a step; what the step reveals is added to `findings`."""
        recorder, gap = Recorder(), 0

        def seen(entry: CocoImage, image: np.ndarray, found: Instances) -> None:
            nonlocal gap
            recorder.add(entry.id, found)
            if step.stage == "letterbox":
                gap = max(gap, self._canvas_gap(session, image))

        stage = f"attribute to {step.stage}"
        with step.open() as session:
            done = evaluate_session(session, self._dataset, stage, self._progress, seen=seen)
        results = recorder.finish(step.what, "")
        findings += [{"stage": step.stage, "sentence": said}
                     for said in self._revealed(step, results, gap)]  # fmt: skip
        return {k: float(done.metrics[k]["AP"] or 0.0) for k in _KINDS if k in done.metrics}

    def _revealed(self, step: _Step, results: Any, gap: int) -> Iterator[str]:
        if step.stage == "start":
            self._start = results
        elif step.stage == "letterbox" and gap > _GREY_LEVELS:
            yield (
                f"the runtime's canvas differs from its definition by up to {gap} grey levels: "
                "its resize does not sample where it should."
            )
        elif step.stage == "engine":
            self._defined = results
        elif step.stage == "paste" and len(results.run_starts):
            yield from self._paste_findings(results)
        if step.stage in ("surgery", "engine"):
            yield from self._swapped(results)

    def _canvas_gap(self, session: Session, image: np.ndarray) -> int:
        own, _ = session.place(image)
        defined, _ = defined_letterbox(image, session.spec)
        return int(np.abs(own.astype(np.int16) - defined).max())

    def _paste_findings(self, results: Any) -> Iterator[str]:
        """Compare the runtime's masks with those by definition, of the same engine's instances."""
        ious: list[float] = []
        for image in self._dataset.images:
            both = (self._defined.of(image.id), results.of(image.id))
            for a, b in zip(*(found.each_crop() for found in both), strict=True):
                if a.inside.any() or b.inside.any():
                    ious.append(mask_iou(a, b))
        if ious and float(np.mean(ious)) < _PASTE_IOU:
            yield (
                f"the runtime's pasted masks overlap those by definition by an IoU of "
                f"{np.mean(ious):.3f} on average: it pastes another shape or to another place."
            )

    def _swapped(self, results: Any) -> Iterator[str]:
        agreement = Agreement()
        for image in self._dataset.images:
            agreement.add(self._start.of(image.id), results.of(image.id))
        for first, second in agreement.summary(self._names)["swapped_labels"]:
            yield f"the labels {first} and {second} are swapped."


def _suspect(parts: list[dict[str, Any]], findings: list[dict[str, str]]) -> str | None:
    if findings:
        return findings[0]["stage"]
    lost: dict[str, float] = {}
    for part in parts:
        worst = max(part["lost"].values())
        lost[part["stage"]] = lost.get(part["stage"], 0.0) + worst
    stage = max(lost, key=lambda name: lost[name])
    return stage if lost[stage] > _NEGLIGIBLE else None
