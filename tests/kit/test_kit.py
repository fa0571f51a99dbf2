"""What a kit holds, and its smoke test; no network is used: pip is played, or not asked."""

import base64
import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from maskrt.cli import main as maskrt_main
from maskrt.core import Bundle, MissingDependencyError, Target, UsageError
from maskrt.core.errors import UnsupportedTargetError
from maskrt.kit import Place, make_kit, places_of, wheelhouse
from maskrt.kit.own_wheel import write_own_wheel
from maskrt.kit.smoke import main, smoke
from maskrt.pipeline import build

from ..wheel_contents import expected, found

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sh")


def test_the_own_wheel_is_the_tree(tmp_path: Path) -> None:
    wheel = write_own_wheel(tmp_path / "a")
    assert found(str(wheel)) == expected()
    assert wheel.read_bytes() == write_own_wheel(tmp_path / "b").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        info = next(n.partition("/")[0] for n in archive.namelist() if ".dist-info" in n)
        record = list(csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode())))
        assert {row[0] for row in record} == set(archive.namelist())
        for name, digest, size in record[:-1]:
            data = archive.read(name)
            stated = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
            assert (stated, int(size)) == (hashlib.sha256(data).digest(), len(data))
        assert b"\nName: maskrt\n" in archive.read(f"{info}/METADATA")
        assert b"maskrt = maskrt.cli:main" in archive.read(f"{info}/entry_points.txt")


def test_a_jetsons_places_are_its_jetpacks() -> None:
    old, new = places_of(Target.parse("orin-nx"))
    assert (old.tag, new.tag) == ("cp310", "cp312")
    assert {"numpy<2", "cuda-bindings==12.8.*", "nvidia-cuda-nvrtc-cu12==12.6.*"} <= set(
        old.packages
    )
    assert {"numpy", "cuda-bindings==13.*", "nvidia-cuda-nvrtc==13.2.*"} <= set(new.packages)
    assert old.platforms[0] == "manylinux_2_35_aarch64"  # Ubuntu 22.04
    assert "manylinux_2_36_aarch64" not in old.platforms
    (thor,) = places_of(Target.parse("thor"))
    assert {"numpy<2", "nvidia-cuda-nvrtc==13.0.*"} <= set(thor.packages)  # 7.1, the oldest
    (one,) = places_of(Target.parse("agx-orin"), ["3.12"])
    assert one == new


@pytest.mark.rtx
def test_a_desktops_places() -> None:
    linux = places_of(Target.parse("rtx-3090"), ["3.11", "3.12"])
    assert [place.tag for place in linux] == ["cp311", "cp312"]
    assert linux[0].platforms[0] == "manylinux_2_31_x86_64"
    assert any(p.startswith("tensorrt-rtx-cu13-libs==1.") for p in linux[0].packages)
    (windows,) = places_of(Target.parse("rtx"), system="windows")
    assert windows.platforms == ("win_amd64",)


