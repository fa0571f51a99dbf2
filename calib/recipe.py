"""The recipe: precision as data. What `recipe.json` holds, and every rendering reads.

    {"format_version": 3, "graph": <fingerprint>, "precision": "int8", "rest": "fp32",
     "method": "minmax", "calibration": {"pictures": 100},
     "tensors": {<tensor>: {"min": -2.1, "max": 2.6, "scales": {"minmax": 0.0207, "mse": 0.0189}}},
     "layers":  {<layer>: {"precision": "int8", "reason": "as asked", "refuses": {}}},
     "factors": {<tensor>: [1.2, ...]}, "corrections": {<layer>: [0.01, ...]},
     "original": {"tensors": {...}, "refuses": {<layer>: {"fp16": <reason>}}}}

Ranges and scales are facts about the model; `precision` and the layers' precisions are choices.
`with_precision` changes the choices and keeps the facts, so one calibration serves every engine.
`factors` and `corrections`, both mostly absent, are what INT8 was improved by: see `improved`. A
recipe that has them says format version 4, so that no program ignores them. A layer that a user
keeps wide (`kept.py`) has `"kept": "fp16"`, its recipe format version 6. With `factors`, tensors
and layers are those of the equalised graph, which only INT8 is rendered from; `original` has the
facts of the graph that was exported, and every other precision is chosen by them. The recipe that a
TensorRT-RTX engine was rendered from lies beside it, with `"weight_scales": "tensor"`: a scale for
each weight instead of each output channel (`tensorrt_rtx.py`), format version 5. `"others"` tells
of nodes that are no layers where they compute and why (`others.py`); nothing is rendered by it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from ..core import InputError, Precision, UsageError
from ..core.recipe_file import RecipeFile
from ..core.typed_files import believed
from .fingerprint import fingerprint
from .methods import METHODS
from .others import Others, others_from_json, others_to_json
from .scales import LARGEST_FP16

__all__ = ["Facts", "LayerChoice", "Recipe", "TensorScale"]

FORMAT_VERSION, IMPROVED_FORMAT_VERSION, PER_TENSOR_FORMAT_VERSION = 3, 4, 5
KEPT_FORMAT_VERSION = 6
MINMAX = "minmax"
PER_CHANNEL, PER_TENSOR = "channel", "tensor"
_AS_ASKED = "as asked"


@dataclass(frozen=True)
class TensorScale:
    """What is known about one activation tensor.

    Attributes:
        minimum: smallest value seen in calibration.
        maximum: largest value seen.
        scales: calibration method -> scale of the symmetric grid of 127 levels a side.
    """

    minimum: float
    maximum: float
    scales: Mapping[str, float]

    @property
    def amax(self) -> float:
        """Largest magnitude seen."""
        return max(abs(self.minimum), abs(self.maximum))


@dataclass(frozen=True)
class LayerChoice:
    """The precision of one layer, and why.

    Attributes:
        precision: what it computes in.
        reason: one clause.
        refuses: precisions that it may not have, each with the reason.
        kept: what a user keeps it at in every recipe that asks for narrower; None for nothing.
    """

    precision: Precision
    reason: str = _AS_ASKED
    refuses: Mapping[Precision, str] = field(default_factory=dict)
    kept: Precision | None = None

    def asked(self, precision: Precision, rest: Precision) -> "LayerChoice":
        """Return the choice for `precision`; for `rest`, then FP32, where the layer refuses it.

        A layer that is kept has what it is kept at, or FP32 where it refuses that.
        """
        if self.kept is not None and self.kept.bits > precision.bits:
            if self.kept in self.refuses:
                return replace(self, precision=Precision.FP32, reason=self.refuses[self.kept])
            return replace(self, precision=self.kept, reason=f"kept at {self.kept}")
        like = precision
        if precision is Precision.FP8 and precision not in self.refuses:
            like = Precision.INT8  # what no INT8 kernel takes, no FP8 kernel takes
        if like not in self.refuses:
            return replace(self, precision=precision, reason=_AS_ASKED)
        wider = Precision.FP32 if rest in self.refuses else rest
        return replace(self, precision=wider, reason=self.refuses[like])


@dataclass(frozen=True)
class Facts:
    """What calibration found out about a graph: all of a recipe that is no choice.

    Attributes:
        tensors: tensor name -> range and scales.
        refuses: layer name -> precisions that it may not have, each with the reason.
    """

    tensors: Mapping[str, TensorScale]
    refuses: Mapping[str, Mapping[Precision, str]]


@dataclass(frozen=True)
class Recipe:
    """Scales of all tensors and precisions of all layers of one graph.

    Attributes:
        graph: fingerprint of the graph that it is for.
        precision: what was asked for the model as a whole.
        layers: layer name -> its precision and reason.
        tensors: tensor name -> range and scales; empty if nothing was calibrated.
        rest: what an INT8 model computes in where it is not INT8: FP32 or FP16.
        method: which of the tensors' scales is used.
        calibration: how the ranges were found, such as `{"pictures": 100}`.
        factors: tensor -> divisor of each channel: the ranges are those of the equalised graph.
        corrections: layer -> what its bias is lowered by in INT8, with the scales of `method`.
        original: with `factors`, the facts of the graph before it was equalised.
        weight_scales: "channel", or "tensor" for TensorRT-RTX, which then quantises no skip branch.
        others: kind → nodes that are no layers and stay FP32, such as softmax.
    """

    graph: str
    precision: Precision
    layers: Mapping[str, LayerChoice]
    tensors: Mapping[str, TensorScale] = field(default_factory=dict)
    rest: Precision = Precision.FP32
    method: str = MINMAX
    calibration: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    original: Facts | None = None
    weight_scales: str = PER_CHANNEL
    others: Mapping[str, Others] = field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """What is known of the graph that `tensors` and `layers` are of."""
        return Facts(self.tensors, {name: choice.refuses for name, choice in self.layers.items()})

    def scale(self, tensor: str) -> float:
        """Return the scale of `tensor` on the symmetric grid.

        Raises:
            InputError: the tensor was not calibrated.
        """
        if tensor not in self.tensors:
            raise InputError(
                f"tensor {tensor} has no scale in the recipe: calibrate the model again."
            )
        return self.tensors[tensor].scales[self.method]

    def with_precision(self, precision: Precision, *, rest: Precision = Precision.FP32) -> "Recipe":
        """Return the recipe of the same calibration for another precision.

        Improvements are for INT8 layers, and stay behind where it is asked for none.

        Args:
            precision: what every layer gets that does not refuse it; mixed is INT8 with FP16 for
                the rest, to be widened.
            rest: what the others get, and what an INT8 model computes in between its layers.

        Raises:
            UsageError: INT8 is asked for and nothing was calibrated, or `rest` is INT8.
        """
        if rest not in (Precision.FP32, Precision.FP16):
            raise UsageError(
                f"rest is {rest}, and must be fp32 or fp16: it is what is not {precision}."
            )
        if precision.is_quantised and not self.tensors:
            raise UsageError(
                f"an {precision.value.upper()} recipe needs calibration pictures: run maskrt "
                "calibrate first."
            )
        if precision is Precision.MIXED:
            rest = Precision.FP16
        if self.original is not None and precision not in (Precision.INT8, Precision.MIXED):
            return self._not_equalised(self.original).with_precision(precision, rest=rest)
        wanted = Precision.INT8 if precision is Precision.MIXED else precision
        layers = {name: choice.asked(wanted, rest) for name, choice in self.layers.items()}
        return replace(self, precision=precision, rest=rest, layers=layers)

    def _not_equalised(self, original: Facts) -> "Recipe":
        layers = {
            name: LayerChoice(Precision.FP32, refuses=refuses, kept=self.layers[name].kept)
            for name, refuses in original.refuses.items()
        }
        return replace(
            self, tensors=original.tensors, layers=layers, factors={}, corrections={}, original=None
        )

    def widen(self, names: Collection[str], reason: str) -> "Recipe":
        """Return the recipe with the layers `names` in `rest`, or FP32 where they refuse that.

        Args:
            names: of layers; those that are not INT8 stay as they are.
            reason: one clause, said of each of them.
        """
        layers = dict(self.layers)
        for name in names:
            choice = layers[name]
            if choice.precision is Precision.INT8:
                wider = Precision.FP32 if self.rest in choice.refuses else self.rest
                layers[name] = replace(choice, precision=wider, reason=reason)
        return replace(self, layers=layers)

    def narrow_layers(self) -> list[str]:
        """Return the names of the layers that are INT8, in graph order."""
        return [n for n, choice in self.layers.items() if choice.precision is Precision.INT8]

    def with_method(self, method: str) -> "Recipe":
        """Return the recipe with the scales of another calibration method.

        Corrections were measured with the scales of one method, and go with them.

        Raises:
            UsageError: the method is unknown, or its scales were not made.
        """
        if method not in METHODS:
            raise UsageError(f"method {method!r} is not one of {', '.join(METHODS)}.")
        known = [*self.tensors.values(), *(self.original.tensors.values() if self.original else ())]
        if any(method not in tensor.scales for tensor in known):
            raise UsageError(
                f"the recipe has no scales of method {method}: run maskrt calibrate again."
            )
        corrections = self.corrections if method == self.method else {}
        return replace(self, method=method, corrections=corrections)

    def beyond_fp16(self) -> frozenset[str]:
        """Return the tensors that had a magnitude in calibration which FP16 cannot hold."""
        return frozenset(n for n, t in self.tensors.items() if t.amax > LARGEST_FP16)

    def check_fits(self, model: onnx.ModelProto) -> None:
        """Raise `InputError` unless the recipe was made for `model`."""
        found = fingerprint(model)
        if found != self.graph:
            raise InputError(
                f"the recipe is for graph {self.graph} and the model is graph {found}: "
                "calibrate this model."
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is its exact inverse."""
        improvements = {
            name: {key: list(values) for key, values in found.items()}
            for name, found in (("factors", self.factors), ("corrections", self.corrections))
            if found
        }
        version = IMPROVED_FORMAT_VERSION if improvements else FORMAT_VERSION
        per_tensor = self.weight_scales == PER_TENSOR
        version = PER_TENSOR_FORMAT_VERSION if per_tensor else version
        kept = any(choice.kept is not None for choice in self.layers.values())
        return {
            "format_version": KEPT_FORMAT_VERSION if kept else version,
            "graph": self.graph,
            "precision": self.precision.value,
            "rest": self.rest.value,
            "method": self.method,
            "calibration": dict(self.calibration),
            "tensors": _tensors_to_json(self.tensors),
            "layers": {name: _choice_to_json(choice) for name, choice in self.layers.items()},
            **({"weight_scales": self.weight_scales} if per_tensor else {}),
            **improvements,
            **({"original": _facts_to_json(self.original)} if self.original else {}),
            **({"others": others_to_json(self.others)} if self.others else {}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Recipe":
        """Return the recipe that `to_json` wrote.

        Raises:
            InputError: another format version, or something that is not a recipe.
        """
        version = data.get("format_version") if isinstance(data, dict) else None
        if type(version) is int and version not in range(FORMAT_VERSION, KEPT_FORMAT_VERSION + 1):
            raise InputError(
                f"the recipe has format version {version!r}, and this maskrt reads versions "
                f"{FORMAT_VERSION} to {KEPT_FORMAT_VERSION}: calibrate again."
            )
        believed(data, RecipeFile, "the recipe", "calibrate again", InputError)
        try:
            _check_together(data)
            return cls(
                graph=data["graph"],
                precision=Precision.parse(data["precision"]),
                layers={n: _choice_from_json(c) for n, c in data["layers"].items()},
                tensors=_tensors_from_json(data["tensors"]),
                rest=Precision.parse(data["rest"]),
                method=data["method"],
                calibration=data["calibration"],
                factors=_numbers(data.get("factors", {})),
                corrections=_numbers(data.get("corrections", {})),
                original=_facts_from_json(data["original"]) if data.get("factors") else None,
                weight_scales=data.get("weight_scales", PER_CHANNEL),
                others=others_from_json(data.get("others", {})),
            )
        except (UsageError, ValueError) as error:  # a precision that there is not, for one
            raise InputError(f"the recipe is damaged ({error}): calibrate again.") from error


def _check_together(data: dict[str, Any]) -> None:
    """Raise `ValueError` unless the values of a recipe go with each other."""
    if data["method"] not in METHODS:
        raise ValueError(f"method {data['method']!r} is not one of {', '.join(METHODS)}")
    original = data.get("original", {"tensors": {}, "refuses": None})
    tensors = [*data["tensors"].items(), *original["tensors"].items()]
    for name, tensor in tensors:
        if data["method"] not in tensor["scales"]:
            raise ValueError(f"tensor {name} has no scale of method {data['method']}")
        if tensor["min"] > tensor["max"]:
            raise ValueError(f"the range of tensor {name} is upside down")
    if data.get("factors") and (original["refuses"] or {}).keys() != data["layers"].keys():
        raise ValueError("original has other layers")


def _choice_to_json(choice: LayerChoice) -> dict[str, Any]:
    return {
        "precision": choice.precision.value,
        "reason": choice.reason,
        "refuses": _refuses_to_json(choice.refuses),
        **({"kept": choice.kept.value} if choice.kept is not None else {}),
    }


def _refuses_to_json(refuses: Mapping[Precision, str]) -> dict[str, str]:
    return {precision.value: why for precision, why in refuses.items()}


def _refuses_from_json(data: dict[str, str]) -> dict[Precision, str]:
    return {Precision.parse(name): why for name, why in data.items()}


def _facts_to_json(facts: Facts) -> dict[str, Any]:
    return {
        "tensors": _tensors_to_json(facts.tensors),
        "refuses": {name: _refuses_to_json(found) for name, found in facts.refuses.items()},
    }


def _facts_from_json(data: dict[str, Any]) -> Facts:
    refuses = {name: _refuses_from_json(found) for name, found in data["refuses"].items()}
    return Facts(_tensors_from_json(data["tensors"]), refuses)


def _tensors_to_json(tensors: Mapping[str, TensorScale]) -> dict[str, Any]:
    return {
        name: {"min": t.minimum, "max": t.maximum, "scales": dict(t.scales)}
        for name, t in tensors.items()
    }


def _tensors_from_json(data: dict[str, Any]) -> dict[str, TensorScale]:
    return {name: _tensor_from_json(tensor) for name, tensor in data.items()}


def _choice_from_json(data: dict[str, Any]) -> LayerChoice:
    refuses = _refuses_from_json(data["refuses"])
    kept = Precision.parse(data["kept"]) if "kept" in data else None
    return LayerChoice(Precision.parse(data["precision"]), data["reason"], refuses, kept)


def _numbers(data: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(value) for value in values) for name, values in data.items()}


def _tensor_from_json(data: dict[str, Any]) -> TensorScale:
    scales = {method: float(scale) for method, scale in data["scales"].items()}
    return TensorScale(float(data["min"]), float(data["max"]), scales)
