"""What the command line says of a damaged bundle: one sentence, and nothing written."""

from pathlib import Path

import pytest

from maskrt.cli import main

from .damage import INFO, Break, _link_file, change_manifest, forge, forge_json, state

pytest.importorskip("onnxruntime")


def _break_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"[]")


def _break_path(path: Path) -> None:
    change_manifest(path, lambda data: data["files"].update({"../secret.txt": "0" * 64}))


def _break_recipe(path: Path) -> None:
    forge_json(path, "recipe.json", lambda data: data.update(precision="int3"))


def _break_graph(path: Path) -> None:
    forge(path, "model.onnx", b"not a graph")


def _break_info(path: Path) -> None:
    forge(path, INFO, b"[]")


def _empty_info(path: Path) -> None:
    forge(path, INFO, b"{}")


@pytest.mark.parametrize(
    ("damage", "verb"),
    [
        (_break_manifest, ["inspect"]),
        (_break_manifest, ["build", "--target", "cpu"]),
        (_break_path, ["inspect"]),
        (_break_path, ["build", "--target", "cpu"]),
        (_break_recipe, ["build", "--target", "cpu"]),
        (_break_recipe, ["inspect"]),
        (_break_graph, ["build", "--target", "cpu"]),
        (_break_graph, ["inspect"]),
        (_break_info, ["inspect"]),
        (_empty_info, ["inspect"]),
        (_link_file, ["inspect"]),
    ],
)
def test_command_line(
    whole: Path, damage: Break, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(whole)
    before = state(whole.parent)
    with pytest.raises(SystemExit) as ended:
        main([verb[0], str(whole), *verb[1:]])
    said = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code in (1, 2)
    assert said[-1].startswith("error: ")
    assert not any("Traceback" in line or "a defect in maskrt" in line for line in said)
    assert state(whole.parent) == before
