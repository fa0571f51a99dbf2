"""Prefixes that a wrapper puts before every name: `module.`, `model.`, `_orig_mod.`, `ema_model.` …

Data-parallel training, `torch.compile`, Lightning and averaging wrap a model, and a state dict of
the wrapper has its attribute before each name. No list of them is kept: a prefix is what all names
share, or what the names of one wrapped model among others share. `unwrapped` yields what is left
without it, and the first that fits a model is taken.

mmcv 1's EMA hook is undone likewise: it keeps a second copy `ema_layer_weight` of each
`layer.weight`; which of them is the average follows from when it saves, and it is `layer.weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Unwrapped", "unwrapped"]

_AVERAGED = ("ema_model", "model_ema", "ema", "teacher", "averaged_model")  # are tried first
_MOST_GROUPS = 16
_COUNTERS = {"n_averaged", "steps", "initted", "step"}  # beside the model in averaging wrappers


@dataclass(frozen=True)
class Unwrapped:
    """Weights without a prefix.

    Attributes:
        tensors: by the name that is left.
        prefix: what was taken off, with its last dot; "" if nothing.
        left_out: how many tensors of the file have another prefix.
    """

    tensors: Mapping[str, Tensor]
    prefix: str = ""
    left_out: int = 0


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[Unwrapped]:
    """Yield `tensors` as they are, and without each prefix that they may have, the shortest first.

    Args:
        tensors: as a file holds them.
    """
    doubled = {f"ema_{name.replace('.', '_')}" for name in tensors}
    single = {name: tensor for name, tensor in tensors.items() if name not in doubled}
    found = Unwrapped(single, left_out=len(tensors) - len(single))
    yield found
    while (prefix := _shared(found.tensors)) is not None:
        found = _without(found, prefix)
        yield found
    for group in _groups(found.tensors):
        part = _without(found, group)
        yield part
        while (prefix := _shared(part.tensors)) is not None:
            part = _without(part, prefix)
            yield part


def _shared(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the first word of all names, if it is one and more words follow."""
    first = {name.partition(".")[::2] for name in tensors}
    words = {word for word, _ in first}
    return words.pop() if len(words) == 1 and all(rest for _, rest in first) else None


def _groups(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the first words that several names share, averages first, then the largest."""
    sizes: dict[str, int] = {}
    for name in tensors:
        word, dot, _ = name.partition(".")
        if dot:
            sizes[word] = sizes.get(word, 0) + 1
    ranks = {word: place for place, word in enumerate(_AVERAGED)}
    order = sorted(sizes, key=lambda word: (ranks.get(word, len(ranks)), -sizes[word]))
    return order[:_MOST_GROUPS]


def _without(found: Unwrapped, word: str) -> Unwrapped:
    """Return the tensors whose names start with `word`, without it."""
    start = f"{word}."
    kept = {n.removeprefix(start): t for n, t in found.tensors.items() if n.startswith(start)}
    dropped = sum(not n.startswith(start) and n not in _COUNTERS for n in found.tensors)
    return Unwrapped(kept, found.prefix + start, found.left_out + dropped)
