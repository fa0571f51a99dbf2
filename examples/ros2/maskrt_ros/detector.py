"""A node that finds instances in the newest camera picture; topics and parameters: README.md.

The subscription keeps one picture, and the node runs one at a time, so what it looks at is never
older than one run of the engine.
"""

import array
import contextlib
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

import maskrt

_CHANNELS = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}
_NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)


class Detector(Node):
    """Subscribes to pictures, publishes detections and instance numbers."""

    def __init__(self) -> None:
        """Open the engine that the parameters name.

        Raises:
            MaskrtError: it cannot be opened.
        """
        super().__init__("maskrt_detector")
        bundle = self.declare_parameter("bundle", "").value
        target = self.declare_parameter("target", "").value
        precision = self.declare_parameter("precision", "").value
        trust_key = self.declare_parameter("trust_key", "").value
        on_device = self.declare_parameter("on_device", False).value
        self._min_score = float(self.declare_parameter("min_score", 0.5).value)
        self.session = maskrt.load(
            bundle,
            target or None,
            precision=precision or None,
            on_device=bool(on_device),
            trust=trust_key or False,
        )
        self.add_on_set_parameters_callback(self._set)
        self._detections = self.create_publisher(Detection2DArray, "~/detections", 10)
        self._instances = self.create_publisher(Image, "~/instances", 10)
        self.create_subscription(Image, "image", self.look, _NEWEST)
        self.get_logger().info(f"{self.session!r} is ready")

    def look(self, message: Image) -> None:
        """Publish what is in a picture; one that cannot be used is a warning."""
        try:
            found = self.session.predict(pixels_of(message), min_score=self._min_score)
        except (maskrt.MaskrtError, ValueError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        self._detections.publish(detections_of(found, message.header))
        if self._instances.get_subscription_count():  # masks are pasted for who listens
            self._instances.publish(numbers_of(found, message.header))

    def destroy_node(self) -> None:
        """Close the engine with the node."""
        self.session.close()
        super().destroy_node()

    def _set(self, parameters: list[Any]) -> SetParametersResult:
        """Take a new `min_score`; the engine's own cannot change while it runs."""
        for parameter in parameters:
            if parameter.name != "min_score":
                return SetParametersResult(
                    successful=False, reason=f"{parameter.name} is read when the node starts"
                )
            if not 0 <= parameter.value <= 1:
                return SetParametersResult(successful=False, reason="min_score is of 0 to 1")
        for parameter in parameters:
            self._min_score = float(parameter.value)
        return SetParametersResult(successful=True)


def pixels_of(message: Image) -> np.ndarray:
    """Return a message's picture, uint8 `[H, W, 3]` RGB; its rows may be padded.

    Raises:
        ValueError: its encoding is another, or it has fewer bytes than it says.
    """
    if message.encoding not in _CHANNELS:
        raise ValueError(
            f"pictures are {message.encoding}, and the node takes {', '.join(_CHANNELS)}: convert "
            "them with image_proc."
        )
    channels, order = _CHANNELS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if step < width * channels or len(message.data) < height * step:
        raise ValueError(
            f"a picture of {height} x {width} with rows of {step} bytes has {len(message.data)}."
        )
    data = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)
    return data[:, : width * channels].reshape(height, width, channels)[:, :, order]


def detections_of(found: maskrt.Instances, header: Any) -> Detection2DArray:
    """Return the instances as a message, the best first; `id` is their number, from 1."""
    answer = Detection2DArray()
    answer.header = header
    for number, (box, score, label) in enumerate(
        zip(found.boxes, found.scores, found.labels, strict=True), 1
    ):
        x0, y0, x1, y1 = (float(value) for value in box)
        guess = ObjectHypothesisWithPose()
        guess.hypothesis.class_id = found.name_of(int(label))
        guess.hypothesis.score = float(score)
        one = Detection2D()
        one.header = header
        one.id = str(number)
        one.results = [guess]
        one.bbox.center.position.x = (x0 + x1) / 2
        one.bbox.center.position.y = (y0 + y1) / 2
        one.bbox.size_x = x1 - x0
        one.bbox.size_y = y1 - y0
        answer.detections.append(one)
    return answer


def numbers_of(found: maskrt.Instances, header: Any) -> Image:
    """Return a picture of instance numbers, mono16, little-endian; 0 is none."""
    height, width = found.image_size
    numbers = np.zeros((height, width), np.dtype("<u2"))
    order = np.arange(len(found))[::-1]  # the best last, on top
    for index, (top, left, inside) in zip(order, found.each_crop(order), strict=False):
        part = numbers[top : top + inside.shape[0], left : left + inside.shape[1]]
        part[inside] = index + 1
    answer = Image()
    answer.header = header
    answer.height, answer.width = height, width
    answer.encoding, answer.is_bigendian, answer.step = "mono16", 0, 2 * width
    answer.data = array.array("B", numbers.tobytes())
    return answer


def main() -> None:
    """Run the node until it is told to end."""
    rclpy.init()
    node = Detector()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
