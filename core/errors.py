"""The error tree: one sentence each, that says what was wrong, where, and what to do.

Every error that maskrt raises on purpose is a `MaskrtError`. Each kind also inherits the built-in
exception that fits, so a caller who does not know maskrt can still catch it sensibly.
"""

__all__ = [
    "BundleError",
    "CheckFailedError",
    "InputError",
    "MaskrtError",
    "MaskrtWarning",
    "MissingDependencyError",
    "PrecisionError",
    "StorageError",
    "UnknownTargetError",
    "UnsupportedModelError",
    "UnsupportedTargetError",
    "UntrustedError",
    "UsageError",
]


class MaskrtError(Exception):
    """Base of all errors that maskrt raises on purpose."""


class MaskrtWarning(UserWarning):
    """What was done, but not wholly, in one sentence; the command line prints it as such."""


class UsageError(MaskrtError, ValueError):
    """An argument that cannot be right, whatever the model or machine (exit status 2)."""


class InputError(MaskrtError, ValueError):
    """A picture, folder, weight or annotation file that cannot be used as it is."""


class BundleError(MaskrtError, ValueError):
    """A bundle that is absent, incomplete, altered, or of another format version."""


class StorageError(MaskrtError, OSError):
    """A disk that is full or read-only, or a file that may not be read or written."""


class UntrustedError(MaskrtError, PermissionError):
    """An engine of which neither this machine, the user nor a signature says who built it."""


class UnsupportedModelError(MaskrtError, TypeError):
    """A model whose structure no family of this project recognises."""


class UnsupportedTargetError(MaskrtError, RuntimeError):
    """A target that is unknown, or that this machine can neither build nor run."""


class UnknownTargetError(UsageError, UnsupportedTargetError):
    """A target name that means nothing, on this machine or any other."""


class MissingDependencyError(MaskrtError, ImportError):
    """An optional package that the requested work needs and that is not installed."""


class PrecisionError(MaskrtError, RuntimeError):
    """A finished engine whose precisions are not those that were asked for."""


class CheckFailedError(MaskrtError, AssertionError):
    """A stated accuracy budget that was missed."""
