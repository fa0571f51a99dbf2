"""Several engines of a bundle timed in one run, in turn: a busy machine hurts all alike.

Each round calls every engine once, on the same pictures, and begins with another one than the round
before, since the first finds caches and clocks as the last left them.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core import Bundle, InputError, Precision, Progress, Target, UsageError, silent
from ..runtime import Session, open_session
from ..runtime.backends import gpu_of
from ..runtime.cuda_device import can_run
from ..runtime.cuda_memory_use import device_memory
from ..runtime.possible import check_can_exist
from ..runtime.trust import Trust
from .bench import FORMAT_VERSION, Bench, of_samples
from .timed_calls import WARM_UP, Samples, calls_of, pictures_for, streamed, timed_call

__all__ = ["Benches", "bench_engines"]


@dataclass(frozen=True)
class Benches:
    """What was found of several engines that were timed in turn.

    Attributes:
        engines: a bench of each, in the order asked for. `peak_bytes` is of the process, which held
            all of them; power is of no one of them, and None.
    """

    engines: tuple[Bench, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Such as `"cpu@int8"`, in the order of `engines`."""
        return tuple(f"{found.target}@{found.precision}" for found in self.engines)

    def times(self, found: Bench) -> float:
        """Return how many times the fastest engine's median that one's is."""
        fastest = min(one.stages_ms["total"]["p50"] for one in self.engines)
        return found.stages_ms["total"]["p50"] / max(fastest, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: each engine's is of `bench.schema.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "engines": [found.to_json() for found in self.engines],
        }


def bench_engines(
    bundle: Bundle | Path | str,
    engines: Sequence[str] | None = None,
    *,
    runs: int = 30,
    images: Path | str | None = None,
    on_device: bool = False,
    trust: Trust = False,
    progress: Progress = silent,
) -> Benches:
    """Time engines of a bundle in turn, `runs` calls of each after three untimed ones.

    Args:
        bundle: holds the engines.
        engines: such as `("cpu@int8", "cpu@fp32")`; without a precision, the bundle's own. None is
            every engine that this machine can run.
        runs: how many calls of each.
        images: folder of pictures; None draws JPEG files as large as the input.
        on_device: letterbox and paste on the GPU, too.
        trust: see `maskrt.load`.
        progress: told after each round.

    Raises:
        UsageError: an engine is asked for twice, or `on_device` for a target without a device.
        InputError: an engine is not in the bundle, none can be run here, or the pictures cannot be
            used.
        UntrustedError: an engine is machine code that was not built here.
    """
    opened = Bundle.open(bundle)
    wanted = _named(opened, engines) if engines is not None else _that_run(opened)
    for target, precision in wanted:
        check_can_exist(opened, target, precision)
    with pictures_for(images, opened.manifest.input) as files, ExitStack() as held:
        calls = calls_of(files, opened.manifest.input.batch)
        sessions, taken = [], []
        for target, precision in wanted:
            used = held.enter_context(device_memory(gpu_of(opened, target, precision)))
            session = held.enter_context(
                open_session(opened, target, precision, on_device=on_device, trust=trust)
            )
            for number in range(WARM_UP):
                timed_call(session, calls[number % len(calls)], Samples())
            sessions.append(session)
            taken.append(used())  # now: later it would be the next engine's as well
        samples = _in_turn(sessions, calls, runs, progress)
        streams = [streamed(session, calls, runs) for session in sessions]
        found = map(of_samples, sessions, samples, streams)
        return Benches(
            tuple(replace(one, device_bytes=used) for one, used in zip(found, taken, strict=True))
        )


def _in_turn(
    sessions: Sequence[Session], calls: list[list[Path]], runs: int, progress: Progress
) -> list[Samples]:
    """Call every session once a round, each round beginning with the next of them."""
    samples = [Samples() for _ in sessions]
    progress("bench", 0, runs)
    for number in range(runs):
        for place in range(len(sessions)):
            which = (number + place) % len(sessions)
            timed_call(sessions[which], calls[number % len(calls)], samples[which])
        progress("bench", number + 1, runs)
    return samples


_Engine = tuple[Target, Precision]


def _named(bundle: Bundle, engines: Sequence[str]) -> list[_Engine]:
    found = [bundle.engine_named(name) for name in engines]
    if not found:
        raise UsageError("no engine is named: name some, such as cpu@int8, or leave engines out.")
    for name, one in zip(engines, found, strict=True):
        if found.count(one) > 1:
            raise UsageError(f"{name} is asked for twice: name each engine once.")
    return found


def _that_run(bundle: Bundle) -> list[_Engine]:
    found = [bundle.engine_named(name) for name in bundle.engines()]
    here = [one for one in found if can_run(one[0])]
    if not here:
        has = ", ".join(bundle.engines()) or "none at all"
        raise InputError(
            f"{bundle.path} has no engine that this machine can run (it has {has}): build one with "
            "maskrt build."
        )
    return here
