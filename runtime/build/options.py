"""What a user asks of a builder, and the one sentence where it cannot be had.

A request that a builder would ignore is refused: TensorRT-RTX, for one, takes a DLA core without a
word and builds for the GPU.

**Dynamic batch.** TensorRT could take a profile of batches MIN, OPT and MAX. The canonical graph
cannot: it states `[B, H, W, 3]`, and every operator's body is made for that B (shapes of reshapes,
of padding, of launch plans), which is what lets each of them be proven. So a batch is exported, not
profiled, and only MIN = OPT = MAX = B is accepted.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import Precision, Target, UnsupportedTargetError, UsageError
from .capabilities import Capabilities

__all__ = ["BuildOptions", "check_options", "flags", "trtexec_flags"]


@dataclass(frozen=True)
class BuildOptions:
    """How to build; the defaults suit the target.

    Attributes:
        workspace_mib: scratch memory that the builder may use; None fits the target's memory.
        timing_cache: file to keep kernel timings in; None is one for each device in the cache.
        version_compatible: the engine also loads in later TensorRT versions.
        strip_weights: the engine holds no weights, and is refitted by whoever ships it.
        dla: the deep learning accelerator to run on, 0 or 1.
        gpu_fallback: what the accelerator does not take runs on the GPU.
        dynamic_batch: (least, usual, most) pictures a call; see the module's text.
        cache: take an engine of the same inputs from the build cache, and keep new ones there.
        here: build on this machine or fail; never prepare for another one.
    """

    workspace_mib: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    strip_weights: bool = False
    dla: int | None = None
    gpu_fallback: bool = False
    dynamic_batch: tuple[int, int, int] | None = None
    cache: bool = True
    here: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for what no builder could do."""
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise UsageError(f"workspace is {self.workspace_mib} MiB, and must be at least 1.")
        if self.gpu_fallback and self.dla is None:
            raise UsageError("--gpu-fallback says what a DLA leaves to the GPU: give --dla, too.")
        if self.dynamic_batch is not None:
            least, usual, most = self.dynamic_batch
            if not 1 <= least <= usual <= most:
                raise UsageError(
                    f"--dynamic-batch is {least} {usual} {most}, and must rise from at least 1."
                )

    def to_json(self) -> dict[str, Any]:
        """Return what shapes the engine, as JSON: where things are kept does not."""
        return {
            "workspace_mib": self.workspace_mib,
            "version_compatible": self.version_compatible,
            "strip_weights": self.strip_weights,
            "dla": self.dla,
            "gpu_fallback": self.gpu_fallback,
        }


def check_options(
    options: BuildOptions,
    target: Target,
    can: Capabilities,
    builder: str,
    *,
    precision: Precision,
    batch: int,
) -> None:
    """Refuse what the builder of `target` cannot do, before it starts.

    Args:
        options: what was asked.
        target: where the engine is to run.
        can: what the builder can do.
        builder: its name and version, for the sentence.
        precision: of the engine.
        batch: pictures a call of the graph.

    Raises:
        UnsupportedTargetError: it cannot; the sentence says what to leave out or do instead.
    """
    target.check_computes(precision)
    if precision in (Precision.BF16, Precision.FP8) and not can.strongly_typed:
        raise UnsupportedTargetError(
            f"{builder} builds no {precision} engine for target {target.name}, because it does not "
            "type networks strongly: add --precision fp16, or use TensorRT 10 or later."
        )
    if options.dla is not None:
        _check_dla(options, target, can, builder, precision)
    asked = (
        (options.workspace_mib is not None, can.workspace, "--workspace",
         "its memory cannot be limited"),
        (options.timing_cache is not None, can.timing_cache, "--timing-cache",
         "it times no kernels when it builds"),
        (options.version_compatible, can.version_compatible, "--version-compatible",
         "its engines are for one version"),
        (options.strip_weights, can.strip_weights, "--strip-weights",
         "it builds whole engines only"),
    )  # fmt: skip
    for given, able, flag, reason in asked:
        if given and not able:
            raise UnsupportedTargetError(
                f"{builder} does not take {flag} for target {target.name}, because {reason}: leave "
                "the option out, or choose another target or version."
            )
    if options.dynamic_batch not in (None, (batch,) * 3):
        least, _, most = options.dynamic_batch or (batch,) * 3
        raise UnsupportedTargetError(
            f"--dynamic-batch {least} to {most} cannot be built: the bundle's graph computes "
            f"{batch} pictures a call and every operator's body is made for that number; compile a "
            "bundle for each batch with maskrt compile --batch."
        )


def _check_dla(
    options: BuildOptions, target: Target, can: Capabilities, builder: str, precision: Precision
) -> None:
    if not 0 <= (options.dla or 0) < target.dla_cores:
        have = f"{target.dla_cores} DLA cores, counted from 0" if target.dla_cores else "no DLA"
        raise UnsupportedTargetError(
            f"--dla {options.dla} cannot be had: target {target.name} has {have}."
        )
    if can.dla_targets and target.name not in can.dla_targets:
        raise UnsupportedTargetError(
            f"{builder} has a DLA on {', '.join(can.dla_targets)} alone, not on target "
            f"{target.name}: leave --dla out."
        )
    if not can.dla:
        raise UnsupportedTargetError(
            f"{builder} does not take --dla for target {target.name}, because it builds for no "
            "DLA: leave the option out, or choose another target or version."
        )
    if not options.gpu_fallback:
        raise UnsupportedTargetError(
            f"--dla {options.dla} alone cannot build this graph, because no DLA runs RoIAlign and "
            "NMS: add --gpu-fallback."
        )
    if precision in (Precision.FP32, Precision.BF16, Precision.FP8):
        raise UnsupportedTargetError(
            f"--dla {options.dla} cannot build {precision} engines, because a DLA computes in fp16 "
            "and int8 alone: add --precision fp16 or int8."
        )
    if precision in (Precision.INT8, Precision.MIXED) and not can.dla_int8:
        raise UnsupportedTargetError(
            f"{builder} builds no {precision} engine for a DLA from explicit Q/DQ, on target "
            f"{target.name}: add --precision fp16, or build with TensorRT 8, or 11.4.1 and later."
        )


def flags(options: BuildOptions) -> str:
    """Return the words of `maskrt build` that ask for the same, with a leading space each."""
    words = {
        f" --workspace {options.workspace_mib}": options.workspace_mib is not None,
        f" --timing-cache {_file(options)}": options.timing_cache is not None,
        " --version-compatible": options.version_compatible,
        " --strip-weights": options.strip_weights,
        f" --dla {options.dla}": options.dla is not None,
        " --gpu-fallback": options.gpu_fallback,
    }
    return "".join(word for word, given in words.items() if given)


def trtexec_flags(options: BuildOptions, workspace_mib: int) -> str:
    """Return the words of `trtexec` that ask for the same, with a leading space each.

    None asks for a DLA: `--useDLACore` also sets `FP16` and `PREFER_PRECISION_CONSTRAINTS`, which
    contradict a strongly typed network and `--precisionConstraints=obey`, and makes the DLA the
    default of every layer.
    """
    words = {
        f" --memPoolSize=workspace:{workspace_mib}": True,
        f" --timingCacheFile={_file(options)}": options.timing_cache is not None,
        " --versionCompatible": options.version_compatible,
        " --stripWeights": options.strip_weights,
    }
    return "".join(word for word, given in words.items() if given)


def _file(options: BuildOptions) -> str:
    """Return the timing cache as a word of a shell; the device has none of this one's folders."""
    return shlex.quote(options.timing_cache.name if options.timing_cache is not None else "")
