"""Wrong words cost no import of torch: each verb refuses them first, whoever they are said to.

The words run in one child process that has imported what every verb needs, each in a fork of it.
"""

import json
import subprocess
import sys

import pytest
from PIL import Image

from maskrt.core import Bundle, InputSpec, Manifest

pytest.importorskip("torchvision")
pytestmark = pytest.mark.torch

_MASK_RCNN = "torchvision:maskrcnn_resnet50_fpn"
_FORKS = """
import contextlib, importlib, io, json, os, sys
import maskrt.measurement, maskrt.pipeline, maskrt.running.bench, maskrt.export.surgery
from maskrt.cli import main
from maskrt.cli.verbs import _VERBS
for verb in _VERBS:
    importlib.import_module(f"maskrt.cli.{verb}")
for number, words in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        said, code = io.StringIO(), None
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(words)
            except SystemExit as ended:
                code = ended.code
        heavy = [name for name in ("torch", "torchvision") if name in sys.modules]
        print(json.dumps([code, heavy, said.getvalue()]), flush=True)
        os._exit(0)
    os.wait()
"""
_ANNOTATED = {
    "images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9]}],
    "categories": [{"id": 1, "name": "ant"}],
}
_MODEL = {
    "torchvision:maskrcnn_resnet50 -o o": (2, "did you mean maskrcnn_resnet50_fpn"),
    "resnet -o o": (2, "is not understood"),
    "maskrt:nothing -o o": (2, "maskrt has no model"),
    "no.such.module:f -o o": (2, "cannot be imported: No module named 'no'"),
    "runs/best.pth -o o": (2, "is a file of weights"),
    f"{_MASK_RCNN} -o o --weights absent.pth": (1, "weights absent.pth do not exist"),
    f"{_MASK_RCNN} -o o --input-size 16 320": (2, "input height is 16"),
    f"{_MASK_RCNN} -o o --batch 0": (2, "batch is 0"),
    f"{_MASK_RCNN} -o o --num-classes 1": (2, "1 is not in the range"),
    f"{_MASK_RCNN} -o o --class-names absent.txt": (2, "absent.txt does not exist"),
    f"{_MASK_RCNN} -o o --mean 1 2 3 --std 1 2 3": (2, "--mean and --std says"),
    f"{_MASK_RCNN} -o o --outputs yolo-seg": (2, "is for an ONNX file"),
    f"{_MASK_RCNN} -o full": (2, "is not a bundle"),
    "absent.onnx -o o": (1, "absent.onnx does not exist"),
    "absent.onnx -o o --weights w.pth": (2, "holds its own weights"),
}
_WORDS = {
    **{f"compile {words}": ends for words, ends in _MODEL.items()},
    **{f"export {words}": ends for words, ends in list(_MODEL.items())[:7]},
    f"export {_MASK_RCNN}": (2, "-o says where"),
    f"compile {_MASK_RCNN} -o o --precision int8": (2, "give their folder as --calibration"),
    f"compile {_MASK_RCNN} -o o --calibration absent": (1, "absent does not exist"),
    f"compile {_MASK_RCNN} -o o --target nope": (2, "'nope' is unknown"),
    f"compile {_MASK_RCNN} -o o --max-ap-drop 1": (2, "give both"),
    f"compile {_MASK_RCNN} -o o --max-ap-drop 1 --images p --annotations no": (1, "no does not"),
    f"compile {_MASK_RCNN} -o o --keep x=int4": (2, "'int4' is not one of"),
    "calibrate absent --calibration p": (1, "so it is not a bundle"),
    "calibrate b --calibration absent": (1, "absent does not exist"),
    "recipe absent": (1, "so it is not a bundle"),
    "build b --target nope": (2, "'nope' is unknown"),
    "run b absent.png": (1, "no engine"),
    "check b --images p --annotations absent": (1, "absent does not exist"),
    "check b --images p --annotations a.json --weights absent.pth": (1, "do not exist"),
    "check b --images p --annotations a.json --weights w.pth": (1, "are not the file"),
    "check b --images p --annotations a.json --model a:b": (2, "says nothing without"),
    "check b --images p --annotations a.json --store-reference --weights no": (1, "do not exist"),
    "check b --images p --annotations a.json --target nope": (2, "'nope' is unknown"),
    "bench b --weights absent.pth": (1, "do not exist"),
    "bench b --target nope": (2, "'nope' is unknown"),
    "package b": (2, "give --triton or --deepstream"),
    "report absent": (1, "so it is not a bundle"),
    "sign absent --key absent.key": (1, "absent"),
    "verify absent": (1, "absent"),
    "inspect absent.onnx": (1, "does not exist"),
    "doctor absent": (1, ""),
    "demo -o full": (2, "is not a bundle"),
    "models extra": (2, "unexpected extra argument"),
    "targets extra": (2, "unexpected extra argument"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str], str]]:
    """How each of `_WORDS` ends: status, what heavy was imported, standard error."""
    folder = tmp_path_factory.mktemp("early")
    for name in ("p", "full"):
        (folder / name).mkdir()
        (folder / name / "note.txt").write_text("no picture")
    (folder / "w.pth").write_bytes(b"other weights")
    Image.new("RGB", (40, 40)).save(folder / "p/1.png")
    (folder / "a.json").write_text(json.dumps(_ANNOTATED))
    source = {"model": _MASK_RCNN, "weights": {"file": "w.pth", "sha256": "0" * 64}}
    outputs = {"boxes": (1, 4, 4), "scores": (1, 4), "labels": (1, 4), "count": (1,)}
    with Bundle.create(folder / "b", Manifest("test", InputSpec(64, 64), outputs, source=source)):
        pass
    given = json.dumps([words.split() for words in _WORDS])
    ran = subprocess.run(
        [sys.executable, "-c", _FORKS], input=given, cwd=folder, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    lines = map(json.loads, ran.stdout.splitlines())
    return dict(zip(_WORDS, lines, strict=True))


@pytest.mark.parametrize("words", _WORDS)
def test_wrong_words_are_refused_before_torch_is_imported(
    words: str, ends: dict[str, tuple[int, list[str], str]]
) -> None:
    status, sentence = _WORDS[words]
    code, heavy, said = ends[words]
    assert (code, heavy) == (status, []), said
    assert sentence in said
    assert "defect" not in said


def test_each_verb_is_asked() -> None:
    from maskrt.cli.verbs import _VERBS

    assert {words.split()[0] for words in _WORDS} == set(_VERBS)


def test_names_of_torchvisions_detectors_are_its_own() -> None:
    from torchvision.models import detection, list_models

    from maskrt.export.asked import _torchvision_detectors

    assert _torchvision_detectors() == sorted(list_models(module=detection))
