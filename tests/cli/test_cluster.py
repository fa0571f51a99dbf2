"""Checks and calibrations spread over a Dask cluster give the numbers of one machine."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.cluster.calibration import calibrate_on_cluster
from maskrt.core import Bundle

from .command_line import check

pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.mark.slow
@pytest.mark.parametrize("weights", [True, False])
def test_a_cluster_gives_the_same_numbers_though_a_worker_dies(
    work: Path, monkeypatch: pytest.MonkeyPatch, weights: bool
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.undo()  # the workers are reached over local sockets
    monkeypatch.setattr("maskrt.cluster.check._SHARD", 1)
    how: dict[str, Any] = {
        "images": work / "pictures", "annotations": work / "annotations.json", "target": "cpu",
        "weights": work / "tiny.pth" if weights else None,
        "model": "tests.export.detectors:tiny_mask_rcnn" if weights else None,
    }  # fmt: skip
    alone = maskrt.check(work / "tiny.maskrt", **how).to_json()
    killed = []
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None
    ) as cluster:

        def kill_one(stage: str, done: int, total: int) -> None:
            if stage == "check" and done == 0 and not killed:
                killed.append(cluster.workers[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        address = cluster.scheduler_address
        spread = maskrt.check(
            work / "tiny.maskrt", **how, dask=address, progress=kill_one
        ).to_json()
        # The surviving workers calibrate: the same recipe, byte by byte.
        recipe = Bundle.open(work / "tiny.maskrt").read("recipe.json")
        copy = work / f"spread{weights}.maskrt"
        shutil.copytree(work / "tiny.maskrt", copy)
        calibrate_on_cluster(copy, work / "pictures", address)
        assert Bundle.open(copy).read("recipe.json") == recipe
        assert Bundle.open(copy).engines() == []
    assert killed
    for report in (spread, alone):
        for name in ("date", "command"):
            assert report["provenance"].pop(name)
    for name in set(alone) - {"latency_ms", "reference_latency_ms"}:
        assert spread[name] == alone[name], name


def test_no_scheduler_is_one_sentence(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.undo()
    assert check(work, "--dask", "nonsense://nowhere:1") == 1
    shown = capsys.readouterr().err
    assert "no Dask scheduler answers at nonsense://nowhere:1" in shown
