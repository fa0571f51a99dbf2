"""The ROS 2 node on stand-ins: pictures of every encoding, both answers, its parameters."""

import array
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputSpec, UsageError

from . import ros
from .painted import ROOT, Painted, example, loads, painted, session_of

SHOWN = painted((1, (10, 20, 50, 60)), (2, (30, 40, 90, 80)), size=(96, 128))
ORDERS = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 0]}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The node's module."""
    ros.install(monkeypatch)
    monkeypatch.setattr(ros.Node, "parameters", {"bundle": "street.maskrt"})
    return example("ros2/maskrt_ros/detector.py")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `maskrt.load` was asked for; it opens the painted detector."""
    return loads(monkeypatch, InputSpec(48, 64))


@pytest.fixture
def node(module: ModuleType, opened: list[Any]) -> Iterator[Any]:
    """A running node."""
    made = module.Detector()
    yield made
    made.destroy_node()


def _message(image: np.ndarray, encoding: str, padding: int = 0) -> Any:
    data = image[:, :, 0] if encoding == "mono8" else image[:, :, ORDERS[encoding]]
    rows = np.ascontiguousarray(data).reshape(len(image), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=17)
    message = ros.Image()
    message.header.frame_id = "camera"
    message.height, message.width = image.shape[:2]
    message.encoding, message.step = encoding, rows.shape[1]
    message.data = array.array("B", rows.tobytes())
    return message


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ORDERS)
def test_every_encoding_is_the_same_picture(
    module: ModuleType, encoding: str, padding: int
) -> None:
    found = module.pixels_of(_message(SHOWN, encoding, padding))
    np.testing.assert_array_equal(found, SHOWN)
    assert found.dtype == np.uint8


def test_grey_is_three_equal_channels(module: ModuleType) -> None:
    found = module.pixels_of(_message(SHOWN, "mono8", 3))
    np.testing.assert_array_equal(found, SHOWN[:, :, [0, 0, 0]])


def test_both_answers_say_what_a_session_finds(node: Any) -> None:
    ((kind, topic, look, qos),) = node.subscriptions
    assert (kind, topic, qos.depth, qos.reliability) == (ros.Image, "image", 1, "best effort")
    message = _message(SHOWN, "bgr8", 7)
    look(message)
    with session_of(Painted(InputSpec(48, 64))) as session:
        expected = session.predict(SHOWN)
    (detections,) = node.publishers["~/detections"].messages
    assert detections.header is message.header
    assert len(detections.detections) == len(expected) == 2
    for index, one in enumerate(detections.detections):
        (guess,) = one.results
        assert guess.hypothesis.class_id == expected.name_of(int(expected.labels[index]))
        assert guess.hypothesis.score == pytest.approx(float(expected.scores[index]))
        assert (one.id, one.header) == (str(index + 1), message.header)
        x, y = one.bbox.center.position.x, one.bbox.center.position.y
        width, height = one.bbox.size_x, one.bbox.size_y
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        np.testing.assert_allclose(box, expected.boxes[index], atol=1e-4)
    (picture,) = node.publishers["~/instances"].messages
    assert (picture.encoding, picture.is_bigendian, picture.step) == ("mono16", 0, 256)
    numbers = np.frombuffer(picture.data, "<u2").reshape(96, 128)
    assert expected.masks is not None
    wanted = np.where(expected.masks[0], 1, np.where(expected.masks[1], 2, 0))
    np.testing.assert_array_equal(numbers, wanted)
    assert (expected.masks[0] & expected.masks[1]).any()  # the best lies on top somewhere


def test_masks_are_made_for_listeners_alone(node: Any) -> None:
    node.publishers["~/instances"].listeners = 0
    node.look(_message(SHOWN, "rgb8"))
    assert len(node.publishers["~/detections"].messages) == 1
    assert node.publishers["~/instances"].messages == []


def test_a_picture_that_cannot_be_used_is_a_warning_and_the_next_one_is_looked_at(
    node: Any,
) -> None:
    wrong = _message(SHOWN, "rgb8")
    wrong.encoding = "16UC1"
    short = _message(SHOWN, "rgb8")
    short.data = short.data[:-1]
    narrow = _message(SHOWN, "rgb8")
    narrow.step = 100
    empty = _message(SHOWN, "rgb8")
    empty.height, empty.data = 0, array.array("B")
    for message in (wrong, short, narrow, empty):
        node.look(message)
    assert len(node.warnings) == 4
    assert "16UC1" in node.warnings[0]
    node.look(_message(SHOWN, "rgb8"))
    assert len(node.publishers["~/detections"].messages) == 1


def test_parameters_name_the_engine_and_the_score_can_be_set(
    module: ModuleType, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"bundle": "b.maskrt", "target": "orin-nx", "precision": "int8", "on_device": True}
    others = {"min_score": 0.85, "trust_key": "vendor.pub"}
    monkeypatch.setattr(ros.Node, "parameters", {**given, **others})
    node = module.Detector()
    assert opened == [{**given, "trust": "vendor.pub"}]
    node.look(_message(SHOWN, "rgb8"))
    for name, value, works in (("min_score", 1.5, False), ("target", "cpu", False),
                               ("min_score", 0.0, True)):  # fmt: skip
        answer = node.on_set([SimpleNamespace(name=name, value=value)])
        assert (answer.successful, bool(answer.reason)) == (works, not works)
    node.look(_message(SHOWN, "rgb8"))
    sent = node.publishers["~/detections"].messages
    assert [len(message.detections) for message in sent] == [1, 2]
    node.destroy_node()
    with pytest.raises(UsageError, match="closed"):
        node.session.predict(SHOWN)


def test_nothing_is_asked_of_the_best_target(module: ModuleType, opened: list[Any]) -> None:
    module.Detector().destroy_node()
    nothing = {"target": None, "precision": None, "on_device": False, "trust": False}
    assert opened == [{"bundle": "street.maskrt", **nothing}]


def test_the_package_declares_what_the_node_imports() -> None:
    folder = ROOT / "examples" / "ros2"
    package = ElementTree.parse(folder / "package.xml").getroot()
    needed = {entry.text for entry in package.iter("exec_depend")}
    text = (folder / "maskrt_ros" / "detector.py").read_text()
    imported = {
        line.split()[1].split(".")[0] for line in text.splitlines()
        if line.startswith(("import ", "from "))
    }  # fmt: skip
    python = {"array", "contextlib", "typing", "numpy", "maskrt"}
    assert imported - python == needed
    name = package.findtext("name")
    assert (folder / "resource" / str(name)).is_file()
    assert f'name="{name}"' in (folder / "setup.py").read_text()
