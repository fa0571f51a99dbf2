"""For every operator, small inputs with what goes wrong in them, and the reference's answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters.plan_inputs import ports_of_inputs

from ..examples import EXAMPLES


@dataclass(frozen=True)
class Case:
    """An operator with attributes, and how to draw its inputs.

    `dynamic` names the symbols of the schema that a graph may leave open. `atol` is what float
    outputs may differ by.
    """

    operator: str
    attributes: Mapping[str, Any]
    draw: Callable[[np.random.Generator], list[np.ndarray]]
    dynamic: tuple[str, ...] = ()
    atol: float = 0.0

    def inputs(self, seed: int = 0) -> list[np.ndarray]:
        return self.draw(np.random.default_rng(seed))

    def shortened(self, inputs: list[np.ndarray], most: int) -> list[np.ndarray]:
        """Return inputs with at most so many candidates, if the graph leaves their number open."""
        ports = ports_of_inputs(OPERATORS[self.operator].schema, len(inputs))
        number = {"K", "N"} & {*self.dynamic}
        cuts = [
            tuple(slice(most if symbol in number else None) for symbol in symbols)
            for _, symbols in ports
        ]
        return [value[cut].copy() for value, cut in zip(inputs, cuts, strict=True)]

    def expected(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Run the reference."""
        import torch

        operator, arguments = OPERATORS[self.operator], []
        ports = ports_of_inputs(operator.schema, len(inputs))
        for (port, _), value in zip(ports, inputs, strict=True):
            tensor = torch.from_numpy(value)
            if port.repeat == (1, 1):
                arguments.append(tensor)
            elif arguments and isinstance(arguments[-1], list):
                arguments[-1].append(tensor)
            else:
                arguments.append([tensor])
        found = operator.reference(*arguments, **self.attributes)
        return [o.numpy() for o in (found if isinstance(found, (tuple, list)) else (found,))]

    def assert_close(self, found: list[np.ndarray], inputs: list[np.ndarray]) -> None:
        expected = self.expected(inputs)
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.shape == theirs.shape
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(mine, theirs, atol=self.atol, rtol=1e-5)
            else:
                np.testing.assert_array_equal(mine, theirs)

    def model(self, inputs: list[np.ndarray], *, static: bool = True) -> onnx.ModelProto:
        """Return a graph of one node; unless `static`, the dynamic sizes are names."""
        schema = OPERATORS[self.operator].schema
        infos = []
        for (_, symbols), value in zip(ports_of_inputs(schema, len(inputs)), inputs, strict=True):
            shape = [
                str(symbol) if not static and str(symbol).rstrip("0123456789") in self.dynamic
                else extent
                for symbol, extent in zip(symbols, value.shape, strict=True)
            ]  # fmt: skip
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            infos.append(helper.make_tensor_value_info(f"x{len(infos)}", kind, shape))
        outputs = [f"y{i}" for i in range(len(schema.outputs))]
        node = helper.make_node(
            self.operator, [i.name for i in infos], outputs, domain="maskrt", name="node",
            **{k: list(v) if isinstance(v, tuple) else v for k, v in self.attributes.items()},
        )  # fmt: skip
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
        graph = helper.make_graph([node], "one", infos, results)
        return helper.make_model(graph, opset_imports=opsets)


def _boxes(rng: np.random.Generator, batch: int, count: int, reach: float = 60) -> np.ndarray:
    start = rng.uniform(-5, reach, (batch, count, 2))
    boxes = np.concatenate([start, start + rng.uniform(-2, 30, start.shape)], -1)
    return boxes.astype(np.float32)


def _candidates(rng: np.random.Generator) -> list[np.ndarray]:
    boxes = np.round(_boxes(rng, 3, 70))
    scores = (np.ceil(rng.uniform(0, 20, (3, 70))) / 20).astype(np.float32)
    scores[0, 3], boxes[1, 5, 0] = np.nan, np.inf
    return [boxes, scores, rng.integers(0, 3, (3, 70)).astype(np.int32)]


def _levels(dtype: str) -> Callable[[np.random.Generator], list[np.ndarray]]:
    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        boxes = _boxes(rng, 2, 5)
        boxes[0, 0, 0] = np.nan
        spread = 30 if dtype == "int8" else 1
        shapes = [(2, 3, 16, 13), (2, 3, 8, 7), (2, 3, 4, 4)]
        return [boxes, *((rng.normal(size=s) * spread).astype(dtype) for s in shapes)]

    return draw


def _overlaps(rng: np.random.Generator) -> list[np.ndarray]:
    iou = rng.uniform(0, 1, (2, 40, 40)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 40)).astype(np.float32)
    return [iou, scores, rng.integers(0, 3, (2, 40)).astype(np.int32)]


def _masks(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.uniform(0, 1, (2, 5, 14, 14)).astype(np.float32), _boxes(rng, 2, 5)]


def _pictures(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(0, 256, (37, 53, 3)).astype(np.uint8)]


def _case(
    key: tuple[str, str], changes: Mapping[str, Any], draw: Callable[..., Any], *more: Any
) -> Case:
    schema = OPERATORS[key[0]].schema
    attributes = schema.filled({**EXAMPLES[key][0], **changes})
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    return Case(key[0], plain, draw, *more)


_POOL = {"output_height": 3, "output_width": 4, "spatial_scales": (0.25, 0.125, 0.0625),
         "canonical_scale": 20.0, "canonical_level": 3, "level_epsilon": 2.0**-20}  # fmt: skip
_ALL = {
    "MultilevelRoIAlign": [
        (("MultilevelRoIAlign", "fp32"), _POOL, _levels("float32"),
         ("B", "N", "C", "H", "W"), 1e-4),
        (("MultilevelRoIAlign", "int8"), {**_POOL, "feature_scale": 0.03125}, _levels("int8"),
         ("B", "N"), 1e-4),
        # FP16: the result is rounded once, to half a step of 2**-8
        (("MultilevelRoIAlign", "fp16"), {**_POOL, "mode": "max"}, _levels("float16"),
         ("B",), 4e-3),
    ],
    "BatchedNMS": [
        (("BatchedNMS", "per class"), {"max_outputs": 20}, _candidates, ("B", "K")),
        (("BatchedNMS", "agnostic"), {"max_outputs": 64}, _candidates, ("B",)),
    ],
    "SoftNMS": [
        (("SoftNMS", "gaussian"), {"max_outputs": 20}, _candidates, ("B", "K"), 1e-5),
    ],
    "MaskIoU": [(("MaskIoU", "fp32"), {}, lambda rng: [_masks(rng)[0]], (), 1e-6)],
    "MatrixNMS": [(("MatrixNMS", "gaussian"), {}, _overlaps, ("B",), 1e-5)],
    "PasteMasks": [
        (("PasteMasks", "packed"), {"height": 61, "width": 75}, _masks, ("B", "N")),
        (("PasteMasks", "dense"), {"height": 61, "width": 75}, _masks, ("B", "N")),
        (("PasteMasks", "detectron2"), {"height": 61, "width": 75}, _masks, ("B", "N")),
    ],
    "Preprocess": [
        (("Preprocess", "fp32"), {"height": 32, "width": 48}, _pictures, (), 1e-6),
    ],
}  # fmt: skip

CASES = [_case(*arguments) for name in OPERATORS for arguments in _ALL.get(name, [])]


def ident(case: Case) -> str:
    """Return the name of a case in a test's report."""
    return f"{case.operator}{CASES.index(case)}"
