"""The graph that a recipe's scales are of: equalised, and with corrected biases.

Both are data in the recipe, and become weights only here, where the graph is rendered with INT8
layers. The bundle's canonical graph stays as it was exported, and so do its FP32 and FP16 engines.
"""

import onnx

from .bias_correction import correct_biases
from .equalisation import equalise
from .recipe import Recipe

__all__ = ["equalised", "improved"]


def equalised(model: onnx.ModelProto, recipe: Recipe) -> onnx.ModelProto:
    """Return the FP32 graph whose tensors have the recipe's ranges; equal to `model` in results."""
    return equalise(model, recipe.factors) if recipe.narrow_layers() else model


def improved(model: onnx.ModelProto, recipe: Recipe) -> onnx.ModelProto:
    """Return the FP32 graph that is to be rendered: equalised, biases of INT8 layers corrected."""
    narrow = set(recipe.narrow_layers())
    kept = {name: delta for name, delta in recipe.corrections.items() if name in narrow}
    return correct_biases(equalised(model, recipe), kept)
