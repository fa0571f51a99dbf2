"""How large a graph may be: an ONNX file that holds its weights is one protobuf message.

protobuf carries no message of 2 GiB or more, and a bundle's graphs hold their weights themselves
(`data_graphs.py`). What is too large is refused by the weights' size alone, before anything
is traced, folded or copied.

Source: https://protobuf.dev/programming-guides/encoding/#size-limit.
"""

from .errors import UnsupportedModelError

__all__ = ["LARGEST_GRAPH", "check_graph_size"]

LARGEST_GRAPH = 2**31 - 2**20  # bytes of weights; nodes and names have the rest


def check_graph_size(weights: int, what: str) -> None:
    """Refuse a graph whose weights no bundle can hold.

    Args:
        weights: their bytes at FP32.
        what: whose they are, for the message.

    Raises:
        UnsupportedModelError: they exceed `LARGEST_GRAPH`.
    """
    if weights > LARGEST_GRAPH:
        raise UnsupportedModelError(
            f"{what} has {weights / 1e9:.2f} GB of weights at FP32, and a bundle's graph holds at "
            f"most {LARGEST_GRAPH / 1e9:.2f} GB (protobuf's limit): take a smaller backbone."
        )
