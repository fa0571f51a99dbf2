"""What rounding decides is named and left out of a proof; an error is neither."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest

from maskrt.checking.borderline import Thresholds, thresholds_of, undecided
from maskrt.core import Instances
from maskrt.core.operator_names import operator_of

SIZE = (100, 100)
AT = Thresholds(score=0.05, iou=0.5, number=100)


def found(*rows: tuple[float, float, int], masks: bool = False) -> Instances:
    """Return boxes of 20 x 20 at (x, 10), each `(x, score, label)`."""
    boxes = np.array([[x, 10, x + 20, 30] for x, _, _ in rows], np.float32).reshape(-1, 4)
    drawn = np.zeros((len(rows), *SIZE), bool)
    for mask, (left, _, right, _) in zip(drawn, boxes.astype(int), strict=True):
        mask[10:30, left:right] = True
    return Instances(
        boxes, np.array([s for _, s, _ in rows], np.float32),
        np.array([label for _, _, label in rows], np.int64), SIZE, None, drawn if masks else None,
    )  # fmt: skip


CLEAR = (10.0, 0.9, 1)


def test_an_instance_that_moved_weights_bring_back_is_borderline() -> None:
    reference = found(CLEAR, (50.0, 0.0503, 1))
    left_out = undecided(reference, found(CLEAR), [found(CLEAR), reference], AT)
    assert left_out.reference.tolist() == [False, True]
    assert left_out.candidate.tolist() == [False]
    assert left_out.reasons == ("the score threshold 0.05",)


def test_an_instance_that_no_moved_weights_bring_back_is_missing() -> None:
    """Also one whose score lies on the threshold: a wrong graph may lose just that."""
    for score in (0.8, 0.0503):
        reference = found(CLEAR, (50.0, score, 1))
        left_out = undecided(reference, found(CLEAR), [found(CLEAR), found(CLEAR)], AT)
        assert not left_out.reference.any()
        assert left_out.reasons == ()


def test_an_invented_instance_that_stays_is_an_error_and_one_that_goes_is_not() -> None:
    invented = found(CLEAR, (50.0, 0.7, 1))
    stays = undecided(found(CLEAR), invented, [invented, invented], AT)
    assert not stays.candidate.any()
    goes = undecided(found(CLEAR), invented, [invented, found(CLEAR)], AT)
    assert goes.candidate.tolist() == [False, True]
    assert goes.reasons == ("an earlier choice between almost equal candidates",)


def test_what_agrees_is_never_left_out() -> None:
    """Whatever moved weights do to it."""
    both = found(CLEAR, (50.0, 0.7, 1))
    left_out = undecided(both, both, [found(), found(CLEAR)], AT)
    assert not left_out.reference.any()
    assert not left_out.candidate.any()


def test_a_pair_with_another_mask_is_one_finding() -> None:
    reference, candidate = found(CLEAR, masks=True), found(CLEAR, masks=True)
    assert isinstance(candidate.masks_source, np.ndarray)
    candidate.masks_source[0, 10:20] = False
    wrong = undecided(reference, candidate, [candidate, candidate], AT)
    assert not wrong.reference.any()
    rounded = undecided(reference, candidate, [candidate, reference], AT)
    assert rounded.reference.tolist() == rounded.candidate.tolist() == [True]
    assert len(rounded.reasons) == 1


def test_an_overlap_on_the_threshold_is_named() -> None:
    """20 x 20 boxes 20/3 apart share half of their union."""
    rival = (10.0, 0.9, 1)
    reference = found(rival, (10.0 + 20 / 3, 0.7, 1))
    left_out = undecided(reference, found(rival), [reference, found(rival)], AT)
    assert left_out.reasons == ("the IoU threshold 0.5",)


def test_the_last_of_a_full_number_is_named() -> None:
    reference = found(CLEAR, (50.0, 0.4, 1))
    candidate = found(CLEAR, (70.0, 0.4, 2))
    left_out = undecided(reference, candidate, [reference, candidate], replace(AT, number=2))
    assert left_out.reasons == ("the limit of 2 instances",) * 2


# -- through `prove`, on a model ---------------------------------------------------------------


@pytest.fixture(scope="module")
def proof(photos: list[np.ndarray]) -> Callable[[float, float], dict]:
    """Return what proves a model with one score threshold against its graph with another."""
    pytest.importorskip("torch").manual_seed(0)  # the weights, whatever ran before
    from maskrt.checking.conversion import prove
    from maskrt.export import export_model
    from maskrt.plugins.bodies import attach_functions

    from ..export.detectors import enliven, tiny_mask_rcnn
    from ..export.steady import canonical, steady_pictures

    model = enliven(tiny_mask_rcnn(), photos)
    exported = export_model(model, input_size=(128, 128))
    shown = steady_pictures(exported.model, exported.manifest, photos, 1)
    scores = np.sort(canonical(exported.model, exported.manifest).predict(shown[0]).scores)
    gaps = np.diff(scores)
    middle = len(scores) // 4 + int(np.argmax(gaps[len(scores) // 4 : -len(scores) // 4]))
    at = float(scores[middle + 1])  # alone above a gap

    def run(originals: float, graphs: float) -> dict:
        model.roi_heads.score_thresh = at * (1 + originals)
        again = export_model(model, input_size=(128, 128))
        (last,) = [n for n in again.model.graph.node if operator_of(n.op_type) == "BatchedNMS"][-1:]
        for attribute in last.attribute:
            if attribute.name == "score_threshold":
                attribute.f = at * (1 + graphs)
        made = attach_functions(again.model)
        onnx.checker.check_model(made)
        return {**prove(replace(again, model=made), shown), "thresholds": thresholds_of(made)}

    return run


@pytest.mark.torch
def test_a_score_on_the_threshold_is_no_violation(proof: Callable[[float, float], dict]) -> None:
    one = proof(-5e-6, 2e-7)  # PyTorch finds it, whatever its kernels round to; the graph does not
    assert one["violations"] == []
    (sentence,) = one["borderline"]
    assert sentence.startswith("1 instance lies on the score threshold")
    assert one["thresholds"].iou == pytest.approx(0.5)


@pytest.mark.torch
def test_a_graph_with_another_threshold_is_a_violation(
    proof: Callable[[float, float], dict],
) -> None:
    wrong = proof(-1e-3, 1e-3)
    assert any("missing" in sentence for sentence in wrong["violations"])
    assert wrong["borderline"] == []
