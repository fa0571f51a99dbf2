"""Running an engine over files: pictures with masks drawn, and all instances as COCO JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .core import Bundle, Precision, Progress, Target, require, silent
from .runtime import list_images, open_session, read_image

__all__ = ["run_pictures"]


def run_pictures(
    bundle: Bundle | Path | str,
    sources: Sequence[Path | str],
    output: Path | str,
    *,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    min_score: float = 0.5,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run every picture of `sources` (files and folders), and write to the folder `output`.

    Args:
        bundle: holds the engine.
        sources: files, and folders of pictures.
        output: gets one PNG a picture and `results.json`.
        target: None is the best that this machine can run.
        precision: None is the bundle's own.
        min_score: instances below it are not drawn; `results.json` has them all.
        progress: told how many pictures are done.

    Returns:
        What `results.json` holds: `images` and `annotations` (COCO results with `image_id`).
    """
    files = [file for source in sources for file in _files(Path(source))]
    names = _distinct_names(files)
    pillow = require("PIL.Image", "write pictures")
    images, annotations = [], []
    folder = Path(output)
    progress("run", 0, len(files))
    with open_session(bundle, target, precision) as session:
        for number, (file, name) in enumerate(zip(files, names, strict=True), 1):
            picture = read_image(file)
            found = session.predict(picture)
            folder.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(found.draw(picture, min_score=min_score)).save(folder / name)
            height, width = found.image_size
            images.append({"id": number, "file_name": str(file), "height": height, "width": width})
            annotations += found.to_coco(number)
            progress("run", number, len(files))
        categories = [
            {"id": label, "name": text} for label, text in enumerate(session.class_names or ())
        ]
    results = {"images": images, "annotations": annotations, "categories": categories[1:]}
    staged = folder / ".results.json"
    staged.write_text(json.dumps(results) + "\n", encoding="utf-8")
    os.replace(staged, folder / "results.json")
    return results


def _files(source: Path) -> list[Path]:
    return list(list_images(source)) if source.is_dir() else [source]


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Return a PNG name for each file; pictures of one stem from several folders get a number."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}.png", 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}.png"
        taken.add(name)
        names.append(name)
    return names
