"""The document about hardware says what the tests say, and nothing of a device that no test met."""

import re

from .hardware import DOCUMENT, END, LEVELS, PATHS, ROOT, START, table

README = ROOT / "README.md"


def test_the_document_has_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0] == table(), "python tests/hardware.py --write"


def test_each_path_names_a_level_and_tests_that_are_there() -> None:
    for row in PATHS:
        assert row.level in LEVELS
        for name in row.tests:
            place = ROOT / name
            assert place.is_file() or any(place.glob("test_*.py")), f"{name} of {row.path}"


def test_a_gpu_is_claimed_only_with_its_results() -> None:
    """`benchmarks/gpu.sh` leaves one file a GPU."""
    measured = [
        file.name for file in (ROOT / "benchmarks" / "results").glob("*.json")
        if re.search(r"NVIDIA|Orin|Tesla", file.name)
    ]  # fmt: skip
    claimed = [row.path for row in PATHS if row.level in ("GPU", "Jetson")]
    assert bool(claimed) == bool(measured), (claimed, measured)


def test_the_readme_sends_there() -> None:
    assert "docs/hardware.md" in README.read_text(encoding="utf-8")
