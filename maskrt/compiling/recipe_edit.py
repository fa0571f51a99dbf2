"""A user's own precisions in a bundle's recipe, signed like every file of it."""

from collections.abc import Mapping
from pathlib import Path

from .. import calib
from ..calib.bundled import read_model, read_recipe
from ..core import Bundle, Precision
from ..core.bundle import RECIPE
from .stages import remove_stale

__all__ = ["recipe", "set_precisions"]


def set_precisions(
    bundle: Bundle | Path | str,
    precisions: Mapping[str, Precision | str] | None = None,
    *,
    keep_outputs: bool = False,
) -> Bundle:
    """Keep layers of a bundle's recipe at a precision, whatever the model's is.

    Engines and reports were made by the old recipe, and are removed if it changes.

    Args:
        bundle: the bundle.
        precisions: layer name, or pattern such as `"backbone.*"` → `"fp16"` or `"fp32"`; `"int8"`
            takes that back. Of two for a layer the later holds.
        keep_outputs: keep the layers in FP32 that make scores, boxes and masks.

    Raises:
        UsageError: no layer has such a name, or the precision is none that a layer can be kept at.
    """
    opened = Bundle.open(bundle)
    choices = calib.parse_kept(precisions or {})
    before = read_recipe(opened, opened.manifest.precision)
    after = calib.keep_layers(before, choices)
    if keep_outputs:
        after = calib.with_kept_outputs(read_model(opened), after)
    if after != before:
        with opened.edit() as staged:
            remove_stale(staged)
            staged.write(RECIPE, after.to_json())
    return opened


def recipe(
    bundle: Bundle | Path | str,
    precisions: Mapping[str, Precision | str] | None = None,
    *,
    keep_outputs: bool = False,
) -> calib.Recipe:
    """Return a bundle's recipe, with the precision of each layer and why.

    With `precisions` or `keep_outputs`, the bundle is changed first as `set_precisions` says.
    """
    opened = Bundle.open(bundle)
    if precisions or keep_outputs:
        opened = set_precisions(opened, precisions, keep_outputs=keep_outputs)
    return read_recipe(opened, opened.manifest.precision)
