"""What a Jetson says about itself, read from its files.

| file | fact |
|---|---|
| `/proc/device-tree/model` | module |
| `/etc/nv_tegra_release` | L4T, such as `# R36 (release), REVISION: 4.3, ...` |
| `/var/lib/nvpmodel/status`, `/etc/nvpmodel.conf` | power mode, and the names of all modes |
| `/sys/class/devfreq/*/` | the GPU's clock, now and at most |

Source: NVIDIA's Jetson Linux developer guide (L4T, power management).
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Jetson", "read_jetson", "read_text"]

# First L4T of a JetPack release -> that release; a later L4T of the same major belongs to it.
_JETPACK_OF = {
    (32, 1, 0): "4",
    (34, 1, 0): "5.0",
    (35, 2, 1): "5.1",
    (36, 2, 0): "6.0",
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2.1 or later",
    (38, 2, 0): "7.0",
    (38, 4, 0): "7.1",
    (39, 2, 0): "7.2",
    (39, 2, 1): "7.2.1",
    (39, 2, 2): "7.2.2 or later",
}
_HERTZ = re.compile(r"\d{1,15}")
_GPU_NAMES = ("gpu", "gv11b", "ga10b", "gb10b")


@dataclass(frozen=True)
class Jetson:
    """One module and its software.

    Attributes:
        model: such as `"NVIDIA Jetson Orin NX"`.
        l4t: such as `"36.4.3"`, or empty.
        jetpack: release, or empty where the L4T is not known here.
        power_mode: number of the mode and its name, or empty.
        power_modes: number -> name of all modes.
        gpu_mhz: clock now, or 0.
        gpu_max_mhz: the highest clock that the mode allows, or 0.
    """

    model: str
    l4t: str = ""
    jetpack: str = ""
    power_mode: str = ""
    power_modes: tuple[str, ...] = ()
    gpu_mhz: int = 0
    gpu_max_mhz: int = 0


def read_jetson(root: Path) -> Jetson | None:
    """Return what the files below `root` say, or None if this is no Jetson."""
    release = read_text(root / "etc/nv_tegra_release")
    model = read_text(root / "proc/device-tree/model").strip("\0 \n")
    if not release and "Jetson" not in model:
        return None
    l4t = _l4t(release)
    modes = _power_modes(read_text(root / "etc/nvpmodel.conf"))
    now, most = _gpu_clock(root)
    return Jetson(
        model=model or "Jetson of unknown model",
        l4t=l4t,
        jetpack=_jetpack(l4t),
        power_mode=_power_mode(read_text(root / "var/lib/nvpmodel/status"), modes),
        power_modes=tuple(f"{number} {name}" for number, name in modes.items()),
        gpu_mhz=now,
        gpu_max_mhz=most,
    )


def read_text(path: Path) -> str:
    """Return a file's text; empty where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _l4t(release: str) -> str:
    match = re.search(r"R(\d{1,9}) \(release\), REVISION: (\d{1,9}(?:\.\d{1,9})*)(?!\d)", release)
    return f"{match[1]}.{match[2]}" if match else ""


def _jetpack(l4t: str) -> str:
    parts = [part for part in l4t.split(".") if part]
    if len(parts) < 2:
        return ""
    numbers = tuple(int(part) for part in (*parts, "0")[:3])
    fitting = [first for first in _JETPACK_OF if first[0] == numbers[0] and first <= numbers]
    return _JETPACK_OF[max(fitting)] if fitting else ""


def _power_modes(configuration: str) -> dict[int, str]:
    found = re.findall(r"<\s*POWER_MODEL\s+ID=(\d{1,9})\s+NAME=(\S+)\s*>", configuration)
    return {int(number): name for number, name in found}


def _power_mode(status: str, modes: dict[int, str]) -> str:
    match = re.search(r"pmode:(\d{1,9})\b", status)
    if not match:
        return ""
    number = int(match[1])
    return f"{number} {modes.get(number, '')}".strip()


def _gpu_clock(root: Path) -> tuple[int, int]:
    """Return the GPU's clock now and at most, in MHz; zeros where the system does not say."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if any(name in folder.name for name in _GPU_NAMES):
            now = read_text(folder / "cur_freq").strip()
            most = read_text(folder / "max_freq").strip()
            if _HERTZ.fullmatch(now) and _HERTZ.fullmatch(most):
                return int(now) // 1_000_000, int(most) // 1_000_000
    return 0, 0
