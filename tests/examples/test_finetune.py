"""The notebook, executed from its first cell to its last in a folder of its own."""

import json
import re
import sys
from pathlib import Path

import pytest

import maskrt

from .painted import ROOT, with_examples

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.usefixtures("packages")]
NOTEBOOK = ROOT / "examples" / "finetune.ipynb"


def test_the_notebook_runs_and_ends_in_an_engine_that_finds_the_new_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient

    monkeypatch.undo()  # the kernel is spoken to over sockets of this machine
    path = with_examples([])
    assert path is not None
    monkeypatch.setattr(sys, "path", [*sys.path, *path])
    launch = (
        f"import sys; sys.path += {path!r}; from ipykernel.kernelapp import launch_new_instance"
    )
    launch += "; launch_new_instance()"
    manager = AsyncKernelManager()
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-c", launch, "-f", "{connection_file}"], language="python"
    )
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)  # it is kept without
    client = NotebookClient(
        book, km=manager, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in book.cells for output in cell.get("outputs", ())
    )
    print(printed)
    losses = [float(word) for word in re.findall(r"loss (\d+\.\d+)", printed)]
    assert len(losses) == 4
    assert losses[-1] < 0.9 * losses[0]
    bundle = maskrt.Bundle.open(tmp_path / "round.maskrt")
    assert list(bundle.manifest.class_names or ()) == ["background", "round", "angular"]
    report = json.loads((bundle.path / "report" / "report.json").read_text())
    assert report["precision"] == "int8"
    for kind, least in (("box", 45), ("mask", 37)):  # 57 and 48 as it is
        int8, fp32 = report["metrics"][kind]["AP"], report["reference"][kind]["AP"]
        assert int8 > least
        assert fp32 - int8 < 6
        assert f"{kind} AP: INT8 {int8:.1f}, FP32 {fp32:.1f}" in printed
        for name in ("round", "angular"):  # both were learnt
            assert report["classes"][kind][name]["AP"] > least - 10
    shown = [
        output for output in book.cells[-1]["outputs"] if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 1
