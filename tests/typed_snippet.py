"""What an editor is to know of maskrt: checked by mypy, never run (`test_public_interface.py`)."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import assert_type

import maskrt
from maskrt import Bundle, Frame, Inspection, Instances, Report, Session


def compiled(files: list[Path], array: np.ndarray, picture: Image.Image) -> None:
    bundle = maskrt.compile("maskrt:maskrcnn_scenes", "out.maskrt", targets=["cpu"])
    assert_type(bundle, Bundle)
    assert_type(maskrt.export_bundle("maskrt:solo_scenes", "solo.maskrt"), Bundle)
    with maskrt.load(bundle, target="cpu") as session:
        assert_type(session, Session)
    assert_type(session.predict("street.jpg"), Instances)
    assert_type(session.predict(array), Instances)
    assert_type(session.predict(picture), Instances)
    assert_type(session.predict(files), list[Instances])
    assert_type(session.predict((array, array)), list[Instances])
    assert_type(session.predict(["a.jpg", array]), list[Instances])
    boxes = session.predict("street.jpg").boxes
    boxes.shape  # noqa: B018
    for frame in session.predict_stream(files):
        assert_type(frame, Frame)
        assert_type(frame.result(), Instances)
        assert_type(frame.instances, Instances | None)
    report = maskrt.check(bundle, images="val/", annotations="val.json")
    assert_type(report, Report)
    assert_type(report.metrics["mask"]["AP"], float | None)


def verbs(bundle: Bundle) -> None:
    assert_type(maskrt.inspect(bundle), Inspection)
    assert_type(maskrt.bench(bundle), maskrt.Bench)
    assert_type(maskrt.bench_engines(bundle, ["cpu@int8"]), maskrt.Benches)
    assert_type(maskrt.run(bundle, "pictures/", "out").annotations, list[dict[str, Any]])
    assert_type(maskrt.package(bundle, triton="models").folder, Path)
    assert_type(maskrt.targets()[0].target, maskrt.Target)
    assert_type(maskrt.models(), tuple[maskrt.ModelFacts, ...])
    assert_type(maskrt.doctor().healthy, bool)
    assert_type(maskrt.recipe(bundle).layers["head"].precision, maskrt.Precision)
    assert_type(maskrt.write_inlined(bundle, "plain.onnx"), Path)


def mistakes(session: Session) -> None:
    session.predict(3)  # wrong: call-overload
    session.predict("street.jpg").boxen  # noqa: B018  # wrong: attr-defined
    maskrt.nonsense  # noqa: B018  # wrong: attr-defined
    maskrt.load(3)  # wrong: arg-type
