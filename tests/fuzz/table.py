"""Every reader that is fuzzed, in one table."""

import importlib.util

from .bundle_readers import BUNDLE_READERS
from .checkpoint_readers import CHECKPOINT_READERS
from .evaluation_readers import EVALUATION_READERS
from .graph_readers import GRAPH_READERS
from .other_readers import OTHER_READERS
from .reader import Reader
from .trust_readers import TRUST_READERS

__all__ = ["READERS"]

_ALL = (
    *BUNDLE_READERS, *OTHER_READERS, *EVALUATION_READERS, *CHECKPOINT_READERS, *GRAPH_READERS,
    *TRUST_READERS,
)  # fmt: skip
READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in _ALL
    if not reader.needs or importlib.util.find_spec(reader.needs) is not None
}
"""By name; without those whose packages are not installed."""
