"""The reports of several engines side by side: of one bundle, or of copies from several machines.

Each check leaves its report in the bundle, at `report/<target>@<precision>/`. So what FP32, FP16
and INT8 cost on each target is there to be read without running anything. Engines that were built
and not checked are rows without numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .core import Bundle, InputError
from .core.bundle import REPORT
from .core.bundle_files import BenchesFile, BenchFile
from .core.typed_files import believed, read_typed
from .runtime.check import Report

__all__ = ["ComparedEngine", "Comparison", "report", "reports_of"]


@dataclass(frozen=True)
class ComparedEngine:
    """An engine, and what its last check found.

    Attributes:
        bundle: the folder's name.
        engine: such as `"cpu@int8"`, with `-foretold` behind it if no engine ran.
        ap: kind → AP, 0 to 100; empty if it was not checked.
        lost: kind → AP lost against the reference, above 0 a loss, below 0 a gain.
        reference: what that is; empty if it was not checked.
        pictures: how many AP was measured on.
        data: SHA-256 of annotations and pictures; None in reports that do not say it.
        latency_ms: median, a picture.
        latency_from: `"bench"` or `"check"`; empty without a latency.
        bytes: size of the engine's file.
        layers: precision → how many heavy layers compute in it.
        kernels: what a frame launches on a GPU; None where its builder does not count that.
        machine: CPU's or GPU's name.
        date: of the check, ISO 8601.
        note: what a reader has to know, a sentence or empty.
    """

    bundle: str
    engine: str
    ap: Mapping[str, float | None]
    lost: Mapping[str, float | None]
    reference: str = ""
    pictures: int = 0
    data: str | None = None
    latency_ms: float | None = None
    latency_from: str = ""
    bytes: int | None = None
    layers: Mapping[str, int] | None = None
    kernels: int | None = None
    machine: str = ""
    date: str = ""
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Engines side by side.

    Attributes:
        engines: in the order of the bundles, and of each by name.
    """

    engines: tuple[ComparedEngine, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader of the whole table has to know, a sentence each."""
        checked = [row for row in self.engines if row.ap]
        found = [f"{row.bundle} {row.engine}: {row.note}" for row in self.engines if row.note]
        if len({(row.data, row.pictures) for row in checked}) > 1:
            found.insert(0, "Not all were measured on the same data: compare AP with care.")
        if len({row.latency_from for row in checked}) > 1:
            found.insert(0, "Some latencies are of bench and some of check, beside other work.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"engines": [asdict(row) for row in self.engines], "notes": self.notes}


def report(
    bundles: Bundle | Path | str | Sequence[Bundle | Path | str],
    *,
    benches: Sequence[Path | str] = (),
    html: Path | str | None = None,
) -> Comparison:
    """Lay the reports of engines side by side; nothing is run.

    Args:
        bundles: one bundle or several, such as copies that came back from devices.
        benches: files that `maskrt bench --json FILE` wrote: their latency is taken for the engines
            of that target and precision, else that of the check.
        html: write the comparison as a page here.

    Raises:
        BundleError: one of them is no bundle.
        InputError: a report or a bench in it cannot be read.
    """
    given = [bundles] if isinstance(bundles, Bundle | Path | str) else list(bundles)
    measured = {name: found for file in benches for name, found in _benches(file).items()}
    rows = [row for bundle in given for row in _rows(Bundle.open(bundle), measured)]
    found = Comparison(tuple(rows))
    if html is not None:
        from .core.whole_file import write_text
        from .runtime.check.page.comparison import comparison_page

        write_text(Path(html), comparison_page(found.to_json()))
    return found


def reports_of(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return the reports of a bundle by engine; of an older bundle the only one that it has."""
    parts = ((path, path.split("/")) for path in bundle.digests)
    found = {
        part[1]: bundle.read_json(path)
        for path, part in parts
        if len(part) == 3 and part[0] == "report" and part[2] == "report.json"
    }
    if not found and REPORT in bundle:
        newest = bundle.read_json(REPORT)
        return {f"{newest.get('target')}@{newest.get('precision')}": newest}
    return dict(sorted(found.items()))


def _rows(bundle: Bundle, benches: Mapping[str, float]) -> list[ComparedEngine]:
    name, own = bundle.path.resolve().name, bundle.manifest.precision.value
    infos = {
        engine if "@" in engine else f"{engine}@{own}": (engine, info)
        for engine in bundle.engines()
        if isinstance(info := bundle.read_json(f"engines/{engine}/engine.json"), dict)
    }
    reports = reports_of(bundle)
    rows = []
    for engine in sorted(infos.keys() | reports.keys()):
        folder, info = infos.get(engine, ("", {}))
        rows.append(_row(bundle, name, engine, folder, info, reports.get(engine), benches))
    return rows


def _row(
    bundle: Bundle,
    name: str,
    engine: str,
    folder: str,
    info: Mapping[str, Any],
    data: Any,
    benches: Mapping[str, float],
) -> ComparedEngine:
    kernels = info.get("kernels")
    built: dict[str, Any] = {
        "bytes": info.get("bytes"),
        "layers": {k: n for k, n in (info.get("layers") or {}).items() if n} or None,
        "kernels": sum(kernels.values()) if isinstance(kernels, dict) else None,
    }
    if engine in benches:
        built |= {"latency_ms": benches[engine], "latency_from": "bench"}
    if data is None:
        return ComparedEngine(name, engine, {}, {}, note="built, and not checked here.", **built)
    try:
        checked = Report.from_json(data)
    except InputError as error:
        raise InputError(f"the report of {engine} in {bundle.path}: {error}") from error
    if "latency_ms" not in built and "p50" in checked.latency_ms:
        built |= {"latency_ms": checked.latency_ms["p50"], "latency_from": "check"}
    origin, kinds = checked.provenance, [k for k in ("box", "mask") if k in checked.metrics]
    machine = origin.get("machine", {})
    return ComparedEngine(
        name, engine,
        {kind: checked.metrics[kind]["AP"] for kind in kinds},
        {kind: (checked.drop or {}).get(kind, {}).get("AP") for kind in kinds},
        reference=checked.reference_name or "", pictures=checked.images,
        data=origin.get("sha256", {}).get("data"),
        machine=str(machine.get("gpu") or machine.get("cpu") or ""),
        date=str(origin.get("date", "")), note=_note(bundle, folder, checked), **built,
    )  # fmt: skip


def _note(bundle: Bundle, folder: str, checked: Report) -> str:
    """Say if the engine is another one than was checked."""
    if checked.foretold is not None:
        return checked.note
    then = checked.provenance.get("sha256", {}).get("engine", {})
    now = {file: bundle.digests.get(f"engines/{folder}/{file}") for file in then}
    return "built anew since its check: check it again." if then and now != then else checked.note


def _benches(file: Path | str) -> dict[str, float]:
    """Return by `target@precision` the median of a bench, milliseconds a picture."""
    remedy = "name a file that maskrt bench --json wrote"
    data = read_typed(Path(file), dict[str, Any], remedy)
    kind = BenchesFile if "engines" in data else BenchFile
    data = believed(data, kind, file, remedy, InputError)
    return {
        f"{one['target']}@{one['precision']}": one["stages_ms"]["total"]["p50"] / one["batch"]
        for one in data.get("engines", [data])
    }
