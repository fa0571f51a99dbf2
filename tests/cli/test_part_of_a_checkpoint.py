"""`maskrt inspect` says which part of a checkpoint the weights came from."""

from pathlib import Path
from typing import Any

import pytest

from maskrt.cli.summary import print_bundle
from maskrt.core import Bundle, InputSpec, Manifest


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({}, "weights last.ckpt (abababababab)"),
        ({"part": "model"}, "weights last.ckpt (abababababab, model)"),
        (
            {"part": "ema.module", "averaged": True, "beside": "model"},
            "(abababababab, ema.module, averaged over training (EMA), not model)",
        ),
        (
            {"part": "state_dict", "prefix": "teacher.", "left_out": 12},
            "(abababababab, state_dict, without teacher., 12 others left out)",
        ),
    ],
)
def test_part_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: dict[str, Any], words: str
) -> None:
    weights = {"file": "last.ckpt", "sha256": "ab" * 32, **part}
    outputs = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    source = {"model": "torchvision:fasterrcnn_resnet50_fpn", "weights": weights}
    path = tmp_path / "tiny.maskrt"
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), outputs, source=source)):
        pass
    print_bundle(Bundle.open(path))
    assert words in " ".join(capsys.readouterr().out.split())


def test_what_was_not_measured_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """AP of a data set without large objects, or a report without the name of its reference."""
    path = tmp_path / "tiny.maskrt"
    metrics = {"box": {"AP": 31.5}, "mask": {"AP": None}}
    with Bundle.create(path, Manifest("test", InputSpec(64, 64), {"boxes": (1, 4, 4)})) as bundle:
        best = {"method": "mse", "int8_layers": 3, "layers": 5, "drop": None}
        bundle.write("search.json", {"budget": 0.5, "best": best, "trials": [{}]})
        bundle.write("report/report.json", {
            "target": "cpu", "precision": "int8", "images": 4, "metrics": metrics, "passed": True,
            "drop": {"box": {"AP": 0.25}},
        })  # fmt: skip
    print_bundle(Bundle.open(path))
    printed = " ".join(capsys.readouterr().out.split())
    assert "lose undefined AP of the 0.5 allowed" in printed
    assert "box AP 31.50 (lost 0.25), mask AP undefined" in printed
