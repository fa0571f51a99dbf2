"""What a model family is: everything the export stage asks of a kind of model.

A family says which models are its own, what their classes and colours are, and makes two things of
one: the graph, a module of static shapes that is traced, and the reference, the model's own eager
code, which the graph is compared with. Both answer in the canonical outputs (`Manifest.outputs`).

A family adds itself in `registry.py`; nothing else names one.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ...core import InputSpec
from ...core.masks import MaskFrame, MaskPaste

__all__ = ["Family", "Graph", "Reference"]


class Graph(Protocol):
    """`images uint8 [B, H, W, 3]` → the canonical outputs, in static shapes: an `nn.Module`."""

    @property
    def output_names(self) -> list[str]:
        """Names of what `forward` returns, in order."""
        ...


class Reference(Protocol):
    """A model that answers in canonical outputs, so that any difference is the graph's."""

    def run(
        self, images: np.ndarray, sizes: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the outputs, padded like an engine's.

        Args:
            images: uint8 `[B, H, W, 3]`, letterboxed.
            sizes: `(height, width)` of the picture on each canvas; None reads it from the canvas.
        """
        ...

    def describe(self) -> dict[str, str]:
        """Say what runs: for reports."""
        ...


class Family(Protocol):
    """One kind of model.

    Attributes:
        name: as in the manifest.
        models: what to call the family's models in a sentence.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def models(self) -> str: ...  # noqa: D102

    def matches(self, model: nn.Module) -> bool:
        """Whether this family exports `model`."""
        ...

    def mask_paste(self, model: nn.Module) -> MaskPaste:
        """Return how masks over boxes are pasted; of no meaning for others."""
        ...

    def pad_value(self, model: nn.Module) -> tuple[int, int, int]:
        """Return the RGB filling of the letterbox: the mean of the model's normalisation."""
        ...

    def mask_frame(self, model: nn.Module) -> MaskFrame:
        """Return what the model's masks are spread over."""
        ...

    def num_classes(self, model: nn.Module) -> int | None:
        """Return the number of classes, background included; None if the model does not tell."""
        ...

    def classes_in(self, weights: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes, background included; None for another family's weights."""
        ...

    def translate(self, model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return `weights` under the model's own names, if they have those of a known project."""
        ...

    def graph(self, model: nn.Module, spec: InputSpec) -> nn.Module:
        """Return the module that is traced, a `Graph`, in eval mode."""
        ...

    def reference(self, model: nn.Module, spec: InputSpec) -> Reference:
        """Return the model's own eager code on a copy of it."""
        ...
