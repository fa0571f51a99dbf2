"""Graphs that nearly match: each is refused, by the rule that is nearest, with its reason."""

import re
from pathlib import Path

import onnx
import pytest

from maskrt.core import UnsupportedModelError
from maskrt.export.surgery import examine, export_onnx

from .graph_edits import Change
from .near_misses import CHANGED

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED]
)
def test_changed_graph_is_declined(
    change: Change, reason: str, graph: onnx.ModelProto, tmp_path: Path
) -> None:
    change(graph)
    onnx.save(graph, tmp_path / "near.onnx")
    first, *_ = examine(tmp_path / "near.onnx").declined
    assert re.search(reason, str(first)), str(first)
    assert "\n" not in str(first)


@pytest.mark.parametrize("row", [0, 10, 20, 30, 40])
def test_what_is_declined_is_refused(row: int, graph: onnx.ModelProto, tmp_path: Path) -> None:
    _, change, reason = CHANGED[row]
    change(graph)
    onnx.save(graph, tmp_path / "near.onnx")
    with pytest.raises(UnsupportedModelError, match=f"is not understood: the rule .*{reason}"):
        export_onnx(tmp_path / "near.onnx")


def test_there_are_enough() -> None:
    assert len(CHANGED) >= 30


def test_unchanged_graph_is_accepted(graph: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(graph, tmp_path / "same.onnx")
    assert export_onnx(tmp_path / "same.onnx").model.graph.node
