"""What an engine loses in COCO AP, measured here, on a cluster, or foretold for another target."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

from .checking import accuracy
from .checking.foretold import run_as
from .checking.provenance import stated
from .checking.runs import Run, run_here
from .core import Bundle, Precision, Progress, Target, UsageError, silent
from .runtime.check import CocoDataset, Report
from .runtime.trust import Trust

__all__ = ["check", "measure"]


def check(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    categories: Path | str | None = None,
    target: Target | str | None = None,
    as_target: Target | str | None = None,
    precision: Precision | str | None = None,
    max_ap_drop: float | None = None,
    max_ap75_drop: float | None = None,
    max_class_drop: float | None = None,
    weights: Path | str | None = None,
    model: str | None = None,
    explain: bool = False,
    dask: str | None = None,
    trust: Trust = False,
    progress: Progress = silent,
) -> Report:
    """Measure COCO AP of an engine, and what it lost against the FP32 reference.

    Args:
        bundle: the bundle.
        images: folder of the annotated pictures.
        annotations: COCO instances JSON.
        categories: JSON file that says which label of the model each category is, where neither
            names nor numbers do: `{"car": "automobile", "7": 3}`.
        target: None is the best that this machine can run.
        as_target: foretell what an engine for this target, such as `"rtx"`, will compute: its graph
            is evaluated exactly on this CPU, and compared with the engine for `cpu` as well
            (`report.foretold`). No engine need be there.
        precision: None is the bundle's own.
        max_ap_drop: how much box AP, and how much mask AP, may be lost, points of 0 to 100; the
            report says whether it was (`report.passed`).
        max_ap75_drop: the same of AP75.
        max_class_drop: the same of the AP of each class.
        weights: the PyTorch weights that the bundle was compiled from: the reference is then the
            PyTorch model itself, otherwise the bundle's canonical FP32 graph.
        model: that model in your own words, such as `"package.module:factory"`. Of those in the
            bundle only `torchvision:NAME` and `maskrt:NAME` are followed, since others name code.
        explain: find out where the AP was lost: by stage, and layer by layer. This runs the data
            set about ten times more.
        dask: address of a Dask scheduler whose workers run the pictures; they must see the same
            files. The numbers are the same.
        trust: True opens an engine for a GPU whoever built it, a path that of a bundle which this
            public key signed; see `maskrt.load`.
        progress: told what goes on.

    Returns:
        The report; it is also written to the bundle, as `report/<target>@<precision>/report.json`
        and, being the newest, as `report/report.json`; a warning says if it could not be.
    """
    measured = measure(
        bundle, images=images, annotations=annotations, categories=categories, target=target,
        as_target=as_target, precision=precision, max_ap_drop=max_ap_drop,
        max_ap75_drop=max_ap75_drop, max_class_drop=max_class_drop, weights=weights, model=model,
        explain=explain, dask=dask, trust=trust, progress=progress,
    )  # fmt: skip
    if measured.unsaved:
        warnings.warn(f"the report is not in the bundle: {measured.unsaved}", stacklevel=2)
    return measured.report


def measure(
    bundle: Bundle | Path | str,
    *,
    images: Path | str,
    annotations: Path | str,
    categories: Path | str | None = None,
    as_target: Target | str | None = None,
    dask: str | None = None,
    **asked: Any,
) -> accuracy.Measured:
    """Do what `check` does, and return the report with its page; `asked` is of `check`.

    `command`, in `asked`, is what the user said; without it the report has the call in Python.
    """
    run: Run = run_here
    if "command" not in asked:
        said = {name: value for name, value in asked.items() if name != "progress"}
        asked["command"] = stated(
            check, bundle=bundle if not isinstance(bundle, Bundle) else bundle.path, images=images,
            annotations=annotations, categories=categories, as_target=as_target, dask=dask, **said,
        )  # fmt: skip
    if as_target is not None:
        _refuse_beside_as_target(
            target=asked.get("target"), explain=asked.get("explain"), dask=dask
        )
        run, asked["target"] = run_as, as_target
    elif dask is not None:
        from .cluster.check import run_on_cluster

        run = partial(run_on_cluster, address=dask)
    opened, dataset = Bundle.open(bundle), CocoDataset.load(images, annotations, categories)
    return accuracy.measure(opened, dataset, run=run, **asked)


def _refuse_beside_as_target(**given: object) -> None:
    """Raise `UsageError` for what says nothing of a check `as_target`."""
    for name, value in given.items():
        if value:
            raise UsageError(
                f"an evaluation as another target runs no engine, so {name} says nothing of it: "
                "leave out one of the two."
            )
