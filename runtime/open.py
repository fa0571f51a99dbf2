"""Opening a session on an engine of a bundle."""

from pathlib import Path

from ..core import Bundle, Precision, Target, UsageError
from .backends import choose_target, open_backend
from .session import Session
from .trust import Trust

__all__ = ["open_session", "which_engine"]


def which_engine(
    bundle: Bundle, target: Target | str | None, precision: Precision | str | None
) -> tuple[Target, Precision]:
    """Return what `open_session` opens for these arguments."""
    wanted = bundle.manifest.precision if precision is None else Precision.parse(precision)
    return choose_target(bundle, wanted) if target is None else Target.parse(target), wanted


def open_session(
    bundle: Bundle | Path | str,
    target: Target | str | None = None,
    precision: Precision | str | None = None,
    *,
    threads: int | None = None,
    on_device: bool = False,
    trust: Trust = False,
) -> Session:
    """Open an engine of a bundle.

    Args:
        bundle: the bundle or its folder.
        target: where to run; None is the best that this machine can run.
        precision: of the engine; None is the bundle's own.
        threads: CPU threads an operator may use; None is one a physical core.
        on_device: letterbox and paste on the GPU, too, in one CUDA graph with the engine. Tested on
            the CPU, and never yet run on a GPU.
        trust: True opens an engine for a GPU whoever built it; the path of a public key opens one
            of a bundle that it signed; see `runtime/trust/`.

    Raises:
        BundleError: the bundle has no such engine, or a damaged one.
        UntrustedError: it is machine code that was not built here, and is not trusted.
        UnsupportedTargetError: this machine cannot run it.
        MissingDependencyError: what runs it is not installed.
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    chosen, wanted = which_engine(opened, target, precision)
    if on_device and not manifest.input.is_plain:
        raise UsageError(
            f"pictures of {opened.path} are placed {manifest.input.placing.value} and resized "
            f"{manifest.input.resampling.value}, and the GPU's letterbox places top_left and "
            "resizes antialiased: leave on_device out, and the CPU letterboxes."
        )
    backend = open_backend(
        opened, chosen, wanted, threads=threads, on_device=on_device, trust=trust
    )
    return Session(
        backend,
        manifest.input,
        class_names=manifest.class_names,
        target=chosen,
        precision=wanted,
        mask_frame=manifest.mask_frame,
        mask_paste=manifest.mask_paste,
    )
