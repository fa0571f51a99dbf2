"""Graph passes, one file each: `pass(model) -> bool` changes the model in place, true if it did."""

from .fold_affine_into_conv import fold_affine_into_conv
from .name_nodes import name_nodes
from .strip_metadata import strip_metadata

__all__ = ["fold_affine_into_conv", "name_nodes", "strip_metadata"]
