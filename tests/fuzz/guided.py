"""Fuzzing that follows the branches that inputs take in maskrt, by atheris (libFuzzer).

    pip install atheris
    python benchmarks/fuzz.py --guided --reader NAME --seconds 600

libFuzzer keeps the inputs that reach something new and changes those again, with its own changes
and the reader's. Each reader has a process of its own; a fault ends it, and its input is kept.
"""

import multiprocessing
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

__all__ = ["guided"]

_MOST_MIB, _MOST_SECONDS = 4096, 60  # of the clock, which others share


def guided(names: list[str] | None, seconds: float, keep: Path) -> int:
    """Fuzz each reader for `seconds`; return 1 if one of them ended before."""
    from .table import READERS

    keep.mkdir(parents=True, exist_ok=True)
    length = 60 if seconds == float("inf") else int(seconds)
    ended = {}
    for name in names or READERS:
        spawned = multiprocessing.get_context("spawn")
        child = spawned.Process(target=_fuzz, args=(name, length, keep))
        child.start()
        child.join()
        ended[name] = child.exitcode
        print(f"| {name} | {'no fault' if child.exitcode == 0 else 'FAULT'} |", flush=True)
    return int(any(ended.values()))


def _fuzz(name: str, seconds: int, keep: Path) -> None:
    """Run libFuzzer in this process, which it ends."""
    import atheris

    with atheris.instrument_imports(include=["maskrt"], enable_loader_override=False):
        from maskrt.core import MaskrtError

        from .campaign import warm
        from .table import READERS

        reader = READERS[name]
        warm(reader, reader.seeds()[0])
    folder = Path(tempfile.mkdtemp(prefix="maskrt-guided-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(reader.seeds()):
        (corpus / f"{number}").write_bytes(data)

    def one(data: bytes) -> None:
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            reader.read(data, place)
        except MaskrtError:
            return

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        ours = reader.change(data, dice) if dice.random() < 0.7 else atheris.Mutate(data, most)
        return ours[:most]

    words: list[Any] = [
        sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-timeout={_MOST_SECONDS}",
        f"-rss_limit_mb={_MOST_MIB}", "-max_len=200000", "-print_final_stats=1",
        f"-artifact_prefix={keep}/guided-{name.replace(' ', '-')}-",
    ]  # fmt: skip
    atheris.Setup(words, one, custom_mutator=change)
    atheris.Fuzz()
