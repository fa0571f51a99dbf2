"""Programs that are killed while they edit a bundle: it is never lost, and never away."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import measure
from maskrt.core import Bundle, BundleError, folders
from maskrt.core.exchange import exchange, hold

from .bundles import make

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' kernel")

_KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from maskrt.core import Bundle, folders
folders.exchange = lambda *_: False
rename = Path.replace
def die_second(self, target):
    if self.name == "new":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.replace = die_second
with Bundle.open(sys.argv[1]).edit() as staged:
    staged.write("report/report.json", {})
"""


def _killed_between_two_renames(bundle: Bundle) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED_BETWEEN, str(bundle.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not bundle.path.exists()


@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_kills_in_a_tight_loop_beside_readers(tmp_path: Path, way: str) -> None:
    found = measure(tmp_path, 8, 2, way)
    assert found["reads"] > 50
    assert (found["lost"], found["gaps"], found["left over"]) == (0, 0, 0)


def test_a_bundle_that_was_renamed_away_is_put_back_by_whoever_opens_it(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a[1]*.maskrt")
    make(tmp_path / "a.maskrt")
    _killed_between_two_renames(bundle)
    assert Bundle.open(bundle.path).read("model.onnx") == b"graph"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.maskrt", "a[1]*.maskrt"]


def test_a_bundle_that_was_renamed_away_is_put_back_by_who_makes_one_there(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    _killed_between_two_renames(bundle)
    with pytest.raises(KeyError), Bundle.create(bundle.path, bundle.manifest):
        raise KeyError
    assert bundle.path.is_dir()
    assert Bundle.open(bundle.path).read("model.onnx") == b"graph"


def test_the_next_edit_sweeps_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    dead = tmp_path / ".a.maskrt.edit-abcd1234"
    others = [tmp_path / name for name in (".a.maskrt.original", ".b.maskrt.edit-abcd1234")]
    for folder in (dead, *others):
        (folder / "new").mkdir(parents=True)
    with bundle.edit() as alive:
        with Bundle.open(bundle.path).edit() as staged:
            staged.write("report/report.json", {})
        assert alive.path.is_dir()  # whose maker lives
    assert not dead.exists()
    assert sorted(tmp_path.iterdir()) == sorted([bundle.path, *others])


def test_the_two_names_are_exchanged_and_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    if not exchange(one, other):
        pytest.skip("this file system exchanges no names")
    assert [p.name for p in one.iterdir()] == ["other"]
    number = hold(one)
    assert number is not None
    assert hold(one) is None
    os.close(number)
    again = hold(one)
    assert again is not None
    os.close(again)


def test_new_files_and_the_name_are_on_the_disk_before_the_old_bundle_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, told = make(tmp_path / "a.maskrt"), []
    fsync, swap = os.fsync, folders.exchange

    def synced(number: int) -> None:
        told.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        fsync(number)

    def swapped(one: Path, two: Path) -> bool:
        told.append("exchange")
        return swap(one, two)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(folders, "exchange", swapped)
    with bundle.edit() as staged:
        staged.write("report/report.json", {})
    before, after = told[: told.index("exchange")], told[told.index("exchange") + 1 :]
    assert {"report.json", "report", "manifest.json", "new"} <= set(before)
    assert "model.onnx" not in before  # a hard link, which was written earlier
    assert after == [tmp_path.name]


def test_a_reader_goes_on_beside_an_edit_and_is_told_what_was_replaced(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.maskrt")
    with Bundle.open(bundle.path).edit() as staged:
        staged.write("engines/cpu/engine.onnx", b"another")
    assert bundle.read("model.onnx") == b"graph"
    with pytest.raises(BundleError, match="changed by another program since"):
        bundle.read("engines/cpu/engine.onnx")


def test_errors_name_the_bundle_and_not_the_copy_that_is_changed(tmp_path: Path) -> None:
    bundle = make(tmp_path / "so lo.maskrt")
    with pytest.raises(BundleError) as error, bundle.edit() as staged:
        staged.read("recipe.json")
    assert f"{bundle.path} has no recipe.json" in str(error.value)
    with pytest.raises(BundleError) as error, bundle.edit() as staged:
        staged.read("engines/orin-nx/engine.json")
    assert f"maskrt build '{bundle.path}' --target orin-nx" in str(error.value)
    shutil.rmtree(bundle.path)
