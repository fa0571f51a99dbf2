"""The precision search with everything that it is handed: pictures, engines, AP.

`calib.search` decides what to try. Here a recipe is scored: rendered for the CPU, built, run over
the annotated pictures, and its COCO AP is taken from that of the FP32 graph. For a target with a
GPU that target's own graph is evaluated exactly on the CPU (`checking/foretold.py`), and its cost
is modelled. Where engines are wanted for several targets, what a recipe loses is the largest loss.

What was measured is kept in the user's cache folder (`journal.py`), by graph and pictures: a search
that was stopped goes on where it was, and one for another device measures nothing again.
"""

import logging
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
from ..checking.category_numbers import numbered
from ..checking.foretold import foretold_graph
from ..checking.references import bare_session
from ..core import Bundle, CheckFailedError, Precision, Progress, Target
from ..runtime import letterbox_batches
from ..runtime.backends.cpu import CpuBackend
from ..runtime.build import build_engine
from ..runtime.check import BUDGETED, evaluate
from ..runtime.pictures import readable
from .journal import Journal, Measured
from .request import Judged, RecipeRequest

__all__ = ["SCORED_PICTURES", "Judge", "fit_recipe", "search_report"]

_SENSITIVITY_PICTURES = 4
SCORED_PICTURES = 500
_LOG = logging.getLogger(__name__)
_FINALISTS, _ROUNDS = 3, 12
_TINY = 1e-20


def fit_recipe(
    bundle: Bundle,
    model: onnx.ModelProto,
    recipe: calib.Recipe,
    asked: RecipeRequest,
    judged: Judged,
    progress: Progress,
) -> Outcome:
    """Search the fastest recipe that loses at most the budget of box and mask AP.

    Args:
        bundle: for its input and class names.
        model: the canonical FP32 graph.
        recipe: INT8 or mixed, calibrated.
        asked: the first four of its pictures tell how sensitive layers are.
        judged: has a budget; an even share of its pictures is run where there are more than 500.
        progress: told what goes on.

    Raises:
        CheckFailedError: no recipe is inside the budget, not even without INT8.
    """
    assert judged.budget is not None
    recipe = calib.hold_to_targets(model, recipe, judged.targets)
    judge = Judge(bundle, model, judged.share(SCORED_PICTURES))
    seconds = layer_seconds(model, _machine(judged.targets))
    price = {
        unit: sum(seconds[n][recipe.rest] - seconds[n][Precision.INT8] for n in unit)
        for unit in units(calib.place(model))
    }
    shown = list(readable(asked.pictures or (), _SENSITIVITY_PICTURES))
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
    outcome = search(recipe, judged.budget, judge.score, rank, least=least, progress=progress)
    if outcome.best is None:
        int8 = outcome.trials[0]
        raise CheckFailedError(
            f"none of {len(outcome.trials)} {recipe.precision} recipes with at least {least} "
            f"of {len(recipe.layers)} layers in INT8 loses at most {judged.budget:g} AP (INT8 "
            f"everywhere loses {int8.score.drop:.2f}): choose {_wider(recipe.precision)} or a "
            "wider budget. No bundle was written."
        )
    first = judge.fastest(outcome.inside[:_FINALISTS])
    others = (trial for trial in outcome.inside if trial is not first)
    return replace(outcome, inside=(first, *others), noise=noise)


