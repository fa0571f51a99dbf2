"""Class names from a file to `inspect`, categories to `check`, and folders within folders to `run`.

The model is a small YOLO as its exporter writes it, so that a compilation takes a second.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from maskrt.checking.category_numbers import BY_FILE
from maskrt.checking.references import canonical_session
from maskrt.core import Bundle

from ..export.surgery.one_pass_files import SIZE, yolo11_file
from .command_line import run

_NAMES = ("ant", "bee", "cat", "dog", "elk")  # as the file's metadata has them
_WARNING = "there are no class names"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A folder with pictures, two subfolders of them, and `yolo.onnx` with and without names."""
    folder = tmp_path_factory.mktemp("classes")
    (folder / "pictures" / "more" / "deep").mkdir(parents=True)
    places = ("a.png", "more/b.png", "more/deep/c.png")
    for place, photo in zip(places, photos, strict=True):
        Image.fromarray(photo).resize(SIZE[::-1]).save(folder / "pictures" / place)
    (folder / "pictures" / "notes.txt").write_text("no picture")
    model = yolo11_file()
    onnx.save(model, str(folder / "named.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(folder / "nameless.onnx"))
    for name in ("named", "nameless"):
        words = ("compile", folder / f"{name}.onnx", "-o", folder / name, "--score-threshold", 0.5)
        assert run(*words) == 0
    return folder


def test_compile_warns_where_there_are_no_class_names(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compile", made / "nameless.onnx", "-o", tmp_path / "b") == 0
    shown = capsys.readouterr().out
    assert f"warning   {_WARNING}" in shown
    assert "give --class-names FILE" in shown
    (tmp_path / "names.txt").write_text("\n".join(("background", *_NAMES)))
    assert run("compile", made / "nameless.onnx", "-o", tmp_path / "b",
               "--class-names", tmp_path / "names.txt") == 0  # fmt: skip
    assert _WARNING not in capsys.readouterr().out
    assert run("compile", made / "named.onnx", "-o", tmp_path / "c") == 0
    assert _WARNING not in capsys.readouterr().out


def test_inspect_shows_the_classes(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", made / "named") == 0
    assert "classes   5: ant, bee, cat, dog, elk" in capsys.readouterr().out
    assert run("inspect", made / "nameless") == 0
    assert "classes   no names" in capsys.readouterr().out


def _annotated(made: Path, folder: Path, categories: list[str]) -> Path:
    """Write what FP32 finds as annotations, under ids from 11 and these names."""
    images, entries = [], []
    with canonical_session(Bundle.open(made / "named")) as session:
        for number, file in enumerate(sorted((made / "pictures").rglob("*.png")), 1):
            found = session.predict(file)
            name = str(file.relative_to(made / "pictures"))
            images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            for entry in found.to_coco(number):
                entry |= {"id": len(entries) + 1, "category_id": entry["category_id"] + 10}
                entries.append(entry)
    listed = [{"id": n, "name": name} for n, name in enumerate(categories, 11)]
    data = {"images": images, "annotations": entries, "categories": listed}
    file = folder / "annotations.json"
    file.write_text(json.dumps(data))
    return file


def test_check_takes_the_categories_of_a_file(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _annotated(made, tmp_path, ["formica", "apis", "felis", "canis", "alces"])
    words = ("check", "--images", made / "pictures", "--annotations", file)
    for name in ("named", "nameless"):
        assert run(*words, made / name) == 1
        refused = capsys.readouterr().err
        assert "category 11 ('formica')" in refused
        assert "say which is which in --categories." in refused
    which = {"formica": "ant", "apis": "BEE", "13": "cat", "canis": 4, "15": 5}
    (tmp_path / "categories.json").write_text(json.dumps(which))
    report = tmp_path / "report.json"
    said = (*words, "--categories", tmp_path / "categories.json", "--json", report)
    shutil.copytree(made / "named", tmp_path / "named")
    assert run(*said, tmp_path / "named") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert BY_FILE in shown
    assert json.loads(report.read_text())["reference"]["box"]["AP"] == pytest.approx(100, abs=0.1)
    wrong = {**which, "formica": "wasp"}
    (tmp_path / "categories.json").write_text(json.dumps(wrong))
    assert run(*said, tmp_path / "named") == 1
    assert "--categories says that 'formica' is 'wasp'" in capsys.readouterr().err
    shutil.copytree(made / "nameless", tmp_path / "nameless")
    data = json.loads(file.read_text())
    for entry in data["annotations"]:
        entry["category_id"] -= 10
        entry |= {"bbox": [0, 0, 3, 3], "segmentation": [[0, 0, 3, 0, 3, 3, 0, 3]]}  # not found
    data["categories"] = [{"id": n, "name": f"c{n}"} for n in range(1, 6)]
    file.write_text(json.dumps(data))
    assert run(*words, tmp_path / "nameless") == 0
    asked = " ".join(capsys.readouterr().out.split())
    assert "Are the model's labels numbered as the data set's categories" in asked
    assert (
        "compile with --class-names, or say which category is which label in --categories" in asked
    )


def test_run_searches_subfolders_where_it_is_told_to(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", made / "named", made / "pictures", "-o")
    assert run(*words, tmp_path / "flat") == 0
    shown = capsys.readouterr().out
    assert "in 1 picture:" in shown
    assert "1 file, no picture by its ending: notes.txt; 1 subfolder, not searched: more" in shown
    assert run(*words, tmp_path / "deep", "--recursive") == 0
    shown = capsys.readouterr().out
    assert "in 3 pictures:" in shown
    assert "not searched" not in shown
    assert len(list((tmp_path / "deep").rglob("*.png"))) == 3
