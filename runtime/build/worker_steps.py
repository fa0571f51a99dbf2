"""How far a build is, from TensorRT's progress monitor, as one number that only rises.

TensorRT reports phases, each of a number of steps, one inside a step of another:

    Building engine          3 of 5
      Optimizing graph         12 of 30            done = (3 + 12/30) / 5 of the whole

The steps inside a phase differ much in length, so the number is an order, not a time.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["HUNDRED", "Phases", "make_monitor"]

HUNDRED = 100


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that are open."""

    def __init__(self) -> None:
        """Start without any."""
        self._open: dict[str, _Phase] = {}
        self._most = 0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Open a phase of `steps` steps inside one of `parent`."""
        self._open[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, index: int) -> int:
        """Note that the step `index`, counted from 0, is done; return percent of the whole."""
        if name in self._open:
            self._open[name].done = index + 1
        return self.percent()

    def finish(self, name: str) -> None:
        """Close a phase."""
        self._open.pop(name, None)

    def percent(self) -> int:
        """Return percent of the whole; never less than before."""
        roots = [n for n, phase in self._open.items() if phase.parent not in self._open]
        done = max(map(self._fraction, roots), default=0.0)
        self._most = max(self._most, int(HUNDRED * done))
        return self._most

    def _fraction(self, name: str) -> float:
        phase = self._open[name]
        children = [n for n, p in self._open.items() if p.parent == name and n != name]
        inside = map(self._fraction, children)
        return min((phase.done + max(inside, default=0.0)) / phase.steps, 1.0)


def make_monitor(trt: Any, report: Any, is_wanted: Any) -> Any:
    """Return a progress monitor.

    Args:
        trt: the package, which has `IProgressMonitor`.
        report: called with the percentage.
        is_wanted: asked after each step; False stops the build.
    """
    phases = Phases()

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(phases.step(phase_name, step))
            return bool(is_wanted())

    return Monitor()
