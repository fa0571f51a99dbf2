"""What is wrong with this machine or this bundle, and what to do about it.

    machine.py           facts of the machine, read from files and package metadata
    jetson.py            facts that only a Jetson has
    failures.py          the known failures: symptom, cause and fix, as data
    machine_findings.py  facts of the machine → findings
    bundle_findings.py   a bundle on that machine → findings

Nothing here imports TensorRT or CUDA packages: a broken installation is what is to be diagnosed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .bundle_findings import diagnose_bundle
from .failures import FAILURES, Failure, Finding, Level
from .jetson import Jetson
from .machine import Gpu, Machine, Probe, look
from .machine_findings import diagnose_machine

__all__ = [
    "FAILURES",
    "Diagnosis",
    "Failure",
    "Finding",
    "Gpu",
    "Jetson",
    "Level",
    "Machine",
    "Probe",
    "doctor",
    "look",
]


@dataclass(frozen=True)
class Diagnosis:
    """What was seen and what it means.

    Attributes:
        machine: the facts.
        findings: worst first.
    """

    machine: Machine
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken; warnings and remarks do not count."""
        return all(finding.level is not Level.ERROR for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: the machine, the findings, and whether all is well."""
        return {
            "healthy": self.healthy,
            "machine": asdict(self.machine),
            "findings": [finding.to_json() for finding in self.findings],
        }


def doctor(bundle: Path | str | None = None, *, probe: Probe | None = None) -> Diagnosis:
    """Look at this machine, and at `bundle` if there is one.

    Args:
        bundle: a bundle's folder; one that does not open is a finding, not an exception.
        probe: where facts are read from; None is this machine.
    """
    machine = look(probe or Probe())
    findings = diagnose_machine(machine)
    if bundle is not None:
        findings += diagnose_bundle(Path(bundle), machine)
    ranked = sorted(findings, key=lambda finding: list(Level).index(finding.level))
    return Diagnosis(machine, tuple(ranked))
