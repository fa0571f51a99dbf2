"""The demo: small trained models, the scenes that they were trained on, and the demo run.

In: nothing. Out: a bundle of the demo model, checked.
Imported by the command line; imports `pipeline` and what is below it.
"""

from pathlib import Path

__all__ = ["weights_path"]


def weights_path(model: str = "maskrcnn_scenes") -> Path:
    """Return the trained weights of a model of the zoo that ends in `_scenes`: FP16 safetensors.

    Made by `examples/scenes/train.py` and `train_family.py`, whose docstrings hold the commands and
    the accuracy reached.
    """
    return Path(__file__).with_name(f"{model}.safetensors")
