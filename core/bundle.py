"""The bundle: a folder that holds one model on its whole way, from canonical ONNX to reports.

    shapes.maskrt/
      manifest.json        what the model is, its input and outputs, sha256 of every file
      model.onnx           canonical FP32 graph
      recipe.json          scales and precision per tensor and layer
      search.json          what was tried to keep a budget of accuracy, if there was one
      engines/<target>/    the engine and engine.json
      report/              the newest report, and <target>@<precision>/ with each engine's

Nobody ever sees half a bundle: every change is made in a hidden folder beside it and takes its
place when it is complete, in one step where the kernel has that (`folders.py`). Files that a change
leaves alone are hard links, so editing is cheap, and files in the folder that the manifest does not
list are the user's: an edit carries them over.

Two programs may edit one bundle, build two targets, say: the one that ends later takes over what
the other one did. It is refused where the two do not go together: both wrote one file, or one of
them replaced the graph or the recipe that the other worked from. So no update is lost.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .bundle_checks import locate, storing
from .bundle_content import read_bundle_json, read_manifest
from .bundle_place import (
    ATTEMPTS,
    MANIFEST,
    check_destination,
    engine_folder,
    fault,
    found_manifest,
    manifest_in,
)
from .data_graphs import check_data_alone
from .errors import BundleError, StorageError
from .folders import files_in, link, staging
from .manifest import Manifest
from .precision import Precision
from .target import TARGETS, Target
from .typed_files import json_text
from .words import command

__all__ = ["Bundle", "Manifest", "check_destination", "engine_folder"]

MODEL, RECIPE = "model.onnx", "recipe.json"
SEARCH, REPORT = "search.json", "report/report.json"


@dataclass
class Bundle:
    """An open bundle folder.

    Attributes:
        path: the folder.
        manifest: what it holds; `None` only while a new bundle is being made.
        digests: sha256 of each file, by its path inside the folder with forward slashes.
    """

    path: Path
    manifest: Manifest
    digests: dict[str, str] = field(default_factory=dict)
    # The bytes of the manifest as last read or written here; None while the bundle is being made.
    _known: bytes | None = field(default=None, init=False, repr=False, compare=False)
    _removed: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, path: "Path | str | Bundle") -> "Bundle":
        """Open the bundle at `path`.

        Raises:
            BundleError: no bundle there, another format version, or a damaged manifest.
        """
        if isinstance(path, Bundle):
            return path
        folder = Path(path)
        file = folder / MANIFEST
        with storing(f"read {file}"):
            raw = found_manifest(folder)
        if raw is None:
            raise BundleError(
                f"{folder} {fault(folder)}, so it is not a bundle: make one with maskrt compile."
            )
        manifest, files = read_manifest(raw, folder)
        bundle = cls(folder, manifest, files)
        bundle._known = raw
        return bundle

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path | str, manifest: Manifest) -> Iterator["Bundle"]:
        """Make a new bundle at `path`; it appears there when the `with` block ends well.

        An older bundle there is replaced. Anything else there is left alone.

        Raises:
            UsageError: `path` exists and is not a bundle, or the program is working inside it.
        """
        folder = Path(path).resolve()
        check_destination(Path(path))
        with staging(folder, lambda _: check_destination(folder)) as staged:
            bundle = cls(staged, manifest)
            yield bundle
            bundle._write_manifest()

    @contextlib.contextmanager
    def edit(self) -> Iterator["Bundle"]:
        """Change this bundle: yields a copy to write to, put in place when the block ends well.

        Raises:
            BundleError: a listed file is missing, or another program made a change meanwhile that
                this one does not go together with; the bundle is left as it is.
            UsageError: the program is working inside the bundle.
        """
        folder = self.path.resolve()  # a link stays, and what it points to is replaced
        self._catch_up(folder)
        with staging(folder, self._check_unchanged) as staged:
            for relative in self.digests:
                link(locate(folder, relative), staged / relative)
            copy = Bundle(staged, self.manifest, dict(self.digests))
            before = Bundle(folder, self.manifest, dict(self.digests))
            yield copy
            self._catch_up(folder)
            copy._take_over(before, self)
            known = copy._write_manifest()
            self._carry_unlisted(folder, staged)
        self.manifest, self.digests, self._known = copy.manifest, copy.digests, known

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest; only inside `create` or `edit`."""
        self.manifest = replace(self.manifest, **changes)

    def write(self, relative: str, data: bytes | str | dict[str, Any]) -> Path:
        """Write one file (a dict as JSON); only inside `create` or `edit`."""
        if isinstance(data, dict):
            data = json_text(data) + "\n"
        raw = data.encode("utf-8") if isinstance(data, str) else data
        file = locate(self.path, relative)
        with storing(f"write {relative} into the bundle"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)  # a hard link to the bundle being replaced
            file.write_bytes(raw)
        self.digests[relative] = hashlib.sha256(raw).hexdigest()
        return file

    def remove(self, prefix: str) -> None:
        """Drop every file whose path starts with `prefix`; only inside `create` or `edit`."""
        self._removed.append(prefix)
        for relative in [r for r in self.digests if r.startswith(prefix)]:
            locate(self.path, relative).unlink()
            del self.digests[relative]

    def read(self, relative: str) -> bytes:
        """Return a file's bytes, after checking them against the manifest.

        Raises:
            BundleError: the file is absent, or differs from the one that was written.
        """
        raw = self._read_beside_others(relative)
        if relative.endswith(".onnx"):
            check_data_alone(raw, self.path / relative)
        return raw

    def _read_beside_others(self, relative: str) -> bytes:
        """Read a file whose folder another program's change may take away at any moment."""
        found = self
        for attempt in range(ATTEMPTS):
            try:
                return found._read(relative)
            except BundleError as error:
                now = Bundle._now(self.path)
                as_before = now is not None and now._known == found._known
                if now is None or (as_before and attempt > 0) or attempt == ATTEMPTS - 1:
                    raise
                if now.digests.get(relative) != self.digests.get(relative):
                    raise BundleError(
                        f"{self.path / relative} was changed by another program since the bundle "
                        "was opened: open it again."
                    ) from error
                found = now
        raise AssertionError("no attempt was made")

    def _read(self, relative: str) -> bytes:
        file = locate(self.path, relative)
        if relative not in self.digests or not file.is_file():
            raise BundleError(f"{self.path} has no {relative}: {self._remedy(relative)}.")
        try:
            with storing(f"read {file}"):
                raw = file.read_bytes()
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise BundleError(f"{self.path} has no {relative} any more.") from error
            raise
        if hashlib.sha256(raw).hexdigest() != self.digests[relative]:
            raise BundleError(
                f"{file} is not the file that maskrt wrote (its sha256 differs): compile the model "
                "again."
            )
        return raw

    @classmethod
    def _now(cls, path: Path) -> "Bundle | None":
        """Return the bundle that is at `path` now, if there is one."""
        try:
            return cls.open(path)
        except BundleError:
            return None

    def read_json(self, relative: str) -> dict[str, Any]:
        """Return a JSON file's content, checked like `read`, and of the declared types.

        Raises:
            BundleError: the file is absent, altered, or not what maskrt writes there.
        """
        return read_bundle_json(self.read(relative), relative, self.path)

    def __contains__(self, relative: str) -> bool:
        """Whether the bundle lists a file of that path."""
        return relative in self.digests

    def engines(self) -> list[str]:
        """Folder names under `engines/` that hold an `engine.json`."""
        return sorted(self._engines_with("engine.json"))

    def prepared(self) -> list[str]:
        """Folder names under `engines/` that hold a `prepared.json` and no engine yet."""
        return sorted(self._engines_with("prepared.json") - self._engines_with("engine.json"))

    def _engines_with(self, name: str) -> set[str]:
        paths = [relative.split("/") for relative in self.digests]
        return {path[1] for path in paths if path[0] == "engines" and path[2:] == [name]}

    def engine_folder(self, target: Target, precision: Precision | None = None) -> str:
        """Path inside the bundle of an engine; see `engine_folder`."""
        return engine_folder(target, precision or self.manifest.precision, self.manifest.precision)

    def engine_named(self, name: str) -> tuple[Target, Precision]:
        """Return what `"cpu@fp16"` names, or `"cpu"`, which is of the bundle's own precision.

        Raises:
            UsageError: no such target or precision.
        """
        target, _, precision = name.partition("@")
        own = self.manifest.precision
        return Target.parse(target), Precision.parse(precision) if precision else own

    def build_command(self, target: str, precision: Precision | str | None = None) -> str:
        """Return the command that builds an engine into this bundle, as a shell takes it."""
        asked = ("--precision", str(precision)) if precision else ()
        return command("maskrt", "build", self.path, "--target", target, *asked)

    def _remedy(self, relative: str) -> str:
        """Return what brings a file back that the bundle lacks."""
        if not relative.startswith("engines/"):
            return "compile the model again"
        name, _, precision = relative.split("/")[1].partition("@")
        build = self.build_command(name, precision)
        if name in TARGETS and TARGETS[name].is_jetson:
            return (
                f"it is built on the device, a {TARGETS[name].description}, with {build}, which on "
                "another machine prepares it"
            )
        return f"build it with {build}"

    def manifest_bytes(self) -> bytes:
        """Return the content of `manifest.json` for what this object holds."""
        data = {**self.manifest.to_json(), "files": dict(sorted(self.digests.items()))}
        return (json.dumps(data, indent=2) + "\n").encode("utf-8")

    def _write_manifest(self) -> bytes:
        self._known = self.manifest_bytes()
        with storing(f"write {MANIFEST} into the bundle"):
            (self.path / MANIFEST).write_bytes(self._known)
        return self._known

    def _check_unchanged(self, folder: Path) -> None:
        """Raise `BundleError` unless `folder` has the manifest that this object knows."""
        if manifest_in(folder) != self._known:
            raise self._changed()

    def _changed(self) -> BundleError:
        return BundleError(
            f"{self.path} was changed by another program meanwhile in a way that this change does "
            "not go together with, so it was not made: run it again."
        )

    def _catch_up(self, folder: Path) -> None:
        """Know `folder` as it is now, if the graph and the recipe are those that were opened."""
        found = manifest_in(folder) if self._known is None else found_manifest(folder)
        if found == self._known:
            return
        if found is None:
            raise self._changed()
        now = Bundle.open(folder)
        if now.manifest != self.manifest or now._sources() != self._sources():
            raise self._changed()
        self.digests, self._known = now.digests, now._known

    def _sources(self) -> tuple[str | None, ...]:
        return tuple(self.digests.get(name) for name in (MODEL, RECIPE))

    def _take_over(self, before: "Bundle", now: "Bundle") -> None:
        """Make the change that led from `before` to `now` in this edited copy of `before`, too."""
        names = before.digests.keys() | now.digests.keys()
        theirs = {n for n in names if before.digests.get(n) != now.digests.get(n)}
        kept = {n for n in theirs if not n.startswith(tuple(self._removed))}
        both = {
            name for name in theirs
            if self.digests.get(name) not in (None, before.digests.get(name), now.digests.get(name))
        }  # fmt: skip
        replaced = self.manifest != before.manifest or self._sources() != before._sources()
        if both or (kept and replaced):
            raise self._changed()
        for relative in kept:
            (self.path / relative).unlink(missing_ok=True)
            self.digests.pop(relative, None)
            if relative in now.digests:
                link(locate(now.path, relative), self.path / relative)
                self.digests[relative] = now.digests[relative]

    def _carry_unlisted(self, folder: Path, staged: Path) -> None:
        """Link the files in `folder` that are not ours into `staged`, where nothing lies yet."""
        for relative in files_in(folder):
            listed = relative in self.digests or relative == MANIFEST
            if not listed and not os.path.lexists(staged / relative):
                link(folder / relative, staged / relative)
