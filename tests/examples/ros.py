"""Stand-ins for rclpy and the messages, as strict as generated messages are.

A field that a message has not, or of another type, is refused, as in the Python classes that
`rosidl` makes. Fields by common_interfaces and vision_msgs 4 (Humble, Jazzy).
"""

import array
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

__all__ = ["Published", "install"]


def _message(name: str, **fields: type) -> type:
    """Return a message class; a field's type is also how its default is made."""

    def start(self: Any) -> None:
        for field, kind in fields.items():
            object.__setattr__(self, field, array.array("B") if kind is array.array else kind())

    def write(self: Any, field: str, value: Any) -> None:
        assert field in fields, f"{name} has no field {field}"
        kind = fields[field]
        assert type(value) is kind or (
            kind not in (int, float, str, bool) and isinstance(value, kind)
        ), f"{name}.{field} is {kind.__name__}, and was given {type(value).__name__}"
        object.__setattr__(self, field, value)

    return type(name, (), {"__init__": start, "__setattr__": write, "__slots__": tuple(fields)})


Header = _message("Header", stamp=int, frame_id=str)
Image = _message("Image", header=Header, height=int, width=int, encoding=str, is_bigendian=int,
                 step=int, data=array.array)  # fmt: skip
Point2D = _message("Point2D", x=float, y=float)
Pose2D = _message("Pose2D", position=Point2D, theta=float)
BoundingBox2D = _message("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
ObjectHypothesis = _message("ObjectHypothesis", class_id=str, score=float)
Pose = _message("Pose")
ObjectHypothesisWithPose = _message(
    "ObjectHypothesisWithPose", hypothesis=ObjectHypothesis, pose=Pose
)
Detection2D = _message("Detection2D", header=Header, results=list, bbox=BoundingBox2D, id=str)
Detection2DArray = _message("Detection2DArray", header=Header, detections=list)


@dataclass
class SetParametersResult:
    successful: bool = False
    reason: str = ""


@dataclass
class Published:
    """A publisher: its type, its topic, and what was published."""

    kind: type
    topic: str
    listeners: int
    messages: list[Any]

    def publish(self, message: Any) -> None:
        assert type(message) is self.kind
        self.messages.append(message)

    def get_subscription_count(self) -> int:
        return self.listeners


class Node:
    """A node whose parameters are the class's, set by a test."""

    parameters: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name, self.warnings, self.subscriptions = name, list[str](), list[Any]()
        self.publishers: dict[str, Published] = {}
        self.on_set: Callable[[list[Any]], SetParametersResult] | None = None

    def declare_parameter(self, name: str, default: Any) -> Any:
        value = self.parameters.get(name, default)
        assert type(value) is type(default), name  # parameters are typed by their declaration
        return SimpleNamespace(name=name, value=value)

    def add_on_set_parameters_callback(self, call: Any) -> None:
        self.on_set = call

    def create_publisher(self, kind: type, topic: str, depth: int) -> Published:
        assert depth > 0
        self.publishers[topic] = Published(kind, topic, 1, [])
        return self.publishers[topic]

    def create_subscription(self, kind: type, topic: str, call: Any, qos: Any) -> None:
        self.subscriptions.append((kind, topic, call, qos))

    def get_logger(self) -> Any:
        def warning(text: str, throttle_duration_sec: float = 0.0) -> None:
            self.warnings.append(text)

        return SimpleNamespace(info=lambda text: None, warning=warning)

    def destroy_node(self) -> None:
        self.name = ""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-ins where the node imports from."""
    modules: dict[str, dict[str, Any]] = {
        "rclpy": {"init": lambda: None, "spin": lambda node: None, "try_shutdown": lambda: None},
        "rclpy.node": {"Node": Node},
        "rclpy.executors": {"ExternalShutdownException": type("Ended", (Exception,), {})},
        "rclpy.qos": {
            "QoSProfile": lambda **given: SimpleNamespace(**given),
            "HistoryPolicy": SimpleNamespace(KEEP_LAST="keep last"),
            "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
        },
        "rcl_interfaces": {},
        "rcl_interfaces.msg": {"SetParametersResult": SetParametersResult},
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Image},
        "vision_msgs": {},
        "vision_msgs.msg": {
            "Detection2D": Detection2D,
            "Detection2DArray": Detection2DArray,
            "ObjectHypothesisWithPose": ObjectHypothesisWithPose,
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        for key, value in content.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)
