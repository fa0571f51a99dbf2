"""What a caller may hand over as a picture, and its pixels as uint8 `[H, W, 3]` RGB.

| given | read as | copied |
|---|---|---|
| path | file, turned upright (`images.py`) | decoded |
| numpy uint8 `[H, W, 3]`, `[H, W]`, `[H, W, 1]` | RGB, grey | grey is |
| PIL image | upright RGB, as if read from its file | yes |
| DLPack (torch, CuPy, JAX) uint8, also `[3, H, W]` | RGB, grey | grey and `[3, H, W]` are |

What is not contiguous is copied, too. A tensor of `[3, H, 3]` is read as `[H, W, 3]`. One on a
GPU is refused: its pixels are not here.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ..core import InputError
from .images import as_image, from_pillow, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Picture", "is_picture", "load_picture", "load_readable", "readable"]


class _Tensor(Protocol):
    """What speaks DLPack: an array of torch, CuPy or JAX."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a capsule with the memory."""
        ...


Picture: TypeAlias = "str | Path | np.ndarray | Image | _Tensor"
"""A path, a numpy array, a PIL image, or a tensor that speaks DLPack."""


def load_picture(picture: Picture) -> np.ndarray:
    """Return the pixels of a picture, uint8 `[H, W, 3]` RGB.

    Raises:
        InputError: it is no picture, or one that cannot be read.
    """
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, np.ndarray):
        return as_image(picture)
    if _is_pillow(picture):
        return from_pillow(picture)
    if hasattr(picture, "__dlpack__"):
        return as_image(_channels_last(_from_dlpack(picture)))
    return as_image(picture)


def load_readable(picture: Picture, skipped: list[str]) -> np.ndarray | None:
    """Return the pixels of a picture; of a file that cannot be read, add the reason to `skipped`.

    An array that is no picture is an error of the program that made it, and is raised.
    """
    try:
        return load_picture(picture)
    except InputError as error:
        if not isinstance(picture, str | Path):
            raise
        skipped.append(str(error))
        return None


def readable(pictures: Sequence[Picture], count: int) -> Iterator[np.ndarray]:
    """Yield the first `count` pictures that can be read, one by one; fewer if there are no more."""
    found = (image for picture in pictures if (image := load_readable(picture, [])) is not None)
    return islice(found, count)


def is_picture(value: Any) -> bool:
    """Whether `value` is the pixels of one picture, and not a source of several."""
    if isinstance(value, np.ndarray) or hasattr(value, "__dlpack__"):
        return getattr(value, "ndim", 3) <= 3
    return _is_pillow(value)


def _is_pillow(value: Any) -> bool:
    """Whether `value` is a PIL image, without importing Pillow for those who have none."""
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def _from_dlpack(tensor: Any) -> np.ndarray:
    kind = type(tensor).__name__
    try:
        device = getattr(tensor, "__dlpack_device__", lambda: (1, 0))()
        if device[0] == 1:  # kDLCPU
            return np.from_dlpack(tensor.detach() if hasattr(tensor, "detach") else tensor)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise InputError(
            f"a picture given as a {kind} cannot be read as a numpy array ({error}): convert it to "
            "uint8 [height, width, 3] first."
        ) from error
    raise InputError(
        f"a picture was given as a {kind} on a GPU: bring it to the CPU with picture.cpu()."
    )


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Turn `[3, H, W]` and `[1, H, W]`, in which tensors mostly come."""
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        return array.transpose(1, 2, 0)
    return array
