"""One door to the servers that maskrt packages for: Triton's repository or DeepStream's folder."""

from dataclasses import dataclass
from pathlib import Path

from ..core import Bundle, Precision, Target, UsageError
from ..runtime.trust import Trust
from .deepstream import package_deepstream
from .triton import package_triton, triton_command

__all__ = ["Package", "package"]


@dataclass(frozen=True)
class Package:
    """What was written.

    Attributes:
        folder: the model's folder in Triton's repository, or DeepStream's folder.
        command: what serves it; None for DeepStream, whose folder has a README.md with the steps.
    """

    folder: Path
    command: str | None = None


def package(
    bundle: Bundle | Path | str,
    *,
    triton: Path | str | None = None,
    deepstream: Path | str | None = None,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    name: str | None = None,
    trust: Trust = False,
) -> Package:
    """Package a bundle for Triton Inference Server or DeepStream, one of the two.

    Args:
        bundle: for Triton it holds the engine; for DeepStream the graph and the recipe are enough.
        triton: the model repository that the model is written into.
        deepstream: a new folder for graph, configuration and parser.
        target: None is `"cpu"` for Triton and `"gpu"` for DeepStream.
        precision: None is the bundle's own.
        name: of the model in Triton; None is the bundle's.
        trust: as in `load`, of an engine that Triton is to run.

    Raises:
        UsageError: not one of `triton` and `deepstream`; `name` for DeepStream; the folder exists,
            or the name is none for a folder.
        UnsupportedTargetError, UnsupportedModelError, BundleError, UntrustedError: see
            `package_triton` and `package_deepstream`.
    """
    if triton is not None and deepstream is None:
        where = target or "cpu"
        folder = package_triton(
            bundle, triton, target=where, precision=precision, name=name, trust=trust
        )
        served = triton_command(bundle, triton, target=where, precision=precision)
        return Package(folder, served)
    if triton is not None or deepstream is None:
        raise UsageError("give triton= or deepstream=, one of the two.")
    if name is not None:
        raise UsageError("name= is for triton= alone: DeepStream's models have no name.")
    return Package(
        package_deepstream(bundle, deepstream, target=target or "gpu", precision=precision)
    )
