"""What a Jetson draws, read from its INA3221 sensors while something runs.

    /sys/class/hwmon/hwmon*/name            "ina3221" on JetPack 5 and later (Xavier, Orin, Thor)
                           in{1,2,3}_label  the rail's name
                           in{1,2,3}_input  millivolts
                           curr{1,2,3}_input  milliamperes

The module's whole power is the rail `VDD_IN` where there is one (Orin NX and Nano, Xavier NX);
elsewhere (AGX Orin, AGX Xavier) it is the sum of the rails, which leaves out the carrier board.
Power is the mean of readings 20 ms apart; energy is that mean times the seconds it was taken over.

Source: the kernel's Documentation/hwmon/ina3221.rst; "Power monitors" in NVIDIA's Jetson Linux
developer guide. Tested on a tree of files; has not run on a Jetson.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Power", "Rail", "find_rails", "metered"]

WHOLE = "VDD_IN"
_CHANNELS = (1, 2, 3)  # 4 and later are sums of these
_SECONDS = 0.02


@dataclass(frozen=True)
class Rail:
    """One supply that is measured.

    Attributes:
        name: as the board's device tree labels it.
        millivolts: the file that tells them.
        milliamperes: likewise.
    """

    name: str
    millivolts: Path
    milliamperes: Path

    def watts(self) -> float | None:
        """Return the power now, or None where the sensor does not answer."""
        try:
            return int(self.millivolts.read_text()) * int(self.milliamperes.read_text()) / 1e6
        except (OSError, ValueError):
            return None


@dataclass
class Power:
    """Readings of some rails over some time.

    Attributes:
        seconds: from the first reading to the last.
        readings: rail → watts, a value for each time that it answered.
    """

    seconds: float = 0.0
    readings: dict[str, list[float]] = field(default_factory=dict)

    @property
    def rails_watts(self) -> dict[str, float]:
        """Mean power of each rail."""
        return {name: sum(v) / len(v) for name, v in self.readings.items() if v}

    @property
    def watts(self) -> float | None:
        """Mean power of the module, or None without a reading."""
        rails = self.rails_watts
        return rails.get(WHOLE, sum(rails.values())) if rails else None


def find_rails(root: Path = Path("/")) -> list[Rail]:
    """Return the rails that the INA3221 sensors below `root` measure; none on other machines."""
    rails = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(folder / "name") != "ina3221":
            continue
        for channel in _CHANNELS:
            name = _text(folder / f"in{channel}_label")
            rail = Rail(name, folder / f"in{channel}_input", folder / f"curr{channel}_input")
            if name and name != "NC" and rail.watts() is not None:  # NC: not connected
                rails.append(rail)
    return rails


@contextmanager
def metered(rails: list[Rail]) -> Iterator[Power]:
    """Read the rails in a thread while the `with` block runs; complete when it has ended."""
    power = Power(readings={rail.name: [] for rail in rails})
    stop = threading.Event()

    def read() -> None:
        while rails:
            for rail in rails:
                watts = rail.watts()
                if watts is not None:
                    power.readings[rail.name].append(watts)
            if stop.wait(_SECONDS):
                return

    reader = threading.Thread(target=read, name="maskrt-power", daemon=True)
    started = time.perf_counter()
    reader.start()
    try:
        yield power
    finally:
        stop.set()
        reader.join()
        power.seconds = time.perf_counter() - started


def _text(path: Path) -> str:
    try:
        return path.read_text().strip("\0 \n")
    except OSError:
        return ""
