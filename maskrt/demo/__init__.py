"""The demo: a small trained Mask R-CNN, the scenes that it was trained on, and the demo run."""

from pathlib import Path

__all__ = ["weights_path"]


def weights_path() -> Path:
    """Return the trained weights of `maskrcnn_scenes`: FP16 safetensors, at most 8 MB.

    Made by `examples/scenes/train.py`, whose docstring holds the command and the accuracy reached.
    """
    return Path(__file__).with_name("maskrcnn_scenes.safetensors")
