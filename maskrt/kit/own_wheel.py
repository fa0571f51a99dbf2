"""maskrt's own wheel, made of the maskrt that runs: a clone, an editable one or an installed one.

maskrt is Python and data alone, so a wheel is its files under their names, and the metadata that
the installation has. Two of the same files are equal byte for byte.

Source: "Binary distribution format", packaging.python.org.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..core import MissingDependencyError

__all__ = ["write_own_wheel"]

_FOLDERS = ("core", "export", "calib", "plugins", "runtime")  # as maskrt.<folder>
# No weights of the demo: they stay in the repository.
_KINDS = (".py", ".cu", ".cuh", ".h", ".cpp", ".json", ".css", ".js", ".typed")
_WHEEL = "Wheel-Version: 1.0\nGenerator: maskrt\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_TIME = (1980, 1, 1, 0, 0, 0)


def write_own_wheel(folder: Path) -> Path:
    """Write maskrt's wheel into a folder, and return its path.

    Raises:
        MissingDependencyError: maskrt runs from a tree that is not installed.
    """
    try:
        installed = importlib.metadata.distribution("maskrt")
    except importlib.metadata.PackageNotFoundError:
        raise MissingDependencyError(
            "maskrt itself is not installed here, so its wheel has no metadata: run pip install "
            "--editable . in its clone."
        ) from None
    info = f"maskrt-{installed.version}.dist-info"
    path = folder / f"maskrt-{installed.version}-py3-none-any.whl"
    contents = {name: file.read_bytes() for name, file in sorted(_files())}
    stated = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    contents[f"{info}/METADATA"] = stated.encode()
    contents[f"{info}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    contents[f"{info}/WHEEL"] = _WHEEL.encode()
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            wheel.writestr(entry, data)
    return path


def _files() -> Iterator[tuple[str, Path]]:
    """Yield each file of maskrt under its name in a wheel."""
    for name in ("maskrt", *(f"maskrt.{folder}" for folder in _FOLDERS)):
        spec = importlib.util.find_spec(name)
        assert spec is not None  # it is what runs
        (root,) = map(Path, spec.submodule_search_locations or [])
        for file in root.rglob("*"):
            inside = file.relative_to(root)
            own = name == "maskrt" and inside.parts[0] in _FOLDERS
            if file.suffix in _KINDS and "__pycache__" not in inside.parts and not own:
                yield f"{name.replace('.', '/')}/{inside.as_posix()}", file


def _digest(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