def search_report(outcome: Outcome, judged: Judged) -> dict[str, Any]:
    """Return what `search.json` holds: every trial, the Pareto set and the choice.

    The costs are milliseconds of the layers on `modelled`. `sensitivity` is there if layers had to
    be ranked: the signal-to-noise ratio at the outputs with one unit in INT8, the worst first.
    """
    assert outcome.best is not None  # `fit_recipe` raises otherwise
    return {
        "format_version": 1,
        "budget": judged.budget,
        "modelled": _machine(judged.targets).name,
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

    def __init__(self, bundle: Bundle, model: onnx.ModelProto, judged: Judged) -> None:
        """Take what `fit_recipe` takes; all pictures of `judged` are run.

        A recipe that misses the budget on one target is not run for the others.
        """
        dataset, targets = numbered(bundle.manifest, judged.dataset), judged.targets
        self._manifest, self._model, self._dataset = bundle.manifest, model, dataset
        self._budget = math.inf if judged.budget is None else judged.budget
        self._here = any(target.name == "cpu" for target in targets)
        self._elsewhere = [target for target in targets if target.name != "cpu"]
        self._seconds = layer_seconds(model, _machine(targets))
        pictures = [(str(i.path), i.path.stat().st_mtime_ns) for i in dataset.images]
        labels = [dataset.categories, self._manifest.class_names]
        engine = [fingerprint(model), self._manifest.input.to_json()]
        self._journal = Journal(engine, labels, list(dataset.annotations), pictures)

    def score(self, recipe: calib.Recipe) -> Score:
        """Return what `recipe` loses, and what it costs."""
        expected = self._measured("reference", lambda: CpuBackend(self._model.SerializeToString()))
        drop, latency_ms = -math.inf, 0.0
        for target in (None, *self._elsewhere)[not self._here :]:
            found = self._here_or_as(recipe, target)
            lost = (expected.ap[kind] - found.ap[kind] for kind in BUDGETED if kind in expected.ap)
            drop = max(drop, *lost)
            latency_ms = found.latency_ms if target is None else latency_ms
            if drop > self._budget:
                break
        modelled_ms = recipe_seconds(recipe, self._seconds) * 1e3
        _LOG.info("recipe %s loses %.2f AP, %.2f ms by model", digest(recipe), drop, modelled_ms)
        return Score(drop, modelled_ms, latency_ms)

    def fastest(self, trials: Sequence[Trial]) -> Trial:
        """Return the trial whose engine is the fastest here, timed in turns on one picture."""
        if not self._here or len(trials) < 2:
            return trials[0]
        spec = self._manifest.input
        shape = (spec.batch, spec.height, spec.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        engines = [self._opened(trial.recipe)() for trial in trials]
        taken = [[_milliseconds(engine, picture) for engine in engines] for _ in range(_ROUNDS)]
        return trials[int(np.argmin(np.min(taken, axis=0)))]

    def _here_or_as(self, recipe: calib.Recipe, target: Target | None) -> Measured:
        """Return what the engine for `cpu` measures, or another target's graph as foretold."""
        if target is None:
            return self._measured(
                f"{digest(recipe)} as cpu, weights in pairs", self._opened(recipe)
            )
        suited = calib.recipe_for(self._model, recipe, target)

        def foretold() -> CpuBackend:
            return CpuBackend(foretold_graph(self._model, recipe, target), exact=True)

        return self._measured(f"{digest(suited)} as tensorrt", foretold)

    def _opened(self, recipe: calib.Recipe) -> Callable[[], CpuBackend]:
        def open_engine() -> CpuBackend:
            cpu = Target.parse("cpu")
            own = calib.recipe_for(self._model, recipe, cpu)
            engine = build_engine(
                calib.render(self._model, own, calib.Style.ORT), cpu, Precision.MIXED
            )
            return CpuBackend(engine.files["engine.onnx"])

        return open_engine

    def _measured(self, name: str, backend: Callable[[], CpuBackend]) -> Measured:
        """Return what the journal knows of `name`; else run the engine over the pictures."""
        known = self._journal.get(name)
        if known is None:
            known = self._run(backend())
            self._journal.put(name, known)
        return known

    def _run(self, backend: CpuBackend) -> Measured:
        manifest = self._manifest
        with bare_session(backend, manifest) as session:
            found = evaluate(
                session.predict, self._dataset, batch=manifest.input.batch,
                class_names=manifest.class_names,
            )  # fmt: skip
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
