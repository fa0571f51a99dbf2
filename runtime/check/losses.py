"""What was lost against the reference, in words, and what a budget says of it.

A loss is reference minus engine, in points of 0 to 100: above 0 accuracy was lost, below 0 it was
gained. In words the sign is never needed: "lost 0.17", "gained 0.23".
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from .average_precision import BUDGETED, Metrics

__all__ = [
    "Judged",
    "Loss",
    "broken",
    "budget_sentence",
    "in_words",
    "instance_sentence",
    "judged_sentence",
    "largest_other",
    "losses",
    "other_sentence",
    "passed_sentence",
]

_ROUNDING = 1e-9  # a drop of exactly the budget, computed as a difference of floats, is inside it
_SIZES = {"APS": "of small objects", "APM": "of medium objects", "APL": "of large objects"}
_WORTH_SAYING = 0.005


class Judged(Protocol):
    """What a `Report` has that losses are made of."""

    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> Any: ...  # noqa: D102
    @property
    def metrics(self) -> dict[str, Metrics]: ...  # noqa: D102
    @property
    def reference(self) -> dict[str, Metrics] | None: ...  # noqa: D102
    @property
    def reference_name(self) -> str | None: ...  # noqa: D102
    @property
    def drop(self) -> dict[str, Metrics] | None: ...  # noqa: D102
    @property
    def classes(self) -> dict[str, dict[str, Metrics]]: ...  # noqa: D102
    @property
    def reference_classes(self) -> dict[str, dict[str, Metrics]]: ...  # noqa: D102
    @property
    def budget(self) -> float | None: ...  # noqa: D102
    @property
    def ap75_budget(self) -> float | None: ...  # noqa: D102
    @property
    def class_budget(self) -> float | None: ...  # noqa: D102


class Loss(NamedTuple):
    """One number, and what of it was lost.

    Attributes:
        kind: `"box"`, `"mask"` or `"boundary"`.
        metric: such as `"AP75"`.
        category: the class's name; None over all classes.
        lost: reference minus engine, points of 0 to 100.
        budget: how much may be lost; None where nothing was said.
    """

    kind: str
    metric: str
    category: str | None
    lost: float
    budget: float | None = None

    @property
    def is_broken(self) -> bool:
        """Whether more was lost than the budget allows."""
        return self.budget is not None and not self.lost <= self.budget + _ROUNDING

    @property
    def name(self) -> str:
        """What the number is, such as `mask AP75` or `mask AP of class ring`."""
        if self.category is not None:
            return f"{self.kind} AP of class {self.category}"
        size = _SIZES.get(self.metric)
        return f"{self.kind} AP {size}" if size else f"{self.kind} {self.metric}"


def in_words(lost: float | None) -> str:
    """Return `lost 0.17`, `gained 0.23`, `unchanged`, or `unknown` for None."""
    if lost is None:
        return "unknown"
    if abs(lost) < _WORTH_SAYING:
        return "unchanged"
    return f"lost {lost:.2f}" if lost > 0 else f"gained {-lost:.2f}"


def losses(report: Judged) -> Iterator[Loss]:
    """Yield the loss of AP, AP75, AP by size and AP by class, boxes and masks, and its budget."""
    drop = report.drop or {}
    budgets = {"AP": report.budget, "AP75": report.ap75_budget}
    for kind in BUDGETED:
        for metric in ("AP", "AP75", *_SIZES):
            lost = drop.get(kind, {}).get(metric)
            if lost is not None:
                yield Loss(kind, metric, None, lost, budgets.get(metric))
        reference = report.reference_classes.get(kind, {})
        for category, values in report.classes.get(kind, {}).items():
            expected, ap = reference.get(category, {}).get("AP"), values.get("AP")
            if expected is not None and ap is not None:
                yield Loss(kind, "AP", category, expected - ap, report.class_budget)


def broken(report: Judged) -> list[Loss]:
    """Return what misses its budget, the worst first."""
    return sorted((loss for loss in losses(report) if loss.is_broken), key=lambda loss: -loss.lost)


def largest_other(report: Judged) -> Loss | None:
    """Return the largest loss that no budget covers; None if nothing else was lost."""
    free = [loss for loss in losses(report) if loss.budget is None]
    most = max(free, key=lambda loss: loss.lost, default=None)
    return most if most is not None and most.lost >= _WORTH_SAYING else None


def budget_sentence(report: Judged) -> str:
    """Return the one sentence that says which budgets a report misses, and by what."""
    missed = broken(report)
    said = " and ".join(f"{loss.lost:.2f} {loss.name}" for loss in missed[:3])
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    allowed = sorted({loss.budget for loss in missed if loss.budget is not None})
    limits = " and ".join(f"{value:g}" for value in allowed)
    verb = "budget is" if len(allowed) == 1 else "budgets are"
    return (
        f"{report.precision} on {report.target} lost {said}{more} against "
        f"{report.reference_name}, and the {verb} {limits}: choose another precision or "
        "calibration, or a wider budget."
    )


def judged_sentence(report: Judged) -> str:
    """Return which numbers the budgets cover; empty without a budget."""
    said = []
    kinds = " and ".join(f"{kind} AP" for kind in BUDGETED if kind in report.metrics)
    if report.budget is not None:
        said.append(f"{kinds} (at most {report.budget:g} lost)")
    if report.ap75_budget is not None:
        said.append(f"{kinds.replace('AP', 'AP75')} (at most {report.ap75_budget:g})")
    if report.class_budget is not None:
        said.append(f"the AP of each class (at most {report.class_budget:g})")
    return f"The budget covers {', '.join(said)}." if said else ""


def passed_sentence(report: Judged) -> str:
    """Return what became of the numbers that the budgets cover, all of which were kept."""
    judged = [loss for loss in losses(report) if loss.budget is not None]
    whole = [f"{loss.name} {in_words(loss.lost)}" for loss in judged if loss.category is None]
    classes = [loss for loss in judged if loss.category is not None]
    if classes:
        worst = max(classes, key=lambda loss: loss.lost)
        whole.append(f"{worst.name}, the worst of {len(classes)}, {in_words(worst.lost)}")
    return f"Within the budget against {report.reference_name}: {', '.join(whole)}."


def other_sentence(report: Judged) -> str:
    """Return the largest loss that no budget covers, a sentence; empty without a reference."""
    if report.reference is None:
        return ""
    loss = largest_other(report)
    if loss is None:
        return "No number that the budget leaves out lost anything."
    return f"Not covered by a budget, the largest loss: {loss.name} {in_words(loss.lost)}."


def instance_sentence(agreement: dict) -> str:
    """Return how many instances were missed and invented, with the score thresholds of both."""
    sure = agreement["confident"]
    return (
        f"{agreement['missed']} missed and {agreement['invented']} invented at any score; with a "
        f"score of {sure.get('score', 0.5):g} or more {sure['missed']} missed and "
        f"{sure['invented']} invented"
    )
