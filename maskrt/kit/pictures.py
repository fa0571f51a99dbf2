"""The kit's pictures, and what FP32 finds in them, so that the device needs no FP32 run."""

import shutil
from pathlib import Path

from ..core import Bundle, InputError, UsageError

__all__ = ["COUNT", "KEY", "PICTURES", "REFERENCE", "write_pictures"]

COUNT = 3
KEY = "kit"
PICTURES, REFERENCE = "pictures", "reference.npz"


def write_pictures(bundle: Bundle, images: Path, folder: Path) -> None:
    """Copy the first pictures of `images` into the kit, and run FP32 on them.

    The reference is the bundle's canonical FP32 graph in ONNX Runtime.

    Raises:
        UsageError: there are fewer pictures that can be read.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    from ..checking.references import canonical_session
    from ..runtime import read_image
    from ..runtime.check.stored import Recorder
    from ..runtime.images import list_images

    chosen = []
    for path in list_images(images):
        try:
            read_image(path)
        except InputError:
            continue
        chosen.append(path)
        if len(chosen) == COUNT:
            break
    if len(chosen) < COUNT:
        raise UsageError(
            f"{images} has {len(chosen)} pictures that can be read, and a kit takes {COUNT}: name "
            "a folder with more."
        )
    (folder / PICTURES).mkdir()
    recorder = Recorder()
    with canonical_session(bundle) as session:
        for index, path in enumerate(chosen):
            kept = folder / PICTURES / f"{index}{path.suffix.lower()}"
            shutil.copyfile(path, kept)
            recorder.add(index, session.predict(kept))
    (folder / REFERENCE).write_bytes(recorder.finish("canonical FP32", KEY).to_bytes())