@pytest.mark.parametrize(
    ("target", "pythons", "system", "error", "words"),
    [
        ("xavier", [], "linux", UnsupportedTargetError, "no JetPack with TensorRT 10"),
        ("orin-nx", ["3.11"], "linux", UsageError, "Python 3.12 or 3.10|Python 3.10 or 3.12"),
        ("orin-nx", [], "windows", UsageError, "has Linux"),
        ("cpu", [], "amiga", UsageError, "linux or windows, not amiga"),
    ],
)
def test_places_that_are_none(
    target: str, pythons: list[str], system: str, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        places_of(Target.parse(target), pythons, system)


@pytest.fixture
def kit(bundle: Bundle, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit for the CPU with no wheel but maskrt's."""
    monkeypatch.setattr("maskrt.kit.fetch", lambda place, folder: folder.mkdir(parents=True))
    pytest.importorskip("onnxruntime")
    built = build(bundle, "cpu")
    build(built, "cpu", precision="fp32")
    places = [Place("3.12")]
    return make_kit(built, tmp_path / "kit", target="cpu", images=images, places=places)


def test_a_kit_has_three_pictures_that_can_be_read(kit: Path, bundle: Bundle) -> None:
    assert sorted(p.name for p in (kit / "pictures").iterdir()) == ["0.png", "1.png", "2.png"]
    given = bundle.path.parent / "images"
    assert (kit / "pictures/1.png").read_bytes() == (given / "p2.png").read_bytes()
    assert json.loads((kit / "kit.json").read_text())["bundle"] == "shapes.maskrt"
    assert Bundle.open(kit / "shapes.maskrt").engines() == ["cpu"]


def test_the_smoke_test_ends_in_numbers(kit: Path) -> None:
    done = CliRunner().invoke(main, [str(kit), "--runs", "3"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines] == [
        "machine", "build", "load", "pictures", "latency", "PASSED"
    ]  # fmt: skip
    assert "9 of 9 instances of FP32 found again in 3 pictures, 0 invented" in lines[3]
    kept = json.loads((kit / "smoke.json").read_text())
    assert kept["agreement"]["box_iou"] == kept["agreement"]["mask_iou"] == 1.0
    assert kept["latency_ms"]["runs"] == 3
    assert kept["latency_ms"]["median"] > 0


def test_an_engine_that_finds_other_things_fails(kit: Path, tmp_path: Path) -> None:
    """The reference is of another graph: two of its three boxes lie elsewhere."""
    from maskrt.core import Instances
    from maskrt.kit.pictures import KEY
    from maskrt.runtime.check.stored import Recorder

    from .conftest import BOXES

    recorder = Recorder()
    with maskrt_session(kit) as session:
        for index, picture in enumerate(sorted((kit / "pictures").iterdir())):
            seen = session.predict(picture)
            moved = seen.boxes.copy()
            moved[:2] += 40
            masks = seen.masks
            recorder.add(index, Instances(moved, seen.scores, seen.labels, seen.image_size,
                                          seen.class_names, masks))  # fmt: skip
    assert len(BOXES) == 3
    (kit / "reference.npz").write_bytes(recorder.finish("moved", KEY).to_bytes())
    done = CliRunner().invoke(main, [str(kit), "--runs", "1"])
    assert done.exit_code == 1
    assert "FAILED: 3 of 9 instances of FP32 were found again, and 95%" in done.output
    assert not (kit / "smoke.json").exists()


def maskrt_session(kit: Path) -> Any:
    import maskrt

    return maskrt.load(kit / "shapes.maskrt", "cpu")


def test_the_smoke_test_goes_as_far_as_this_machine_can(kit: Path) -> None:
    from maskrt.core import MaskrtError

    said: list[str] = []
    with pytest.raises(MaskrtError, match="orin-nx cannot be built here"):
        smoke(kit, lambda step, what: said.append(step), target="orin-nx")
    assert said == ["machine"]


@pytest.mark.parametrize("target", ["orin-nx", "agx-orin", "thor", "rtx-4090", "gpu", "cpu"])
@pytest.mark.parametrize("system", ["linux", "windows"])
def test_the_readme_fits_a_screen(bundle: Bundle, target: str, system: str) -> None:
    from maskrt.core import Precision
    from maskrt.kit.texts import scripts

    place = Target.parse(target)
    if place.is_jetson and system == "windows":
        return
    places = places_of(place) if place.is_jetson else (Place("3.12", system),)
    made = scripts(bundle, place, Precision.FP16, places, 10**8)
    lines = made["README.md"].splitlines()
    assert len(lines) <= 35
    assert max(map(len, lines)) <= 100
    text = " ".join(made["README.md"].split())
    assert ("driver 580" in text) == (target in ("rtx-4090", "gpu"))
    assert ("JetPack" in text) == place.is_jetson
    if system == "windows":
        assert set(made) == {"README.md", "install.cmd", "smoke.cmd"}
        assert "--no-index" in made["install.cmd"]
        return
    for name in ("install.sh", "smoke.sh"):
        assert (
            subprocess.run(["sh", "-n"], input=made[name], text=True, check=False).returncode == 0
        )
    assert "--no-index" in made["install.sh"]


def test_install_refuses_another_machine_and_python(bundle: Bundle, tmp_path: Path) -> None:
    from maskrt.core import Precision
    from maskrt.kit.texts import scripts

    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for place, words in (
        (Place(here, machine="m68k"), "is for m68k machines"),
        (Place("3.7", machine=_machine()), "has packages for cp37, and"),
    ):
        folder = tmp_path / place.tag
        folder.mkdir()
        made = scripts(bundle, Target.parse("cpu"), Precision.FP32, [place], 1)
        (folder / "install.sh").write_text(made["install.sh"])
        done = subprocess.run(
            ["sh", str(folder / "install.sh")], env={"PYTHON": sys.executable, "PATH": _path()},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert words in done.stderr
        assert not (folder / "venv").exists()


def _machine() -> str:
    import platform

    return platform.machine()


def _path() -> str:
    import os

    return os.environ["PATH"]


def test_what_pip_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        returncode, stderr = 1, "Looking\nERROR: No matching distribution found for onnx\n"

    monkeypatch.setattr(wheelhouse.subprocess, "run", lambda *given, **more: Failed)
    with pytest.raises(MissingDependencyError, match=r"Python 3\.10 .*No matching distribution"):
        wheelhouse.fetch(Place("3.10"), tmp_path / "w")


def test_too_few_pictures_leave_no_kit(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    (images / "p0.png").unlink()
    with pytest.raises(UsageError, match="has 2 pictures that can be read"):
        make_kit(bundle, tmp_path / "kit", target="cpu", images=images, places=[])
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "cpu", "--kit", "k"], "add --images DIR"),
        (["--target", "cpu", "--target", "rtx", "--kit", "k", "--images", "i"], "one --target"),
        (["--target", "cpu", "--here", "--kit", "k", "--images", "i"], "one --target"),
        (["--target", "xavier", "--kit", "k", "--images", "i"], "no JetPack with TensorRT 10"),
        (["--target", "cpu", "--kit", ".", "--images", "i"], "exists"),
    ],
)
def test_what_makes_no_kit_is_refused_before_the_build(
    bundle: Bundle, words: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(bundle.path.parent)
    with pytest.raises(SystemExit) as ended:
        maskrt_main(["build", str(bundle.path), *words])
    assert ended.value.code in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())
    assert Bundle.open(bundle.path).engines() == []
    shutil.rmtree(bundle.path.parent / "k", ignore_errors=True)
