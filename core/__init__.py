"""The words that every stage shares: bundle, input, target, precision, instances, errors.

In: files and plain values. Out: frozen types that check themselves.
Imported by every folder; imports none.
"""

from .bundle import Bundle, Manifest
from .cache import cache_folder
from .errors import (
    BundleError,
    CheckFailedError,
    InputError,
    MaskrtError,
    MaskrtWarning,
    MissingDependencyError,
    PrecisionError,
    StorageError,
    UnsupportedModelError,
    UnsupportedTargetError,
    UntrustedError,
    UsageError,
)
from .input_spec import FILLING, InputSpec, Placing, Resampling
from .instances import Instances
from .lazy import require
from .precision import LAYER_PRECISIONS, Precision
from .progress import Progress, silent
from .target import TARGETS, Target
from .words import command, counted, suggestion

__all__ = [
    "FILLING",
    "LAYER_PRECISIONS",
    "TARGETS",
    "Bundle",
    "BundleError",
    "CheckFailedError",
    "InputError",
    "InputSpec",
    "Instances",
    "Manifest",
    "MaskrtError",
    "MaskrtWarning",
    "MissingDependencyError",
    "Placing",
    "Precision",
    "PrecisionError",
    "Progress",
    "Resampling",
    "StorageError",
    "Target",
    "UnsupportedModelError",
    "UnsupportedTargetError",
    "UntrustedError",
    "UsageError",
    "cache_folder",
    "command",
    "counted",
    "require",
    "silent",
    "suggestion",
]
