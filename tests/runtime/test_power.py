"""Power of a Jetson, read from trees of files as its kernel shows them."""

import threading
import time
from pathlib import Path

import pytest

from maskrt.runtime.power import find_rails, metered

Chip = dict[int, tuple[str, int, int]]  # channel → label, millivolts, milliamperes

ORIN_NX: list[Chip] = [
    {1: ("VDD_IN", 5080, 2000), 2: ("VDD_CPU_GPU_CV", 5080, 900), 3: ("VDD_SOC", 5072, 500)}
]
AGX_ORIN: list[Chip] = [
    {1: ("VDD_GPU_SOC", 19976, 400), 2: ("VDD_CPU_CV", 19976, 100), 3: ("VIN_SYS_5V0", 5056, 800)},
    {1: ("NC", 1000, 9000), 2: ("VDDQ_VDD2_1V8AO", 5056, 120)},
]


def plant(root: Path, chips: list[Chip]) -> Path:
    """Write sensors as JetPack 5 and 6 show them, beside one of another kind."""
    folder = root / "sys/class/hwmon"
    (folder / "hwmon0").mkdir(parents=True)
    (folder / "hwmon0/name").write_text("cpu_thermal\n")
    (folder / "hwmon0/in1_label").write_text("VDD_IN\n")
    for number, chip in enumerate(chips, 1):
        at = folder / f"hwmon{number}"
        at.mkdir()
        (at / "name").write_text("ina3221\n")
        (at / "in7_label").write_text("sum of shunt voltages\n")
        for channel, (label, millivolts, milliamperes) in chip.items():
            (at / f"in{channel}_label").write_text(f"{label}\n")
            (at / f"in{channel}_input").write_text(f"{millivolts}\n")
            (at / f"curr{channel}_input").write_text(f"{milliamperes}\n")
    return root


def test_the_whole_of_a_module_is_vdd_in(tmp_path: Path) -> None:
    rails = find_rails(plant(tmp_path, ORIN_NX))
    assert [rail.name for rail in rails] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    with metered(rails) as power:
        time.sleep(0.1)
    assert power.watts == pytest.approx(10.16)  # 5.08 V, 2 A
    assert power.rails_watts["VDD_SOC"] == pytest.approx(2.536)
    assert 0.1 <= power.seconds < 5
    assert len(power.readings["VDD_IN"]) >= 2


def test_elsewhere_it_is_the_sum_of_all_chips(tmp_path: Path) -> None:
    rails = find_rails(plant(tmp_path, AGX_ORIN))
    assert "NC" not in [rail.name for rail in rails]
    with metered(rails) as power:
        pass
    assert power.watts == pytest.approx(7.9904 + 1.9976 + 4.0448 + 0.60672)


def test_power_is_the_mean_over_time(tmp_path: Path) -> None:
    current = plant(tmp_path, ORIN_NX) / "sys/class/hwmon/hwmon1/curr1_input"
    rails = find_rails(tmp_path)
    with metered(rails) as power:
        time.sleep(0.3)
        current.write_text("4000\n")
        time.sleep(0.3)
    assert {round(v, 2) for v in power.readings["VDD_IN"]} >= {10.16, 20.32}
    assert power.watts is not None
    assert 10.16 < power.watts < 20.32


def test_a_sensor_that_stops_answering_leaves_what_it_said(tmp_path: Path) -> None:
    plant(tmp_path, ORIN_NX)
    rails = find_rails(tmp_path)
    with metered(rails) as power:
        time.sleep(0.05)
        (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
        time.sleep(0.05)
    assert power.watts == pytest.approx(10.16)


def test_other_machines_have_no_rails_and_no_thread_is_left(tmp_path: Path) -> None:
    assert find_rails(tmp_path) == []
    plant(tmp_path, [])
    assert find_rails(tmp_path) == []
    before = threading.active_count()
    with metered([]) as power:
        pass
    assert power.watts is None
    with pytest.raises(KeyError), metered(find_rails(tmp_path)):
        raise KeyError
    assert threading.active_count() == before
