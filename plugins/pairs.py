"""Relations between all pairs of candidates as ONNX nodes, shared by the suppression operators."""

import numpy as np

from .body import Body

__all__ = ["column_and_row", "comes_before"]


def comes_before(body: Body, scores: str, count: int) -> str:
    """Return bool `[B, K, K]` of `scores [B, K]`: the column's candidate comes before the row's.

    It does if its score is higher, or equal and its place is earlier; nothing has to be sorted.
    """
    mine, theirs = column_and_row(body, scores)
    # Selected at run time: between constants, a builder would fold K x K numbers into the engine.
    places = body.constant(np.arange(count)[None])
    number = body.op("Equal", scores, scores)
    place = body.op("Where", number, places, body.constant(float(count)))
    my_place, their_place = column_and_row(body, place)
    tied = body.op("And", body.op("Equal", theirs, mine), body.op("Less", their_place, my_place))
    return body.op("Or", body.op("Greater", theirs, mine), tied)


def column_and_row(body: Body, values: str) -> tuple[str, str]:
    """Return `values [B, K]` as `[B, K, 1]` and as `[B, 1, K]`."""
    return (
        body.op("Unsqueeze", values, body.ints(2)),
        body.op("Unsqueeze", values, body.ints(1)),
    )
