"""The precision search with everything that it is handed: pictures, engines, AP.

`calib.search` decides what to try. Here a recipe is scored: rendered for the CPU, built, run over
the annotated pictures, and its COCO AP is taken from that of the FP32 graph. Targets with a GPU are
stood in for by the CPU on TensorRT's 127-level grid, and their cost is modelled. Where engines are
wanted for the CPU and for a GPU, what a recipe loses is the larger of the two losses.

What was measured is kept in the user's cache folder (`journal.py`), by graph and pictures: a search
that was stopped goes on where it was, and one for another device measures nothing again.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from .. import calib
from ..calib.cost import MACHINES, Machine, layer_seconds, machine_of, recipe_seconds
from ..calib.fingerprint import fingerprint
from ..calib.search import Outcome, Score, Trial, digest, pareto, search
from ..calib.sensitivity import measure_sensitivity, units
from ..checking.category_numbers import check_numbering
from ..core import Bundle, CheckFailedError, Precision, Progress, Target
from ..runtime import Session, letterbox_batches
from ..runtime.backends.cpu import CpuBackend
from ..runtime.build import build_engine
from ..runtime.check import BUDGETED, CocoDataset, evaluate
from .journal import Journal, Measured
from .observation import first_readable

__all__ = ["SCORED_PICTURES", "Judge", "fit_recipe", "search_report"]

_SENSITIVITY_PICTURES = 4
SCORED_PICTURES = 500
_FINALISTS, _ROUNDS = 3, 12
_TINY = 1e-20


def fit_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    recipe: calib.Recipe,
    dataset: CocoDataset,
    pictures: Sequence[Any],
    budget: float,
    targets: Sequence[Target],
    progress: Progress,
) -> Outcome:
    """Search the fastest recipe that loses at most `budget` points of box and mask AP.

    Args:
        bundle: for its input and class names.
        model: the canonical FP32 graph.
        recipe: INT8 or mixed, calibrated.
        dataset: the annotated pictures; an even share of them where there are more than 500.
        pictures: for the sensitivity of the layers; the first four are used.
        budget: in points of AP, 0 to 100.
        targets: what engines are wanted for.
        progress: told what goes on.

    Raises:
        CheckFailedError: no recipe is inside the budget, not even without INT8.
    """
    recipe = calib.hold_to_targets(model, recipe, targets)
    judge = Judge(bundle, model, dataset.share(SCORED_PICTURES), targets, budget)
    seconds = layer_seconds(model, _machine(targets))
    price = {
        unit: sum(seconds[n][recipe.rest] - seconds[n][Precision.INT8] for n in unit)
        for unit in units(calib.place(model))
    }
    shown = first_readable(pictures, _SENSITIVITY_PICTURES)
    noise: dict[tuple[str, ...], float] = {}

    def rank(best: calib.Recipe) -> list[tuple[str, ...]]:
        batches = [canvases for canvases, _ in letterbox_batches(shown, bundle.manifest.input)]
        found = measure_sensitivity(
            model, best, batches, progress=lambda done, total: progress("sensitivity", done, total)
        )
        noise.update(found)
        return sorted(noise, key=lambda unit: -noise[unit] / max(price[unit], 1e-12))

    # Who asks for INT8 is not handed something else under that name.
    least = len(recipe.narrow_layers()) // 2 if recipe.precision is Precision.INT8 else 1
    outcome = search(recipe, budget, judge.score, rank, least=least, progress=progress)
    if outcome.best is None:
        int8 = outcome.trials[0]
        raise CheckFailedError(
            f"none of {len(outcome.trials)} {recipe.precision} recipes with at least {least} "
            f"of {len(recipe.layers)} layers in INT8 loses at most {budget:g} AP (INT8 everywhere "
            f"loses {int8.score.drop:.2f}): choose {_wider(recipe.precision)} or a wider budget. "
            "No bundle was written."
        )
    first = judge.fastest(outcome.inside[:_FINALISTS])
    others = (trial for trial in outcome.inside if trial is not first)
    return replace(outcome, inside=(first, *others), noise=noise)


def search_report(
    outcome: Outcome, budget: float, targets: Sequence[Target] = ()
) -> dict[str, Any]:
    """Return what `search.json` holds: every trial, the Pareto set and the choice.

    The costs are milliseconds of the layers on `modelled`. `sensitivity` is there if layers had to
    be ranked: the signal-to-noise ratio at the outputs with one unit in INT8, the worst first.
    """
    assert outcome.best is not None  # `fit_recipe` raises otherwise
    return {
        "format_version": 1,
        "budget": budget,
        "modelled": _machine(targets).name,
        "best": outcome.best.to_json(),
        "pareto": [trial.to_json() for trial in pareto(outcome.trials)],
        "trials": [trial.to_json() for trial in outcome.trials],
        "sensitivity": [
            {"layers": list(unit), "snr_db": round(-10 * math.log10(max(ratio, _TINY)), 1)}
            for unit, ratio in sorted(outcome.noise.items(), key=lambda entry: -entry[1])
        ],
    }


def _wider(precision: Precision) -> str:
    return "fp16" if precision is Precision.MIXED else "mixed, fp16"


class Judge:
    """Scores recipes on annotated pictures; what it measured once, it reads from its journal."""

    def __init__(
        self,
        bundle: Bundle,
        model: onnx.ModelProto,
        dataset: CocoDataset,
        targets: Sequence[Target],
        budget: float = math.inf,
    ) -> None:
        """Take the arguments of `fit_recipe`; `dataset` is all that is run.

        A recipe that misses `budget` on one grid is not run on the other.
        """
        check_numbering(bundle.manifest, dataset)
        self._manifest, self._model, self._dataset = bundle.manifest, model, dataset
        self._budget = budget
        self._here = any(target.name == "cpu" for target in targets)
        elsewhere = any(target.name != "cpu" for target in targets)
        self._grids = [True] * self._here + [False] * elsewhere  # full range or not
        self._seconds = layer_seconds(model, _machine(targets))
        pictures = [(str(i.path), i.path.stat().st_mtime_ns) for i in dataset.images]
        labels = [dataset.categories, self._manifest.class_names]
        engine = [fingerprint(model), self._manifest.input.to_json()]
        self._journal = Journal(engine, labels, list(dataset.annotations), pictures)

    def score(self, recipe: calib.Recipe) -> Score:
        """Return what `recipe` loses, and what it costs."""
        expected = self._measured("reference", self._model.SerializeToString)
        drop, latency_ms = -math.inf, 0.0
        for full_range in self._grids:
            found = self._on_grid(recipe, full_range)
            lost = (expected.ap[kind] - found.ap[kind] for kind in BUDGETED if kind in expected.ap)
            drop = max(drop, *lost)
            latency_ms = found.latency_ms if full_range else latency_ms
            if drop > self._budget:
                break
        return Score(drop, recipe_seconds(recipe, self._seconds) * 1e3, latency_ms)

    def fastest(self, trials: Sequence[Trial]) -> Trial:
        """Return the trial whose engine is the fastest here, timed in turns on one picture."""
        if not self._here or len(trials) < 2:
            return trials[0]
        spec = self._manifest.input
        shape = (spec.batch, spec.height, spec.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        engines = [CpuBackend(self._engine(trial.recipe, True)) for trial in trials]
        taken = [[_milliseconds(engine, picture) for engine in engines] for _ in range(_ROUNDS)]
        return trials[int(np.argmin(np.min(taken, axis=0)))]

    def _on_grid(self, recipe: calib.Recipe, full_range: bool) -> Measured:
        levels = "" if full_range else " on 127 levels"
        return self._measured(digest(recipe) + levels, lambda: self._engine(recipe, full_range))

    def _engine(self, recipe: calib.Recipe, full_range: bool) -> bytes:
        cpu = Target.parse("cpu")
        own = calib.recipe_for(self._model, recipe, cpu)
        rendered = calib.render(self._model, own, calib.Style.ORT, full_range=full_range)
        return build_engine(rendered, cpu, Precision.MIXED).files["engine.onnx"]

    def _measured(self, name: str, engine: Callable[[], bytes]) -> Measured:
        """Return what the journal knows of `name`; else run the engine over the pictures."""
        known = self._journal.get(name)
        if known is None:
            known = self._run(engine())
            self._journal.put(name, known)
        return known

    def _run(self, engine: bytes) -> Measured:
        manifest, backend = self._manifest, CpuBackend(engine)
        spec, names = manifest.input, manifest.class_names
        with Session(
            backend, spec, class_names=names,
            mask_frame=manifest.mask_frame, mask_paste=manifest.mask_paste,
        ) as session:  # fmt: skip
            found = evaluate(session.predict, self._dataset, batch=spec.batch, class_names=names)
        ap = {kind: metrics["AP"] or 0.0 for kind, metrics in found.metrics.items()}
        return Measured(ap, found.latency_ms["p50"])


def _milliseconds(engine: CpuBackend, picture: np.ndarray) -> float:
    started = time.perf_counter()
    engine.run(picture)
    return (time.perf_counter() - started) * 1e3


def _machine(targets: Sequence[Target]) -> Machine:
    """Return whose time is modelled: of the first target that is a GPU, else an Orin NX's."""
    devices = [target for target in targets if target.backend != "onnxruntime"]
    return machine_of(devices[0]) if devices else MACHINES["orin-nx"]
