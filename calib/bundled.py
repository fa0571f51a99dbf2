"""What a bundle holds of the pipeline's first half: its canonical graph, and its recipe."""

import onnx
from google.protobuf.message import DecodeError

from ..core import Bundle, BundleError, Precision, UsageError
from ..core.bundle import MODEL, RECIPE
from .recipe import Recipe

__all__ = ["read_model", "read_recipe"]


def read_model(bundle: Bundle) -> onnx.ModelProto:
    """Return the bundle's canonical graph."""
    raw = bundle.read(MODEL)
    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError as error:
        raise BundleError(
            f"{bundle.path / MODEL} is not an ONNX file: compile the model again."
        ) from error
    if not model.graph.node:
        raise BundleError(f"{bundle.path / MODEL} holds no graph: compile the model again.")
    return model


def read_recipe(bundle: Bundle, precision: Precision) -> Recipe:
    """Return the bundle's recipe at `precision`."""
    recipe = Recipe.from_json(bundle.read_json(RECIPE))
    if precision is recipe.precision:
        return recipe
    if precision is Precision.MIXED:
        raise UsageError(
            "a mixed recipe is found by maskrt compile --precision mixed --max-ap-drop, and "
            f"this bundle is {recipe.precision}: compile it so."
        )
    return recipe.with_precision(precision)
