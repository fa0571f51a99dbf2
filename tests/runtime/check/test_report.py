"""Reports survive the trip through JSON, derive the drop, and judge budgets."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from maskrt.core import CheckFailedError, InputError, Instances, Precision, UsageError
from maskrt.core.masks import crops_of
from maskrt.runtime.check import (
    METRICS,
    Report,
    Triple,
    enforce,
    latency_percentiles,
    make_triple,
    render_html,
    render_junit,
)
from maskrt.runtime.check.agreement import compare_instances
from maskrt.runtime.check.schema import report_schema
from maskrt.runtime.check.triples import _shrunk

RECALL = (40.0, 60.0, 65.0, 35.0, 60.0, 80.0)
BOX = dict(zip(METRICS, (60.0, 80.0, 70.0, 30.0, None, 75.0, *RECALL), strict=True))
MASK = dict(zip(METRICS, (55.0, 78.0, 61.5, 20.0, 50.0, 70.0, *RECALL), strict=True))


def lower(metrics: dict[str, Any], by: float) -> dict[str, Any]:
    return {name: None if value is None else value - by for name, value in metrics.items()}


def report(**changes: Any) -> Report:
    given: dict[str, Any] = {
        "target": "cpu",
        "precision": Precision.INT8,
        "images": 200,
        "metrics": {"box": lower(BOX, 0.25), "mask": lower(MASK, 0.5)},
        "latency_ms": {"p50": 20.0, "p90": 25.0, "p99": 31.0, "mean": 21.0},
        "reference": {"box": BOX, "mask": MASK},
        "reference_name": "PyTorch FP32",
    }
    return Report(**{**given, **changes})


def test_drop_is_reference_minus_metrics() -> None:
    drop = report().drop
    assert drop is not None
    assert drop["mask"]["AP"] == 0.5
    assert drop["box"]["AP"] == 0.25
    assert drop["box"]["APM"] is None
    assert report(reference=None, reference_name=None).drop is None


def test_a_box_only_model_has_no_mask() -> None:
    only = report(metrics={"box": BOX})
    assert "mask" not in only.metrics
    assert set(only.drop or {}) == {"box"}


@pytest.mark.parametrize("budget", [None, 1.0])
def test_json_round_trip(tmp_path: Path, budget: float | None) -> None:
    original = report(budget=budget, note="Half a sentence.")
    original.save(tmp_path / "deep" / "report.json")
    data = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert Report.from_json(data) == original
    assert data["metrics"]["mask"]["AP"] == 54.5
    assert data["drop"]["mask"]["AP"] == 0.5
    assert data["passed"] is True
    assert data["format_version"] == 2
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["report.json"]


def test_saving_replaces_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    report().save(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        report(images=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_versions_and_other_files_are_refused() -> None:
    with pytest.raises(InputError, match="format version 3"):
        Report.from_json({**report().to_json(), "format_version": 3})
    with pytest.raises(InputError, match="lacks"):
        Report.from_json({"format_version": 1})


@pytest.mark.parametrize("budget", [0.5, 0.6, 3.0])
def test_a_budget_that_is_met(budget: float) -> None:
    judged = enforce(report(), budget)
    assert judged.passed
    assert judged.budget == budget


def test_a_missed_budget_names_drop_metric_and_budget() -> None:
    with pytest.raises(CheckFailedError) as error:
        enforce(report(), 0.3)
    assert str(error.value) == (
        "int8 on cpu lost 0.50 mask AP against PyTorch FP32, and the budget is 0.3: choose another "
        "precision or calibration, or a wider budget."
    )


def test_box_ap_alone_can_miss_it_and_the_worst_comes_first() -> None:
    worse_box = report(metrics={"box": lower(BOX, 2.0), "mask": MASK})
    with pytest.raises(CheckFailedError, match=r"lost 2\.00 box AP against"):
        enforce(worse_box, 1.0)
    with pytest.raises(CheckFailedError, match=r"lost 0\.50 mask AP and 0\.25 box AP"):
        enforce(report(), 0.1)


def test_a_gain_never_misses_a_budget() -> None:
    better = report(metrics={"box": lower(BOX, -1), "mask": lower(MASK, -1)})
    assert enforce(better, 0.0).passed


def test_a_budget_needs_a_reference() -> None:
    with pytest.raises(UsageError, match="no reference"):
        enforce(report(reference=None), 0.3)


def test_latency_percentiles() -> None:
    values = latency_percentiles(list(range(101)))
    assert values == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "mean": 50.0}
    assert latency_percentiles([]) == {}
    assert set(latency_percentiles([1.0] * 99)) == {"p50", "p90", "mean"}
    assert set(latency_percentiles([1.0] * 9)) == {"p50", "mean"}
    assert latency_percentiles([3.0]) == {"p50": 3.0, "mean": 3.0}


def test_html_is_one_file_that_says_what_the_report_says() -> None:
    page = render_html(report(budget=1.0), [triple("<7>.png")])
    assert "<!doctype html>" in page
    for text in ("54.50", "55.00", "0.50", "PyTorch FP32", "200 annotated", "31.0", "&lt;7&gt;"):
        assert text in page
    assert page.count("data:image/jpeg;base64,") == 1  # the three panels share its pixels
    assert "http" not in page  # nothing is loaded from elsewhere
    assert "verdict good" in page


def test_html_of_a_missed_budget_and_of_the_bare_minimum() -> None:
    assert "lost 0.50 mask AP" in render_html(report(budget=0.3))
    bare = Report("cpu", Precision.FP32, 3, {"box": BOX})
    page = render_html(bare)
    assert "verdict" not in page.split("</style>")[1]
    assert "Mask" not in page
    assert ">Latency" not in page


def test_every_report_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    bare = Report("cpu", Precision.FP32, 3, {"box": BOX})
    for made in (report(budget=1.0), bare):
        jsonschema.validate(json.loads(json.dumps(made.to_json())), schema)
    for wrong in ({"format_version": 1}, {"metrics": {}}, {"images": "many"}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**bare.to_json(), **wrong}, schema)


def test_junit_counts_failures_and_escapes() -> None:
    passed = ElementTree.fromstring(render_junit(report(budget=1.0)).split("\n", 1)[1])
    assert passed.attrib == {"tests": "2", "failures": "0", "errors": "0"}
    missed = ElementTree.fromstring(
        render_junit(report(budget=0.3, reference_name="<FP32>")).split("\n", 1)[1]
    )
    assert missed.attrib["failures"] == "1"
    cases = {case.get("name"): case for case in missed.iter("testcase")}
    failure = cases["mask AP"].find("failure")
    assert failure is not None
    assert failure.get("message") == "mask AP lost 0.50, the budget is 0.3"
    assert cases["box AP"].find("failure") is None
    assert cases["mask AP"].findtext("system-out") == "mask AP 54.50, lost 0.50 against <FP32>"
    assert "<FP32>" in (cases["box AP"].findtext("system-out") or "")


def test_junit_says_a_gain_as_one() -> None:
    better = report(reference={"box": lower(BOX, 0.5), "mask": lower(MASK, 5 / 6)})
    said = [case.findtext("system-out") for case in _cases(better)]
    assert said == [
        "box AP 59.75, gained 0.25 against PyTorch FP32",
        "mask AP 54.50, gained 0.33 against PyTorch FP32",
    ]


def _cases(made: Report) -> list[ElementTree.Element]:
    document = ElementTree.fromstring(render_junit(made).split("\n", 1)[1])
    return list(document.iter("testcase"))


def test_noise_is_said() -> None:
    interval = {"low": -0.2, "high": 0.5, "draws": 1000, "pictures": 50, "within_noise": True}
    (sentence,) = report(confidence={"mask": interval}).noise_sentences()
    assert sentence == (
        "Mask AP: between gained 0.20 and lost 0.50 (95 %, 50 pictures): within noise."
    )


def test_boundary_ap_has_no_budget() -> None:
    kinds = {"box": BOX, "mask": MASK, "boundary": lower(MASK, 3.0)}
    made = report(metrics=kinds, reference={**kinds, "boundary": MASK})
    assert enforce(made, 0.1).passed


CURVE = {
    "precision": {
        name: [1.0] * reached + [0.0] * (101 - reached)
        for name, reached in (("50", 80), ("75", 60), ("mean", 50))
    },
    "f1": [at / 100 for at in range(101)],
    "best": {"score": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0},
}


def triple(name: str = "a.png", *, side: int = 96) -> Triple:
    """A picture on which one disc is matched, one is missed, and a ring is invented."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (side, side, 3), np.uint8)
    expected = Instances(
        np.array([[10, 10, 40, 40], [50, 50, 80, 80]], np.float32), np.float32([0.9, 0.8]),
        np.array([1, 1]), (side, side), ("background", "disc & ring", "square"),
        masks_source=_squares(side, (10, 10), (50, 50)),
    )  # fmt: skip
    found = Instances(
        np.array([[10, 10, 40, 40], [5, 60, 35, 90]], np.float32), np.float32([0.9, 0.3]),
        np.array([1, 2]), (side, side), ("background", "disc & ring", "square"),
        masks_source=_squares(side, (10, 10), (5, 60)),
    )  # fmt: skip
    truth = [
        {"category_id": 1, "bbox": [10.0, 10.0, 30.0, 30.0], "iscrowd": 0,
         "segmentation": [[10, 10, 40, 10, 40, 40, 10, 40]]},
        {"category_id": 1, "bbox": [50.0, 50.0, 30.0, 30.0], "iscrowd": 0, "segmentation": None},
    ]  # fmt: skip
    names = {1: "disc & ring", 2: "square"}
    compared = compare_instances(expected, found)
    return make_triple(name, picture, truth, names, expected, found, compared)


