"""What a budget covers, what else was lost, and one sign in words."""

from typing import Any

import pytest

from maskrt.core import CheckFailedError, UsageError
from maskrt.runtime.check import Report, enforce, render_junit
from maskrt.runtime.check.losses import (
    in_words,
    instance_sentence,
    judged_sentence,
    largest_other,
    other_sentence,
    passed_sentence,
)

from .test_report import BOX, MASK, report


def with_losses(*, ap75: float = 0.0, ring: float = 0.0, small: float = 0.0, **more: Any) -> Report:
    """A report that lost 0.1 mask AP, and so much of other numbers."""
    mask = {**MASK, "AP": 54.9, "AP75": 61.5 - ap75, "APS": 20.0 - small}
    classes = {"disc": {**MASK, "AP": 56.0}, "ring": {**MASK, "AP": 40.0 - ring}}
    wanted = {"disc": {**MASK, "AP": 55.0}, "ring": {**MASK, "AP": 40.0}}
    return report(
        metrics={"box": BOX, "mask": mask}, classes={"mask": classes},
        reference_classes={"mask": wanted}, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "said"),
    [(0.17, "lost 0.17"), (-0.23, "gained 0.23"), (0.004, "unchanged"), (-0.004, "unchanged"),
     (None, "unknown"), (0.005, "lost 0.01")],
)  # fmt: skip
def test_words_have_one_sign(lost: float | None, said: str) -> None:
    assert in_words(lost) == said


def test_the_verdict_names_what_it_covers_and_the_largest_other_loss() -> None:
    """The case of the issue: AP is kept, and AP75 and one class are not."""
    made = with_losses(ap75=4.96, ring=3.4, budget=1.0)
    assert enforce(made).passed
    assert judged_sentence(made) == "The budget covers box AP and mask AP (at most 1 lost)."
    assert passed_sentence(made) == (
        "Within the budget against PyTorch FP32: box AP unchanged, mask AP lost 0.10."
    )
    assert other_sentence(made) == (
        "Not covered by a budget, the largest loss: mask AP75 lost 4.96."
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [({"ring": 3.4}, "mask AP of class ring lost 3.40"),
     ({"small": 2.5}, "mask AP of small objects lost 2.50")],
)  # fmt: skip
def test_classes_and_sizes_are_looked_at(given: dict[str, float], said: str) -> None:
    assert said in other_sentence(with_losses(**given, budget=1.0))


def test_nothing_else_lost_is_said_too() -> None:
    made = with_losses(budget=1.0)
    assert largest_other(made) is None
    assert other_sentence(made) == "No number that the budget leaves out lost anything."


def test_a_budget_of_ap75_is_held() -> None:
    with pytest.raises(CheckFailedError, match=r"lost 4\.96 mask AP75 against .* budget is 2:"):
        enforce(with_losses(ap75=4.96, budget=1.0, ap75_budget=2.0))
    assert enforce(with_losses(ap75=1.5, budget=1.0, ap75_budget=2.0)).passed


def test_a_budget_of_each_class_is_held_and_may_stand_alone() -> None:
    with pytest.raises(CheckFailedError, match=r"lost 3\.40 mask AP of class ring against"):
        enforce(with_losses(ring=3.4, class_budget=3.0))
    kept = enforce(with_losses(ring=3.4, class_budget=3.4))
    assert kept.passed
    assert "mask AP of class ring, the worst of 2, lost 3.40" in passed_sentence(kept)
    assert kept.missed() == []
    assert 'failures="0"' in render_junit(kept)
    failed = render_junit(with_losses(ring=3.4, class_budget=3.0))
    assert 'tests="4" failures="1"' in failed  # box AP, mask AP, and the mask AP of two classes
    assert "mask AP of class ring lost 3.40, the budget is 3" in failed


def test_a_budget_that_covers_a_number_takes_it_from_the_others() -> None:
    made = with_losses(ap75=4.0, ring=1.0, ap75_budget=5.0)
    assert "class ring lost 1.00" in other_sentence(made)


@pytest.mark.parametrize("name", ["ap75_budget", "class_budget"])
def test_each_budget_needs_a_reference(name: str) -> None:
    with pytest.raises(UsageError, match="no reference"):
        report(reference=None, **{name: 1.0})


def test_missed_and_invented_are_said_with_their_scores() -> None:
    counts = {"missed": 30, "invented": 28, "confident": {"score": 0.5, "missed": 2, "invented": 1}}
    assert instance_sentence(counts) == (
        "30 missed and 28 invented at any score; with a score of 0.5 or more 2 missed and 1 "
        "invented"
    )
