"""Candidates in rows of their own label, where the graph holds the labels as a constant.

A suppression matrix of K x K is mostly of pairs that cannot suppress each other, if labels are
known: the proposals of a pyramid suppress within their level. With the candidates of label g in row
g of `[G, M]`, in their old order and padded to the longest row, G matrices of M x M do.
"""

from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from ..operator import NodeView
from .selection import INPUTS

__all__ = ["Groups", "constant_groups"]


@dataclass(frozen=True)
class Groups:
    """Which candidates stand together.

    Attributes:
        places: int64 `[G, M]`, a candidate each, 0 in the padding.
        real: bool `[G, M]`, False in the padding.
    """

    places: np.ndarray
    real: np.ndarray

    @property
    def inverse(self) -> np.ndarray:
        """Where each candidate stands in the flattened `[G, M]`: int64 `[K]`."""
        found = np.zeros(int(self.real.sum()), np.int64)
        found[self.places[self.real]] = np.flatnonzero(self.real)
        return found

    @property
    def keep_order(self) -> bool:
        """Whether candidates follow each other in the flattened `[G, M]` as they did before."""
        return bool((np.diff(self.inverse) > 0).all())


def constant_groups(view: NodeView) -> Groups | None:
    """Return the groups of a node's labels; None where they would save nothing."""
    held = view.constants.get(INPUTS.index("labels"))
    if held is None or view.attributes["class_agnostic"]:
        return None
    labels = numpy_helper.to_array(held)
    if (labels != labels[:1]).any():  # pictures differ
        return None
    members = [np.flatnonzero(labels[0] == label) for label in np.unique(labels[0])]
    longest = max(len(rows) for rows in members)
    if 2 * len(members) * longest**2 > labels.shape[1] ** 2:
        return None
    places = np.zeros((len(members), longest), np.int64)
    real = np.zeros(places.shape, bool)
    for group, rows in enumerate(members):
        places[group, : len(rows)] = rows
        real[group, : len(rows)] = True
    return Groups(places, real)
