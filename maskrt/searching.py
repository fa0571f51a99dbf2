"""The precision search with everything that it is handed: pictures, engines, AP.

`calib.search` decides what to try. Here a recipe is scored: rendered for the CPU, built, run over
the annotated pictures, and its COCO AP is taken from that of the FP32 graph. A target that this
machine cannot run is stood in for by the CPU on TensorRT's 127-level grid, and its cost is
modelled.

Scores are kept in the user's cache folder, by graph, scales and pictures: a search that was stopped
goes on where it was.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from . import calib
from .calib.cost import MACHINES, Machine, layer_seconds, machine_of, recipe_seconds
from .calib.search import Outcome, Score, Trial, pareto, search
from .calib.sensitivity import measure_sensitivity, units
from .calibrating import first_readable
from .core import Bundle, CheckFailedError, Precision, Progress, Target, cache_folder
from .runtime import Session, letterbox_batches
from .runtime.backends.cpu import CpuBackend
from .runtime.build import build_engine
from .runtime.check import BUDGETED, CocoDataset, evaluate

__all__ = ["SCORED_PICTURES", "Judge", "fit_recipe", "search_report"]

_SENSITIVITY_PICTURES = 4
SCORED_PICTURES = 500
_FINALISTS, _ROUNDS = 3, 12


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
    judge = Judge(bundle, model, dataset.share(SCORED_PICTURES), targets, recipe)
    seconds = layer_seconds(model, _machine(targets))
    price = {
        unit: sum(seconds[n][recipe.rest] - seconds[n][Precision.INT8] for n in unit)
        for unit in units(calib.place(model))
    }
    shown = first_readable(pictures, _SENSITIVITY_PICTURES)

    def rank(best: calib.Recipe) -> list[tuple[str, ...]]:
        batches = [canvases for canvases, _ in letterbox_batches(shown, bundle.manifest.input)]
        noise = measure_sensitivity(
            model, best, batches, progress=lambda done, total: progress("sensitivity", done, total)
        )
        return sorted(noise, key=lambda unit: -noise[unit] / max(price[unit], 1e-12))

    # Who asks for INT8 is not handed something else under that name.
    least = len(recipe.narrow_layers()) // 2 if recipe.precision is Precision.INT8 else 1
    outcome = search(
        recipe, budget, judge.score, rank, least=least, journal=judge.journal, progress=progress
    )
    if outcome.best is None:
        int8 = outcome.trials[0]
        raise CheckFailedError(
            f"none of {len(outcome.trials)} {recipe.precision} recipes with at least {least} "
            f"of {len(recipe.layers)} layers in INT8, loses at most {budget:g} AP (INT8 everywhere "
            f"loses {int8.score.drop:.2f}): choose {_wider(recipe.precision)} or a wider budget. "
            "No bundle was written."
        )
    first = judge.fastest(outcome.inside[:_FINALISTS])
    others = (trial for trial in outcome.inside if trial is not first)
    return replace(outcome, inside=(first, *others))


def search_report(outcome: Outcome, budget: float) -> dict[str, Any]:
    """Return what `report/search.json` holds: every trial, the Pareto set and the choice."""
    assert outcome.best is not None  # `fit_recipe` raises otherwise
    return {
        "format_version": 1,
        "budget": budget,
        "best": outcome.best.to_json(),
        "pareto": [trial.to_json() for trial in pareto(outcome.trials)],
        "trials": [trial.to_json() for trial in outcome.trials],
    }


def _wider(precision: Precision) -> str:
    return "fp16" if precision is Precision.MIXED else "mixed, fp16"


class Judge:
    """Scores recipes on annotated pictures.

    Attributes:
        journal: recipe digest -> score, on disk.
    """

    def __init__(
        self,
        bundle: Bundle,
        model: onnx.ModelProto,
        dataset: CocoDataset,
        targets: Sequence[Target],
        recipe: calib.Recipe,
    ) -> None:
        """Take the arguments of `fit_recipe`; `dataset` is all that is run."""
        self._manifest, self._model, self._dataset = bundle.manifest, model, dataset
        self._here = any(target.name == "cpu" for target in targets)
        machine = _machine(targets)
        self._seconds = layer_seconds(model, machine)
        self.journal = _Journal(_key(dataset, recipe, self._here, machine))

    def score(self, recipe: calib.Recipe) -> Score:
        """Return what `recipe` loses, and what it costs."""
        if "reference" not in self.journal:
            self.journal["reference"] = self._metrics(self._model.SerializeToString())[0]
        expected = self.journal["reference"]
        found, latency_ms = self._metrics(self._engine(recipe))
        drop = max(expected[kind] - found[kind] for kind in BUDGETED if kind in expected)
        modelled = recipe_seconds(recipe, self._seconds) * 1e3
        return Score(drop, modelled, latency_ms if self._here else 0.0)

    def fastest(self, trials: Sequence[Trial]) -> Trial:
        """Return the trial whose engine is the fastest here, timed in turns on one picture."""
        if not self._here or len(trials) < 2:
            return trials[0]
        spec = self._manifest.input
        shape = (spec.batch, spec.height, spec.width, 3)
        picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        engines = [CpuBackend(self._engine(trial.recipe)) for trial in trials]
        taken = [[_milliseconds(engine, picture) for engine in engines] for _ in range(_ROUNDS)]
        return trials[int(np.argmin(np.min(taken, axis=0)))]

    def _engine(self, recipe: calib.Recipe) -> bytes:
        rendered = calib.render(self._model, recipe, calib.Style.ORT, full_range=self._here)
        return build_engine(rendered, Target.parse("cpu"), Precision.MIXED).files["engine.onnx"]

    def _metrics(self, engine: bytes) -> tuple[dict[str, float], float]:
        spec, names = self._manifest.input, self._manifest.class_names
        frame = self._manifest.mask_frame
        with Session(CpuBackend(engine), spec, class_names=names, mask_frame=frame) as session:
            found = evaluate(session.predict, self._dataset, batch=spec.batch, class_names=names)
        values = {kind: metrics["AP"] or 0.0 for kind, metrics in found.metrics.items()}
        return values, found.latency_ms["p50"]


def _milliseconds(engine: CpuBackend, picture: np.ndarray) -> float:
    started = time.perf_counter()
    engine.run(picture)
    return (time.perf_counter() - started) * 1e3


class _Journal(MutableMapping[str, dict[str, float]]):
    """A mapping that is on disk after every change."""

    def __init__(self, key: str) -> None:
        self._file = cache_folder() / "search" / f"{key}.json"
        try:
            self._known: dict[str, dict[str, float]] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            self._known = {}

    def __getitem__(self, key: str) -> dict[str, float]:
        return self._known[key]

    def __setitem__(self, key: str, value: dict[str, float]) -> None:
        self._known[key] = value
        self._file.parent.mkdir(parents=True, exist_ok=True)
        staged = self._file.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(self._known))
        staged.replace(self._file)

    def __delitem__(self, key: str) -> None:
        del self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _machine(targets: Sequence[Target]) -> Machine:
    """Return whose time is modelled: of the first target that is a GPU, else an Orin NX's."""
    devices = [target for target in targets if target.backend != "onnxruntime"]
    return machine_of(devices[0]) if devices else MACHINES["orin-nx"]


def _key(dataset: CocoDataset, recipe: calib.Recipe, here: bool, machine: Machine) -> str:
    """Return a digest of all that a score depends on besides the choices in the recipe."""
    pictures = [(str(i.path), i.path.stat().st_mtime_ns) for i in dataset.images]
    facts: list[Any] = [
        recipe.to_json()["tensors"],
        recipe.graph,
        list(dataset.annotations),
        pictures,
        here,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain).encode()).hexdigest()[
        :24
    ]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
