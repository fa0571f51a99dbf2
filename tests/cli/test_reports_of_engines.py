"""Each engine keeps its report, which says where it comes from; `maskrt report` lays them out."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.core import Bundle, BundleError, InputError

from .command_line import check, run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def copy(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of two engines, both checked, and a third that was only foretold."""
    folder = tmp_path_factory.mktemp("reports")
    shutil.copytree(work / "tiny.maskrt", folder / "tiny.maskrt")
    for name in ("pictures", "annotations.json"):
        (folder / name).symlink_to(work / name)
    own = Bundle.open(folder / "tiny.maskrt").manifest.precision.value
    other = "fp16" if own != "fp16" else "fp32"
    assert run("build", folder / "tiny.maskrt", "--target", "cpu", "--precision", other) == 0
    assert check(folder, "--precision", other) == 0
    assert check(folder, "--max-ap-drop", 100, "--max-class-drop", 100) == 0
    return folder


def engines(folder: Path) -> dict[str, str]:
    """Return the report's folder of both engines, the newest last."""
    own = Bundle.open(folder / "tiny.maskrt").manifest.precision.value
    return {"other": "cpu@fp16" if own != "fp16" else "cpu@fp32", "own": f"cpu@{own}"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_engine_overwrites_anothers_report(copy: Path) -> None:
    bundle = Bundle.open(copy / "tiny.maskrt")
    for name in engines(copy).values():
        data = bundle.read_json(f"report/{name}/report.json")
        assert f"{data['target']}@{data['precision']}" == name
        assert f"report/{name}/report.html" in bundle


def test_the_old_place_has_the_newest(copy: Path) -> None:
    bundle = Bundle.open(copy / "tiny.maskrt")
    for kind in ("json", "html"):
        newest = bundle.read(f"report/{engines(copy)['own']}/report.{kind}")
        assert bundle.read(f"report/report.{kind}") == newest


def test_a_report_says_where_it_comes_from(copy: Path) -> None:
    folder = copy / "tiny.maskrt"
    bundle = Bundle.open(folder)
    name = engines(copy)["own"]
    found = bundle.read_json(f"report/{name}/report.json")["provenance"]
    digests = found["sha256"]
    assert found["bundle"] == "tiny.maskrt"
    assert found["model"] == bundle.manifest.source["model"]
    assert digests["graph"] == sha256(folder / "model.onnx")
    assert digests["engine"]["engine.onnx"] == sha256(folder / "engines/cpu/engine.onnx")
    assert digests["engine"]["engine.json"] == sha256(folder / "engines/cpu/engine.json")
    assert digests["annotations"] == sha256(copy / "annotations.json")
    listed = json.loads((copy / "annotations.json").read_text())["images"]
    lines = [digests["annotations"]]
    for image in sorted(listed, key=lambda image: image["id"]):
        lines.append(f"{image['id']} {sha256(copy / 'pictures' / image['file_name'])}")
    assert digests["data"] == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert found["versions"]["maskrt"] == maskrt.__version__
    assert "onnxruntime" in found["versions"]
    assert found["machine"]["cpu"]
    assert found["date"].endswith("+00:00")
    assert found["command"].startswith(f"maskrt check {folder} --images")
    assert found["command"].endswith("--max-ap-drop 100 --max-class-drop 100")
    assert found["thresholds"] == {
        "max_ap_drop": 100.0, "max_ap75_drop": None, "max_class_drop": 100.0,
        "confident_score": 0.5,
    }  # fmt: skip
    page = bundle.read(f"report/{name}/report.html").decode()
    for text in (digests["graph"], digests["data"], found["machine"]["cpu"], found["date"]):
        assert text in page


def test_python_says_its_own_call(copy: Path) -> None:
    report = maskrt.check(
        copy / "tiny.maskrt", images=copy / "pictures", annotations=copy / "annotations.json",
        max_ap_drop=100.0,
    )  # fmt: skip
    assert report.provenance["command"] == (
        f"maskrt.check(bundle='{copy / 'tiny.maskrt'}', images='{copy / 'pictures'}', "
        f"annotations='{copy / 'annotations.json'}', max_ap_drop=100.0)"
    )


def test_inspect_shows_both(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", copy / "tiny.maskrt") == 0
    shown = capsys.readouterr().out
    assert shown.count("  accuracy  box AP") == 2
    assert f"report/{engines(copy)['other']}/report.html" in shown
    graph = sha256(copy / "tiny.maskrt" / "model.onnx")
    assert f"graph {graph[:12]}" in shown
    assert "maskrt check" in shown
    assert set(maskrt.inspect(copy / "tiny.maskrt").reports) == set(engines(copy).values())


def test_both_are_timed_in_turn_and_laid_out(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, bundle = tmp_path / "bench.json", copy / "tiny.maskrt"
    words = ("--runs", 2, "--images", copy / "pictures", "--json", bench)
    assert run("bench", bundle, "--all", *words, "--plot", tmp_path / "b.svg") == 0
    shown = capsys.readouterr().out
    assert "in turn, 2 runs of each" in shown
    assert "1.00 x" in shown
    assert "p99" not in shown  # of two runs
    timed = {f"{e['target']}@{e['precision']}": e for e in json.loads(bench.read_text())["engines"]}
    assert set(timed) == set(engines(copy).values())
    for row in maskrt.report(bundle, benches=[bench]).engines:
        found = timed[row.engine]["stages_ms"]["total"]["p50"] / timed[row.engine]["batch"]
        assert (row.latency_from, row.latency_ms) == ("bench", found)
    assert run("bench", bundle, "--engine", "cpu", "--precision", "fp32") == 2
    assert "--precision says nothing more" in capsys.readouterr().err


def test_side_by_side(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "all.json", tmp_path / "all.html"]
    bench = tmp_path / "bench.json"
    own = engines(copy)["own"]
    target, _, precision = own.partition("@")
    stages = {"total": {"p50": 24.0}}
    bench.write_text(
        json.dumps({"target": target, "precision": precision, "batch": 2, "stages_ms": stages})
    )
    words = ("--json", files[0], "--html", files[1], "--bench", bench)
    assert run("report", copy / "tiny.maskrt", *words) == 0
    shown = capsys.readouterr().out
    rows = {row["engine"]: row for row in json.loads(files[0].read_text())["engines"]}
    assert set(rows) == set(engines(copy).values())
    assert rows[own]["latency_ms"] == 12.0  # a picture, of a call with two
    assert rows[own]["latency_from"] == "bench"
    other = rows[engines(copy)["other"]]
    assert other["latency_from"] == "check"
    assert "12.0 ms" in shown
    assert "Some latencies are of bench" in shown
    bundle = Bundle.open(copy / "tiny.maskrt")
    for name, row in rows.items():
        data = bundle.read_json(f"report/{name}/report.json")
        assert row["ap"]["box"] == data["metrics"]["box"]["AP"]
        assert row["lost"]["box"] == data["drop"]["box"]["AP"]
        assert row["bytes"] == data["engine"]["bytes"]
    page = files[1].read_text()
    assert all(f"tiny.maskrt {name}" in page for name in rows)
    assert "http" not in page


def test_an_engine_built_anew_is_told_from_the_one_that_was_checked(
    copy: Path, tmp_path: Path
) -> None:
    shutil.copytree(copy / "tiny.maskrt", tmp_path / "b.maskrt")
    with Bundle.open(tmp_path / "b.maskrt").edit() as staged:
        staged.write("engines/cpu/engine.onnx", b"another")
    found = maskrt.report([copy / "tiny.maskrt", tmp_path / "b.maskrt"])
    notes = {(row.bundle, row.engine): row.note for row in found.engines}
    assert "built anew since its check" in notes["b.maskrt", engines(copy)["own"]]
    assert not notes["tiny.maskrt", engines(copy)["own"]]
    assert len(found.engines) == 4


def test_a_bundle_of_before_has_its_one_report(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "tiny.maskrt", tmp_path / "b.maskrt")
    with Bundle.open(tmp_path / "b.maskrt").edit() as staged:
        for name in engines(copy).values():
            staged.remove(f"report/{name}/")
    rows = {row.engine: row for row in maskrt.report(tmp_path / "b.maskrt").engines}
    assert rows[engines(copy)["own"]].ap
    assert not rows[engines(copy)["other"]].ap
    assert "not checked" in rows[engines(copy)["other"]].note


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda bench: bench.pop("batch"), "lacks batch"),
        (lambda bench: bench.update(batch=0), "batch is 0"),
        (lambda bench: bench.update(batch=10**30), "batch"),
        (lambda bench: bench["stages_ms"]["total"].update(p50="fast"), "p50"),
        (lambda bench: bench.update(precision="int5"), "precision"),
    ],
)
def test_what_is_no_bench_is_refused(
    copy: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], object], wrong: str
) -> None:
    bench: dict[str, Any] = {
        "target": "cpu", "precision": "int8", "batch": 1, "stages_ms": {"total": {"p50": 3.5}},
    }  # fmt: skip
    damage(bench)
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    with pytest.raises(InputError, match=rf"bench\.json .*{wrong}.*name a file that maskrt bench"):
        maskrt.report(copy / "tiny.maskrt", benches=[tmp_path / "bench.json"])


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda report: report["provenance"].update(sha256=3), "provenance.sha256"),
        (lambda report: report["provenance"]["machine"].update(cpu=[]), "machine.cpu"),
        (lambda report: report.update(latency_ms={"p50": "3"}), "latency_ms"),
        (lambda report: report.update(note=None), "note"),
    ],
)
def test_a_damaged_report_is_one_sentence(
    copy: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], object], wrong: str
) -> None:
    shutil.copytree(copy / "tiny.maskrt", tmp_path / "b.maskrt")
    file = f"report/{engines(copy)['own']}/report.json"
    with Bundle.open(tmp_path / "b.maskrt").edit() as staged:
        report = json.loads((tmp_path / "b.maskrt" / file).read_text())
        damage(report)
        staged.write(file, report)
    with pytest.raises(BundleError, match=rf"{wrong}.*run maskrt check again"):
        maskrt.report(tmp_path / "b.maskrt")
