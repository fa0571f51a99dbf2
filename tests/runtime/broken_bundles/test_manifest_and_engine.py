"""A manifest that is not the one an engine was built with is refused before a picture is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maskrt
from maskrt.core import Bundle, BundleError, InputSpec, MaskrtError, UsageError

pytest.importorskip("onnxruntime")


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["input"].update(pad_value=[125, 116, 104]),
        lambda m: m["input"].update(height=m["input"]["height"] + 1),
        lambda m: m["input"].update(batch=2),
        lambda m: m.update(class_names=["background", *"abcdefgh"]),
        lambda m: m.update(mask_paste="detectron2", format_version=2),
        lambda m: m["outputs"].update(boxes=[1, 5, 4]),
        lambda m: m["input"].update(placing="centre", resampling="antialiased"),
    ],
)
def test_one_value_of_what_an_engine_depends_on(whole: Path, change: Any) -> None:
    _edit(whole, change)
    with pytest.raises(BundleError, match="is not the one that engines/cpu was built with"):
        maskrt.load(whole, "cpu")


def test_what_it_does_not_depend_on_may_differ(whole: Path) -> None:
    _edit(whole, lambda m: m.update(fidelity={"pictures": 9}, source={"model": "another"}))
    maskrt.load(whole, "cpu").close()


def test_an_older_engine_is_held_to_the_shape_that_its_graph_takes(whole: Path) -> None:
    with Bundle.open(whole).edit() as staged:
        info = staged.read_json("engines/cpu/engine.json")
        del info["sha256"]["interface"]
        staged.write("engines/cpu/engine.json", info)
    maskrt.load(whole, "cpu").close()
    _edit(whole, lambda m: m["input"].update(width=m["input"]["width"] * 2))
    with pytest.raises(BundleError, match="engines/cpu takes pictures"):
        maskrt.load(whole, "cpu")


@pytest.mark.parametrize("value", [[-1, 0, 0], [0, 256, 0], [0, 0, 10**30], [0, 0]])
def test_a_filling_that_is_no_colour(whole: Path, value: list[int]) -> None:
    _edit(whole, lambda m: m["input"].update(pad_value=value))
    with pytest.raises(MaskrtError):
        Bundle.open(whole)
    if len(value) == 3:
        with pytest.raises(UsageError, match="three integers of 0 to 255"):
            InputSpec(64, 64, 1, (value[0], value[1], value[2]))
