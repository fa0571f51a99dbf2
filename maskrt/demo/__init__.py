"""The demo: small trained models, the scenes that they were trained on, and the demo run.

In: nothing. Out: a bundle of the demo model, checked.
Imported by the command line; imports `pipeline` and what is below it.

The weights are 24 MB and lie in the repository alone: an installed maskrt has the code, and is told
where they are.
"""

from pathlib import Path

from ..core import InputError

__all__ = ["weights_path"]


def weights_path(model: str = "maskrcnn_scenes") -> Path:
    """Return the trained weights of a model of the zoo that ends in `_scenes`: FP16 safetensors.

    Made by `examples/scenes/train.py` and `train_family.py`, whose docstrings hold the commands and
    the accuracy reached.

    Raises:
        InputError: this maskrt was installed without them.
    """
    file = Path(__file__).with_name(f"{model}.safetensors")
    if not file.is_file():
        raise InputError(
            f"the trained weights {file.name} are in maskrt's repository and not in an installed "
            "package: clone the repository and run make demo there, or pip install --editable . in "
            "it."
        )
    return file