def _squares(side: int, *corners: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((len(corners), side, side), bool)
    for mask, (x, y) in zip(masks, corners, strict=True):
        mask[y : y + 30, x : x + 30] = True
    return masks


def full_report(**changes: Any) -> Report:
    """A report in which every section of the page has something to show."""
    layers = [
        {
            "name": f"backbone.layer<{n}>", "precision": "int8", "own_snr_db": 40.0 - 9 * n,
            "snr_db": 30.0 - n, "range_used": 0.9, "worst_channels": [3, 1],
        }
        for n in range(4)
    ]  # fmt: skip
    spread = {
        "min": 0.6, "p1": 0.7, "p10": 0.8, "p50": 0.9, "mean": 0.9, "max": 1.0,
        "histogram": {"low": 0.5, "high": 1.0, "counts": [1, 2]},
    }  # fmt: skip
    lost = ({"box": 0.1, "mask": 1.5}, {"box": 0.0, "mask": -0.25})
    given: dict[str, Any] = {
        "classes": {"mask": {"disc & ring": MASK}},
        "reference_classes": {"mask": {"disc & ring": MASK}},
        "agreement": {
            "matched": 9, "missed": 2, "invented": 1, "label_changed": 1,
            "confident": {"score": 0.5, "missed": 0, "invented": 0},
            "box_iou": spread, "mask_iou": spread, "score_difference": spread,
            "score_shift": spread, "box_shift": spread,
            "by_label": {"disc & ring": {"matched": 9, "missed": 2, "invented": 1,
                                         "label_changed": 1}},
            "changed_labels": [{"reference": "a", "engine": "b", "count": 1}],
            "swapped_labels": [["a", "b"]],
        },
        "attribution": {
            "start": "PyTorch FP32", "whole": {"box": 0.1, "mask": 1.25}, "suspect": "surgery",
            "parts": [
                {"stage": stage, "what": f"what {stage} lost", "lost": values}
                for stage, values in zip(("surgery", "paste"), lost, strict=True)
            ],
            "findings": [{"stage": "surgery", "sentence": "an NMS drops a box at <0.7>."}],
        },
        "divergence": {
            "pictures": 4, "tolerance_db": 15.0, "first": "backbone.layer<3>", "wide": [],
            "layers": layers,
        },
        "curves": {"mask": {"disc & ring": CURVE}},
        "reference_curves": {"mask": {"disc & ring": CURVE}},
        "confusion": {"labels": ["disc & ring"], "counts": [[7, 2], [1, 0]], "score": 0.5},
        "reference_confusion": {"labels": ["disc & ring"], "counts": [[8, 1], [1, 0]],
                                "score": 0.5},
        "reference_latency_ms": {"p50": 41.0, "p90": 45.0, "p99": 51.0, "mean": 42.0},
        "labels": {"disc & ring": 1},
        "provenance": {"bundle": "<a>.maskrt", "sha256": {"graph": "ab" * 32, "recipe": None},
                       "command": "maskrt check <a>.maskrt"},
        "engine": {"backend": "onnxruntime", "version": "1", "bytes": 3600000,
                   "layers": {"int8": 52, "fp32": 1}},
    }  # fmt: skip
    return report(**{**given, **changes})


def test_the_full_page_is_valid_html_that_loads_nothing() -> None:
    html5lib = pytest.importorskip("html5lib")
    page = render_html(full_report(budget=1.0), [triple("a & b.png")])
    html5lib.HTMLParser(strict=True).parse(page)  # raises on any parse error
    for text in (
        "what surgery lost", "an NMS drops a box at &lt;0.7&gt;.", "are swapped", "disc &amp; ring",
        "backbone.layer&lt;3&gt;", "3.6 MB", "52 int8", "1.25", "<svg", "label changed",
        "missed disc &amp; ring 0.80",
        "invented square 0.30", "&lt;a&gt;.maskrt", "ab" * 32, "lost 1.50", "gained 0.25",
    ):  # fmt: skip
        assert text in page, text
    for needless in ("<script src", "http", "url(", "@import", "<link", "fetch("):
        assert needless not in page
    assert 'name="viewport"' in page


def test_the_plot_has_a_dot_a_layer_and_marks_those_beyond() -> None:
    page = render_html(full_report())
    assert page.count('<circle class="own"') == 3
    assert page.count('<path class="beyond"') == 1  # another form, not another colour alone


def test_full_reports_fit_the_schema_and_come_back() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = json.loads(json.dumps(full_report().to_json()))
    jsonschema.validate(data, report_schema())
    assert Report.from_json(data) == full_report()
    data["attribution"]["parts"][0]["stage"] = "weather"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, report_schema())


