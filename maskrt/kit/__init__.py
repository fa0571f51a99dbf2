"""A kit: one folder with all that a device needs to build, run and test a bundle, offline.

    <folder>/README.md          what to do, on one screen
    <folder>/install.sh         Python packages of the kit into ./venv (install.cmd for Windows)
    <folder>/smoke.sh           builds the engine, and ends in numbers (smoke.cmd)
    <folder>/<bundle>           the bundle, with its prepared or finished engine
    <folder>/wheels/cp310/      maskrt's own wheel and those that it needs, and requirements.txt
    <folder>/pictures/          three pictures
    <folder>/reference.npz      what FP32 finds in them
    <folder>/kit.json           names, for smoke.sh
    <folder>/WHEELS.md          each package, its size and licence

    place.py      Python, platform and packages of a device
    own_wheel.py  maskrt's wheel, from the maskrt that runs
    wheelhouse.py the other wheels, fetched by pip for another platform than this one
    pictures.py   the pictures, and what FP32 finds in them
    texts.py      README and scripts
    smoke.py      `python -m maskrt.kit.smoke`, on the device

pip resolves for the device's Python and platform, so nothing of this machine gets into a kit.

In: a bundle, a target and pictures. Out: that folder.
Imported by the command line; imports `pipeline` and what is below it.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..core import Bundle, Precision, Progress, Target, UsageError, silent
from ..core.folders import check_free, new_folder
from ..runtime.trust import Trust, check_trusted
from .own_wheel import write_own_wheel
from .pictures import COUNT, write_pictures
from .place import Place, places_of
from .texts import scripts
from .wheelhouse import fetch, list_wheels

__all__ = ["Place", "make_kit", "places_of"]


def make_kit(
    bundle: Bundle | Path | str,
    folder: Path | str,
    *,
    target: Target | str,
    images: Path | str,
    precision: Precision | str | None = None,
    places: Sequence[Place] | None = None,
    trust: Trust = False,
    progress: Progress = silent,
) -> Path:
    """Write a kit for a device.

    Args:
        bundle: with the target's engine, built or prepared; `gpu` needs none.
        folder: must not exist.
        target: the device.
        images: folder of pictures; the first three that can be read go into the kit.
        precision: of the engine; None is the bundle's own.
        places: Pythons and platforms to bring packages for; None is what the target has.
        trust: as in `maskrt.load`, of an engine that goes into the kit: on the device its scripts
            open it on the word of whoever made the kit.
        progress: told what goes on.

    Returns:
        The folder.

    Raises:
        UsageError: the folder exists, or there are too few pictures.
        UntrustedError: the engine was not built here, and is not trusted.
        MissingDependencyError: pip found no such wheels, or is not here.
    """
    opened, device, into = Bundle.open(bundle), Target.parse(target), Path(folder)
    check_free(into, "folder")
    wanted = opened.manifest.precision if precision is None else Precision.parse(precision)
    check_trusted(opened, device, wanted, trust)
    chosen = list(places_of(device) if places is None else places)
    name, total = opened.path.resolve().name, len(chosen) + 2
    if name in ("venv", "wheels", "pictures"):
        raise UsageError(f"a bundle called {name} has no place in a kit: rename it.")
    with new_folder(into, "folder") as staged:
        progress("kit", 0, total)
        write_pictures(opened, Path(images), staged)
        _copy(opened, staged / name, device)
        for index, place in enumerate(chosen):
            progress("kit", index + 1, total)
            wheels = staged / "wheels" / place.tag
            fetch(place, wheels)
            write_own_wheel(wheels)
        listed = list_wheels(staged / "wheels")
        about = {
            "bundle": name, "target": device.name, "precision": wanted.value, "pictures": COUNT,
            "places": [place.to_json() for place in chosen],
        }  # fmt: skip
        texts = {"kit.json": json.dumps(about, indent=1), "WHEELS.md": listed.text}
        texts |= scripts(opened, device, wanted, chosen, listed.total_bytes)
        for file, text in texts.items():
            (staged / file).write_text(text, encoding="utf-8")
    progress("kit", total, total)
    return into


def _copy(bundle: Bundle, into: Path, target: Target) -> None:
    """Copy a bundle without the engines of other targets."""
    shutil.copytree(bundle.path, into)
    copied = Bundle.open(into)
    others = [
        name for name in (*copied.engines(), *copied.prepared())
        if name.partition("@")[0] != target.name
    ]  # fmt: skip
    if others:
        with copied.edit() as staged:
            for name in others:
                staged.remove(f"engines/{name}/")
        for name in others:
            shutil.rmtree(into / "engines" / name, ignore_errors=True)  # its empty folder
