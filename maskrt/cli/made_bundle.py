"""From MODEL and its options to a printed bundle: what `compile` and `export` do alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core import Bundle
from .options import progress_bars, read_class_names
from .summary import print_bundle

__all__ = ["make_and_print"]


def make_and_print(
    make: Callable[..., Bundle], *, class_names: Path | None, **options: Any
) -> Bundle:
    """Call `make`, a function of `maskrt`, with a verb's options, and print what it made.

    Args:
        make: takes the model, the bundle's place, and the other options by name.
        class_names: the text file that holds them.
        options: the others of `options.model_options`, and what the verb has beside them.
    """
    names = read_class_names(class_names)
    with progress_bars() as progress:
        bundle = make(
            options.pop("model"),
            options.pop("output"),
            class_names=names,
            progress=progress,
            **options,
        )
    print_bundle(bundle)
    return bundle