def test_reports_of_before_are_read() -> None:
    """Those of version 2 that say neither curves nor where they come from."""
    data = json.loads(json.dumps(full_report(budget=1.0).to_json()))
    for name in ("curves", "reference_curves", "confusion", "reference_confusion", "labels",
                 "reference_latency_ms", "provenance", "ap75_budget", "class_budget"):  # fmt: skip
        del data[name]
    for name in ("score_shift", "box_shift", "by_label"):
        del data["agreement"][name]
    del data["agreement"]["confident"]["score"]
    read = Report.from_json(data)
    assert read.passed is True
    assert read.curves == {}
    assert "Instances against the reference" in render_html(read)


def test_what_became_of_each_instance_is_in_the_triple() -> None:
    made = triple(side=1280)  # shown at half its size
    assert made.size == (640, 640)
    assert [shape.fate for shape in made.truth] == ["annotated", "annotated"]
    assert sorted(shape.fate for shape in made.reference) == ["matched", "missed"]
    assert sorted(shape.fate for shape in made.engine) == ["invented", "matched"]
    (missed,) = (shape for shape in made.reference if shape.fate == "missed")
    assert missed.box == (25.0, 25.0, 40.0, 40.0)
    (ring,) = missed.rings
    assert ring.min() == 25.0
    assert ring.max() == 40.0
    assert made.disagreement == pytest.approx(0.8 + 0.3)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37])
def test_a_shrunk_mask_is_the_mask_at_the_small_pixels_centres(scale: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        mask = np.zeros((70, 90), bool)
        top, left = (int(v) for v in rng.integers(0, 50, 2))
        mask[top : top + int(rng.integers(1, 40)), left : left + int(rng.integers(1, 60))] = True
        mask &= rng.random(mask.shape) < 0.8
        if not mask.any():
            continue
        height, width = (int(side * scale) for side in mask.shape)
        small = _shrunk(crops_of(mask[None])[0], scale)
        found = np.zeros((height + 1, width + 1), bool)
        rows, columns = small.inside.shape
        found[small.top : small.top + rows, small.left : small.left + columns] = small.inside
        for y in range(height):
            for x in range(width):
                assert found[y, x] == mask[int((y + 0.5) / scale), int((x + 0.5) / scale)]
