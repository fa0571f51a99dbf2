"""Damaged inputs through every reader of maskrt, in child processes; see `tests/fuzz`.

    python benchmarks/fuzz.py [--inputs 1000000] [--reader NAME ...] [--seconds N] [--seed N]
                              [--from NUMBER] [--keep FOLDER] [--guided]

The inputs are shared out so that each reader takes about the same time. Prints a row for each
reader, and a line for each fault; the first input of each is kept outside the repository. With
--guided, atheris (`pip install atheris`) follows the branches that inputs take in maskrt.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzz.campaign import Outcome, run
from tests.fuzz.reader import Reader


def shares(readers: list[Reader], inputs: int) -> dict[str, int]:
    """Return how many inputs each reader gets: the cheaper, the more."""
    parts = {reader.name: 1 / (reader.cost + 0.3) for reader in readers}
    whole = sum(parts.values())
    return {name: max(1, round(inputs * part / whole)) for name, part in parts.items()}


def main() -> None:
    """Run a campaign, and end with status 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--reader", action="append", help="may be repeated; all by default")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "maskrt-fuzz")
    parser.add_argument("--guided", action="store_true")
    given = parser.parse_args()
    if given.guided:
        from tests.fuzz.guided import guided

        sys.exit(guided(given.reader, given.seconds, given.keep))

    from tests.fuzz.table import READERS

    chosen = [READERS[name] for name in given.reader or READERS]
    found, total = 0, 0
    print("| reader | inputs | refused | faults | ms an input |\n|---|---|---|---|---|")
    for name, inputs in shares(chosen, given.inputs).items():
        began = time.monotonic()
        numbers = range(given.first, given.first + inputs)
        outcome = run(READERS[name], numbers, given.seed, given.keep, given.seconds)
        took = 1e3 * (time.monotonic() - began) / max(1, outcome.inputs)
        row = (name, f"{outcome.inputs:,}", f"{outcome.refused:,}", len(outcome.findings))
        print("|", *" | ".join(map(str, row)).split(" "), f"| {took:.2f} |", flush=True)
        _tell(outcome)
        found, total = found + len(outcome.findings), total + outcome.inputs
    print(f"{total:,} inputs, {found} faults, seed {given.seed}; kept in {given.keep}")
    sys.exit(1 if found else 0)


def _tell(outcome: Outcome) -> None:
    for one in outcome.findings:
        print(f"  {one.kind} {one.place} at {one.number}: {one.message[:200]!r}", file=sys.stderr)


if __name__ == "__main__":
    main()
