"""What the kernels need, move and take, on one GPU: one JSON file.

    python benchmarks/kernels.py --json FILE    on a CUDA device; `benchmarks/gpu.sh` calls it
    python benchmarks/kernels.py --docs         registers and shared memory, to docs/operators.md
    python benchmarks/kernels.py --quick        small sizes on the CPU: only that the script works

Each case is checked against its reference before it is timed, then timed inside a CUDA graph, so
that the figure is the kernels' own and not the launches'. `floor` is the time to read each input
and write each output once at the bandwidth that a copy reaches on the same device.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMS = (75, 80, 86, 87, 89, 90, 100, 110, 120)
TARGETS = {"MultilevelRoIAlign": 4.0, "BatchedNMS": 5.0, "PasteMasks": 10.0}  # times torchvision


@dataclass
class Case:
    """One operator on one input: ours, the peer's, and the bytes that must move."""

    name: str
    size: dict[str, Any]
    ours: Callable[[], Any]
    peer: Callable[[], Any] | None
    agree: Callable[[Any, Any], str]  # what differs, or nothing
    bytes: int
    headline: bool = False
    found: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.docs:
        write_docs(ROOT / "docs" / "operators.md")
        return 0
    import torch

    if not options.quick and not torch.cuda.is_available():
        print("No CUDA device: run this on one, or with --quick to see that the script works.")
        return 1
    device = "cpu" if options.quick else "cuda"
    result = measure(device, options.quick)
    if options.quick:
        print(f"{len(result['cases'])} small cases checked on the CPU; their times mean nothing.")
    else:
        print_table(result)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(case["differs"] for case in result["cases"]))


def measure(device: str, quick: bool) -> dict[str, Any]:
    """Check and time every case."""
    import torch
    from kernel_cases import every_case

    from maskrt.plugins.adapters.torch_cuda import register_operators

    register_operators()
    bandwidth = copy_bandwidth(device, quick)
    rows = []
    for case in every_case(device, quick):
        expected = case.peer() if case.peer else None
        differs = case.agree(case.ours(), expected)
        row = {"operator": case.name, **case.size, "headline": case.headline, "differs": differs}
        row["microseconds"] = time_of(case.ours, device, quick)
        if case.peer:
            row["peer_microseconds"] = time_of(case.peer, device, quick, graph=False)
            row["times_faster"] = row["peer_microseconds"] / row["microseconds"]
        row["bytes"] = case.bytes
        row["floor_microseconds"] = case.bytes / bandwidth * 1e6
        row["share_of_floor"] = row["floor_microseconds"] / row["microseconds"]
        rows.append(row)
        print(f"{case.name} {case.size}: {row['microseconds']:.1f} us {differs}", file=sys.stderr)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU, small sizes"
    return {"device": name, "torch": torch.__version__, "copy_bandwidth": bandwidth, "cases": rows}


def time_of(run: Callable[[], Any], device: str, quick: bool, graph: bool = True) -> float:
    """Return the median microseconds of a call.

    A peer that synchronises cannot be captured in a CUDA graph; its launches are part of its time.
    """
    import torch

    if device == "cpu":
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e6
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    call = run
    if graph:
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            kept = run()
        call = recorded.replay
        assert kept is not None
    samples = []
    for _ in range(7):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        for _ in range(20):
            call()
        events[1].record()
        torch.cuda.synchronize()
        samples.append(events[0].elapsed_time(events[1]) / 20 * 1e3)
    return statistics.median(samples)


def copy_bandwidth(device: str, quick: bool) -> float:
    """Return bytes a second, reads and writes together, of a large copy."""
    import torch

    size = 1 << (20 if quick else 28)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / (time_of(lambda: target.copy_(source), device, quick) * 1e-6)


def print_table(result: dict[str, Any]) -> None:
    """Print the headline cases, and whether each meets its aim."""
    print(f"{result['device']}, copies at {result['copy_bandwidth'] / 1e9:.0f} GB/s")
    for row in result["cases"]:
        if row["headline"]:
            aim = TARGETS[row["operator"]]
            size = {k: v for k, v in row.items() if k in ("boxes", "bins", "masks")}
            print(
                f"{row['operator']:20} {size!s:32} {row['microseconds']:9.1f} us, "
                f"{row['times_faster']:.1f} times faster than torchvision (aim {aim:g}), "
                f"{row['share_of_floor']:.0%} of the floor {row['differs'] or 'equal'}"
            )


def write_docs(path: Path) -> None:
    """Replace the table of kernels in the docs."""
    lines = ["| kernel | registers, by SM | shared memory | spills |", "|---|---|---|---|"]
    for entry, (registers, shared, spilled) in resources().items():
        groups: dict[int, list[int]] = {}
        for sm, number in registers.items():
            groups.setdefault(number, []).append(sm)
        words = "; ".join(
            f"{number} ({', '.join(map(str, sms))})" for number, sms in sorted(groups.items())
        )
        lines.append(f"| `{entry}` | {words} | {shared} B | {spilled} |")
    text = path.read_text(encoding="utf-8")
    start, stop = "<!-- kernels: begin -->\n", "<!-- kernels: end -->"
    table = "\n".join(lines) + "\n"
    replaced = re.sub(f"{start}.*{stop}", lambda _: start + table + stop, text, flags=re.DOTALL)
    path.write_text(replaced, encoding="utf-8")


def resources() -> dict[str, tuple[dict[int, int], int, int]]:
    """Return for each kernel its registers by SM, most shared bytes and most spilled bytes."""
    sys.path.insert(0, str(ROOT))
    from maskrt.plugins.adapters.nvrtc import compile_plan
    from tests.plugins.examples import EXAMPLES, example_plan

    found: dict[str, tuple[dict[int, int], int, int]] = {}
    for key in EXAMPLES:
        plan = example_plan(key)
        for sm in SMS:
            for entry, usage in compile_plan(plan, sm, "cubin").usage.items():
                registers, shared, spilled = found.get(entry, ({}, 0, 0))
                registers[sm] = max(registers.get(sm, 0), usage.registers)
                found[entry] = (registers, max(shared, usage.shared), max(spilled, usage.spilled))
    return found


if __name__ == "__main__":
    sys.exit(main())
