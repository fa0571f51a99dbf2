"""The families, as data: the first that matches a model exports it.

To add a one-stage family: a model (`one_stage.OneStage`), its graph (`one_stage.OneStageGraph`),
the
layouts of its checkpoints, one `OneStageFamily` here, and a name in `export/zoo`.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ...core import InputError, MaskrtError, UnsupportedModelError
from .condinst import CondInst
from .condinst_graph import CondInstGraph
from .condinst_weights import CONDINST_LAYOUTS
from .detectron2_layouts import refusal, remark
from .family import Family
from .grid_checkpoints import SOLO_LAYOUTS, SOLOV2_LAYOUTS
from .one_stage import OneStageFamily
from .solo import SOLO, SOLOGraph
from .solov2 import SOLOv2, SOLOv2Graph
from .torchvision_two_stage import TwoStageFamily
from .yolact import Yolact
from .yolact_graph import YolactGraph
from .yolact_weights import YOLACT_LAYOUTS
from .yolact_weights import classes_in as yolact_classes

__all__ = ["FAMILIES", "classes_in", "family_of", "refusal", "remark", "translate"]

FAMILIES: tuple[Family, ...] = (
    TwoStageFamily(),
    OneStageFamily(
        "yolact", "maskrt's YOLACT", Yolact, YolactGraph, YOLACT_LAYOUTS, yolact_classes
    ),
    OneStageFamily("condinst", "maskrt's CondInst", CondInst, CondInstGraph, CONDINST_LAYOUTS),
    OneStageFamily("solo", "maskrt's SOLO", SOLO, SOLOGraph, SOLO_LAYOUTS),
    OneStageFamily("solov2", "maskrt's SOLOv2", SOLOv2, SOLOv2Graph, SOLOV2_LAYOUTS),
)

# What arithmetic on tensors of the wrong shape raises.
_SHAPELESS = (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError)

_CLASSES = range(2, 100_000)  # with background; else a layer has sides that no detector's has


def family_of(model: nn.Module) -> Family:
    """Return the family that exports `model`.

    Raises:
        UnsupportedModelError: none does.
    """
    for family in FAMILIES:
        if family.matches(model):
            return family
    known = [family.models for family in FAMILIES]
    listed = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
    raise UnsupportedModelError(
        f"the model is a {type(model).__name__}, and this version compiles {listed}."
    )


def classes_in(weights: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes that weights of any family have, background included."""
    for family in FAMILIES:
        try:
            number = family.classes_in(weights)
        except _SHAPELESS:
            continue  # a layer has no sides: loading says so
        if number is not None and number in _CLASSES:
            return number
    return None


def translate(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return `weights` under the names of `model`, if its family knows them by others.

    Raises:
        InputError: they have the names of a known project and shapes that its model cannot have, or
            say that it means something else than `model`.
    """
    for family in FAMILIES:
        if family.matches(model):
            try:
                return family.translate(model, weights)
            except MaskrtError:
                raise
            except _SHAPELESS as error:
                why = str(error).partition("\n")[0][:120] or type(error).__name__
                raise InputError(
                    "the weights have the names of a model that is known, and shapes that it "
                    f"cannot have ({why}): give the file as it was trained."
                ) from error
    return weights
