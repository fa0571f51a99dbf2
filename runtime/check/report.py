"""The report of a check: accuracy, what it lost against a reference, latency, and the verdict.

Only what was measured is stored. What follows from it is derived: `drop` is reference minus
metrics (above 0 is a loss, below 0 a gain), and `passed` says whether nothing that a budget covers
lost more than it allows (`losses.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core import InputError, Precision, UsageError
from ...core.whole_file import write_text
from .average_precision import BUDGETED, Metrics
from .losses import broken, in_words
from .schema import FORMAT_VERSION

__all__ = ["Report", "latency_percentiles"]

# What older reports do not have, and no reader needs.
_LATER = ("foretold", "ap75_budget", "class_budget", "curves", "reference_curves", "confusion",
          "reference_confusion", "reference_latency_ms", "labels", "provenance")  # fmt: skip

_FEWEST = {50: 1, 90: 10, 99: 100}
"""Of each percentile, how many samples it takes."""


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        target: where the engine ran, such as `"cpu"`.
        precision: the engine's.
        images: how many pictures were checked.
        metrics: `{"box": {"AP": …, "AP50": …, …}, "mask": {…}}`, 0 to 100; no `"mask"` for a
            box-only model or data set. A number is None where no object of that size is annotated.
        latency_ms: milliseconds a picture, see `latency_percentiles`.
        reference: metrics of the model that this one is compared with, in the same shape, or None.
        reference_name: what that model is, such as `"PyTorch FP32"`.
        budget: how much box AP, and how much mask AP, may be lost against the reference, or None.
        note: what a reader of the numbers has to know, one sentence or empty.
        classes: metrics of each category, by kind and name.
        reference_classes: the same of the reference.
        agreement: what became of the reference's instances, see `Agreement.summary`.
        confidence: kind → 95 % interval of the AP drop, see `drop_interval`.
        attribution: where the AP was lost, see `maskrt.checking.attribution`; None if not
            asked.
        divergence: how far each layer is from FP32, see `maskrt.checking.divergence`; None
            likewise.
        engine: backend, version, bytes, and how many layers compute in what.
        foretold: for an evaluation as another target: `engine`, the name of what ran beside it, its
            `metrics`, and its `agreement` with the evaluation; None for an engine's own check.
        ap75_budget: how much box AP75, and how much mask AP75, may be lost, or None.
        class_budget: how much of its box AP, and of its mask AP, any class may lose, or None.
        curves: by kind and class's name, see `curves.class_curves`.
        reference_curves: the same of the reference.
        confusion: of the engine's labels, see `Confusion.to_json`; None if not counted.
        reference_confusion: the same of the reference.
        reference_latency_ms: as `latency_ms`, of the reference; empty if it did not run here.
        labels: of each category's name, the model's number, which its colour goes by.
        provenance: what was checked, with what, where and when, see
            `maskrt.checking.provenance`.
    """

    target: str
    precision: Precision
    images: int
    metrics: dict[str, Metrics]
    latency_ms: dict[str, float] = field(default_factory=dict)
    reference: dict[str, Metrics] | None = None
    reference_name: str | None = None
    budget: float | None = None
    note: str = ""
    classes: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    reference_classes: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    agreement: dict[str, Any] | None = None
    confidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    attribution: dict[str, Any] | None = None
    divergence: dict[str, Any] | None = None
    engine: dict[str, Any] = field(default_factory=dict)
    foretold: dict[str, Any] | None = None
    ap75_budget: float | None = None
    class_budget: float | None = None
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    reference_curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    confusion: dict[str, Any] | None = None
    reference_confusion: dict[str, Any] | None = None
    reference_latency_ms: dict[str, float] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a budget that nothing can be held against."""
        stated = (self.budget, self.ap75_budget, self.class_budget)
        first = next((value for value in stated if value is not None), None)
        if first is None:
            return
        if self.reference is None:
            raise UsageError(
                f"a budget of {first:g} AP was stated, and there is no reference to lose it "
                "against: name a reference or leave the budget out."
            )
        for kind, values in self.reference.items():
            if kind not in self.metrics:
                raise InputError(f"the reference has {kind} AP and the engine none: compare alike.")
            if kind in BUDGETED and not values["AP"]:
                raise InputError(
                    f"the reference's own {kind} AP is {values['AP'] or 0:g}, so there is nothing "
                    "to lose and the budget says nothing: name pictures and annotations that the "
                    "model was trained for."
                )

    @property
    def drop(self) -> dict[str, Metrics] | None:
        """Reference minus metrics, of the kinds and numbers that both have; None without one."""
        if self.reference is None:
            return None
        return {
            kind: {name: _minus(self.reference[kind].get(name), values[name]) for name in values}
            for kind, values in self.metrics.items()
            if kind in self.reference
        }

    @property
    def passed(self) -> bool:
        """Whether everything that a budget covers is inside it; true without a budget."""
        return not broken(self)

    def noise_sentences(self) -> list[str]:
        """Return what the confidence intervals say, a sentence a kind."""
        return [
            f"{kind.capitalize()} AP: between {in_words(c['low'])} and {in_words(c['high'])} "
            f"(95 %, {c['pictures']} pictures): "
            + ("within noise." if c["within_noise"] else "more than noise.")
            for kind, c in self.confidence.items()
        ]

    def missed(self) -> list[tuple[str, float]]:
        """Return `(kind, drop)` of each AP over all classes that misses the budget, worst first."""
        missed = (loss for loss in broken(self) if loss.metric == "AP" and loss.category is None)
        return [(loss.kind, loss.lost) for loss in missed]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, the derived `drop` and `passed` included."""
        data = {
            "format_version": FORMAT_VERSION,
            **asdict(self),
            "precision": self.precision.value,
            "drop": self.drop,
            "passed": self.passed,
        }
        if self.foretold is None:
            del data["foretold"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Return the report that `to_json` wrote.

        Raises:
            InputError: another format version, or not a report.
        """
        try:
            version = data["format_version"]
            fields = {k: data[k] for k in cls.__dataclass_fields__ if k not in _LATER}
            fields |= {name: data[name] for name in _LATER if name in data}
            fields["precision"] = Precision.parse(fields["precision"])
        except (KeyError, TypeError) as error:
            raise InputError(f"the report lacks {error}: run maskrt check again.") from error
        if version != FORMAT_VERSION:
            raise InputError(
                f"the report has format version {version}, and this maskrt reads version "
                f"{FORMAT_VERSION}: run maskrt check again."
            )
        return cls(**fields)

    def save(self, path: Path | str) -> None:
        """Write the report as JSON; the file appears only when it is complete."""
        write_text(Path(path), json.dumps(self.to_json(), indent=2) + "\n")


def latency_percentiles(samples_ms: Sequence[float]) -> dict[str, float]:
    """Return `p50` and `mean` of latencies, `p90` of ten or more, `p99` of a hundred or more.

    Of fewer, such a percentile would be little else than the slowest of them. Empty without any.
    """
    if not len(samples_ms):
        return {}
    told = [rank for rank, fewest in _FEWEST.items() if len(samples_ms) >= fewest]
    found = {f"p{rank}": float(np.percentile(samples_ms, rank)) for rank in told}
    return {**found, "mean": float(np.mean(samples_ms))}


def _minus(reference: float | None, value: float | None) -> float | None:
    return None if reference is None or value is None else reference - value
