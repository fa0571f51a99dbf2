"""Rule `preprocessing`: picture → normalised, resized, padded → backbone.

What happens to the picture's numbers is told by sending black, white and noise through; a `Resize`
in between is a landmark, and is read as it stands.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from .declined import Declined
from .emitter import Emitter
from .graph import Graph, Node, Shape
from .normalisation import NAME, UNSAID, Normalisation, NormalisationUnknown
from .walk import LAYERS, compute, frontier, nodes_between

__all__ = ["Preprocessing", "read_preprocessing"]

RULE = "preprocessing"
_IMAGENET = np.array([0.485, 0.456, 0.406])  # red, green, blue
_BRIGHT = 255.0  # so far from black that float32 tells the scale to seven digits
_NEAR = 0.005  # Caffe's means, from other crops, are within it; red and blue are 0.08 apart


@dataclass(frozen=True)
class Preprocessing:
    """What a graph does before its backbone.

    Attributes:
        output: float `[1, 3, H, W]`, what the first layer reads.
        size: `(height, width)` of the picture that the graph takes.
        inner: the same after its own resizing.
        padded: the same after padding at the right and the bottom, with zeros.
        scale, shift: for each channel, of a picture from 0 to 1.
        white: what the graph takes for white, 1 or 255.
        batched: whether the graph takes `[1, 3, H, W]` and not `[3, H, W]`.
        outside: whether the graph takes it normalised; `scale` and `shift` are then not its own.
        bgr: whether its channels are blue, green, red; `scale` and `shift` are in its order.
        nodes: landmarks.
        told: who says how it is normalised outside, or in which order its channels are; "" if
            that is read from the graph, and None if it is not known.
    """

    output: str
    size: tuple[int, int]
    inner: tuple[int, int]
    padded: tuple[int, int]
    scale: np.ndarray
    shift: np.ndarray
    white: float
    batched: bool
    outside: bool
    bgr: bool
    nodes: tuple[Node, ...]
    told: str | None = ""

    @property
    def mean(self) -> np.ndarray:
        """Mean of the normalisation, of a picture from 0 to 1."""
        return -self.shift / self.scale

    @property
    def mean_rgb(self) -> np.ndarray:
        """The same as red, green, blue."""
        return self.mean[::-1] if self.bgr else self.mean

    def written(self, out: Emitter, batch: int) -> str:
        """Write it for `images uint8 [B, H, W, 3]`: normalise, resize and pad, in this order."""
        # Cast before Transpose: TensorRT transposes no uint8.
        x = out.op("Transpose", out.op("Cast", "images", to=int(TensorProto.FLOAT)),
                   perm=[0, 3, 1, 2])  # fmt: skip
        if self.bgr:
            x = out.op("Gather", x, out.ints(2, 1, 0), axis=1)
        x = out.op("Mul", x, out.constant((self.scale / 255).reshape(1, 3, 1, 1)))
        x = out.op("Add", x, out.constant(self.shift.reshape(1, 3, 1, 1)))
        if self.inner != self.size:
            x = out.op(
                "Resize", x, "", "", out.ints(batch, 3, *self.inner), mode="linear",
                coordinate_transformation_mode="half_pixel",
            )  # fmt: skip
        below, right = self.padded[0] - self.inner[0], self.padded[1] - self.inner[1]
        if below or right:
            x = out.op("Pad", x, out.ints(0, 0, 0, 0, 0, 0, below, right))
        return str(x)

    def __str__(self) -> str:
        """Return the parameters in words."""
        resized = "" if self.inner == self.size else f", resized to {self.inner}"
        sizes = f"{self.size}{resized}, padded to {self.padded}"
        if self.told is None:
            return f"{sizes}; normalised before the graph, and how is not known"
        mean = ", ".join(f"{m:.4g}" for m in self.mean)
        std = ", ".join(f"{1 / s:.4g}" for s in self.scale)
        outside = f", before the graph, as {self.told} says" if self.outside else ""
        order = "; channels blue, green, red" if self.bgr else ""
        if order and not self.outside:
            order += f", as {self.told or 'the means'} " + (
                "says" if self.told else "are ImageNet's from the last to the first"
            )
        return f"{sizes}; mean {mean}; std {std}{outside}{order}"


def read_preprocessing(graph: Graph, outside: Normalisation | None = None) -> Preprocessing:
    """Return how `graph` prepares its one picture.

    Args:
        graph: folded.
        outside: what happens before the graph, if that is known; with `UNSAID` a graph that needs
            to know is read all the same, as taking pictures from 0 to 255.

    Raises:
        NormalisationUnknown: it needs to know, and `outside` is None.
        Declined: another check does not hold.
    """
    picture, size, batched = _picture(graph)
    output = _first_read(graph)
    resize = _resize(graph, output, picture)
    shape = graph.shape(output)
    if shape is None or len(shape) != 4 or None in shape or shape[:2] != (1, 3):
        raise Declined(RULE, "its backbone does not read one picture of three channels and a fixed "
                       "size", graph.maker(output))  # fmt: skip
    padded = (int(shape[2] or 0), int(shape[3] or 0))
    before = output if resize is None else resize.inputs[0]
    integer = _is_integer(graph, picture)
    scale, shift, white, inner = _normalisation(graph, picture, before, size, batched, integer)
    nodes = [n for n in nodes_between(graph, [output], [picture]) if n.op not in ("Gather",)]
    if resize is not None:
        inner = _inner(graph, resize, output)
    bgr = bool(np.allclose(-shift / scale, _IMAGENET[::-1], atol=_NEAR))
    told: str | None = ""
    raw = batched and resize is None and not integer and all(n.op == "Transpose" for n in nodes)
    if raw:
        scale, shift, bgr, told = _outside(outside)
    elif outside is not None and outside.mean is None and outside.bgr is not None:
        bgr, told = outside.bgr, outside.source
    return Preprocessing(
        output, size, inner, padded, scale, shift, white, batched, raw, bgr, tuple(nodes[:4]), told
    )


def _outside(given: Normalisation | None) -> tuple[np.ndarray, np.ndarray, bool, str | None]:
    """Return scale and shift of a picture from 0 to 1, whether it is blue, green, red, and why."""
    if given is UNSAID:
        return np.full(3, 255.0), np.zeros(3), False, None
    if given is None or given.mean is None or given.std is None:
        raise NormalisationUnknown(
            RULE, "its backbone reads the picture as it is, so that is normalised before, and no "
            f"{NAME} beside the file says how",
        )  # fmt: skip
    return 255 / given.std, -given.mean / given.std, bool(given.bgr), given.source


def _picture(graph: Graph) -> tuple[str, tuple[int, int], bool]:
    if len(graph.inputs) != 1:
        raise Declined(RULE, f"the graph has {len(graph.inputs)} inputs, and one picture is taken")
    shape = _positive(graph.shape(graph.inputs[0]))
    plain = shape[1:] if shape is not None and len(shape) == 4 and shape[0] == 1 else shape
    if shape is not None and plain is not None and None in plain[1:]:
        sides = ", ".join("?" if side is None else str(side) for side in shape)
        raise Declined(
            RULE, f"the size of its picture is not fixed, as its input is [{sides}]: export the "
            "model without dynamic axes",
        )  # fmt: skip
    if shape is not None and len(shape) == 4 and shape[0] != 1 and None not in shape[1:]:
        count = "any number of" if shape[0] is None else str(shape[0])
        raise Declined(
            RULE, f"the file takes {count} pictures a call, and one that takes one is read: export "
            "it for one picture, without a dynamic batch",
        )  # fmt: skip
    if plain is None or len(plain) != 3 or plain[0] != 3:
        sides = ", ".join("any" if side is None else str(side) for side in shape or ())
        raise Declined(
            RULE, f"the input has the shape [{sides}], and [3, H, W] or [1, 3, H, W] of a fixed "
            "height and width is taken: export for one fixed size",
        )  # fmt: skip
    return graph.inputs[0], (int(plain[1] or 0), int(plain[2] or 0)), plain is not shape


def _positive(shape: Shape | None) -> Shape | None:
    """Return `shape` with None for sides that are none, -1 or 0, as some writers put them."""
    return None if shape is None else tuple(s if s is None or s > 0 else None for s in shape)


def _first_read(graph: Graph) -> str:
    """Return the tensor that the first layers read: what lies nearest to the picture."""
    layers = [n for n in graph.of(*LAYERS) if _depends_on_picture(graph, n.inputs[0])]
    for node in layers:
        return node.inputs[0]
    raise Declined(RULE, "no layer reads the picture")


def _depends_on_picture(graph: Graph, name: str) -> bool:
    return graph.inputs[0] in frontier(graph, name, lambda n: n.op in LAYERS)


def _resize(graph: Graph, output: str, picture: str) -> Node | None:
    found = [n for n in nodes_between(graph, [output], [picture]) if n.op == "Resize"]
    if len(found) > 1:
        raise Declined(RULE, "the picture is resized more than once", found[1])
    if not found or graph.shape(found[0].inputs[0]) == graph.shape(found[0].output):
        return None
    mode = found[0].attributes.get("coordinate_transformation_mode", "half_pixel")
    if found[0].attributes.get("mode") != "linear" or "half_pixel" not in mode:
        raise Declined(RULE, "the picture is not resized bilinearly by half pixels", found[0])
    return found[0]


def _normalisation(
    graph: Graph,
    picture: str,
    before: str,
    size: tuple[int, int],
    batched: bool,
    integer: bool,
) -> tuple[np.ndarray, np.ndarray, float, tuple[int, int]]:
    """Return scale, shift, what white is, and the size of what is not padding."""
    shape = (1, 3, *size) if batched else (3, *size)
    same = [n for n in nodes_between(graph, [before], [picture]) if n.op == "Resize"]

    def through(value: np.ndarray) -> np.ndarray:
        feeds = {picture: value}
        if same:  # a Resize to the same size: what enters it leaves it
            feeds = {same[0].output: compute(graph, RULE, same[0].inputs[0], feeds)}
        return compute(graph, RULE, before, feeds).reshape(3, *graph_size(graph, before))

    black, white = (through(np.full(shape, v, np.float32)) for v in (0.0, _BRIGHT))
    real = (white != black).any(0)
    height, width = int(real.any(1).sum()), int(real.any(0).sum())
    if not real[:height, :width].all() or black[:, ~real].any():
        raise Declined(RULE, "padding is not zeros at the right and the bottom",
                       graph.maker(before))  # fmt: skip
    shift = black[:, 0, 0].astype(np.float64)
    scale = (white[:, 0, 0].astype(np.float64) - shift) / _BRIGHT
    noise = np.random.default_rng(0).random(shape, np.float32)
    noise = np.floor(256 * noise) if integer else noise
    _hold_against_formula(graph, through, (noise, height, width), scale, shift, before)
    return *_rounded(scale, shift, integer), (height, width)


def _is_integer(graph: Graph, picture: str) -> bool:
    """Whether the picture is of whole numbers, which then go from 0 to 255."""
    kind, _ = graph.types[picture]
    return bool(helper.tensor_dtype_to_np_dtype(kind).kind in "iu")


def graph_size(graph: Graph, name: str) -> tuple[int, int]:
    """Return height and width of the map `name`."""
    shape = graph.shape(name)
    if shape is None or None in shape[-2:]:
        raise Declined(RULE, "the picture's size is not fixed", graph.maker(name))
    return int(shape[-2] or 0), int(shape[-1] or 0)


def _hold_against_formula(
    graph: Graph,
    through: Callable[[np.ndarray], np.ndarray],
    shown: tuple[np.ndarray, int, int],
    scale: np.ndarray,
    shift: np.ndarray,
    before: str,
) -> None:
    noise, height, width = shown
    found = through(noise)[:, :height, :width]
    plain = noise.reshape(3, *noise.shape[-2:])
    expected = plain * scale[:, None, None] + shift[:, None, None]
    if found.shape != expected.shape or not np.allclose(found, expected, atol=1e-4, rtol=1e-4):
        raise Declined(RULE, "the picture is not normalised channel by channel",
                       graph.maker(before))  # fmt: skip


def _rounded(
    scale: np.ndarray, shift: np.ndarray, integer: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return both, and what white is, from means and deviations of the digits that people write.

    A graph that takes pictures from 0 to 255 has large means, or takes integers; both are for
    pictures from 0 to 1.
    """
    mean = np.array([float(f"{m:.6g}") for m in -shift / scale])
    std = np.array([float(f"{s:.6g}") for s in 1 / scale])
    white = 255.0 if integer or np.abs(mean).max() > 2 or std.max() > 2 else 1.0
    mean, std = mean / white, std / white
    return 1 / std, -mean / std, white


def _inner(graph: Graph, resize: Node, output: str) -> tuple[int, int]:
    """Return the size after `resize`; what follows may only pad."""
    inner = graph_size(graph, resize.output)
    shape = [int(s or 0) for s in graph.shape(resize.output) or ()]
    ones = compute(graph, RULE, output, {resize.output: np.ones(shape, np.float32)})
    expected = np.zeros(ones.shape, np.float32)
    expected[..., : inner[0], : inner[1]] = 1
    if (ones != expected).any():
        raise Declined(RULE, "after resizing, the picture is not only padded", resize)
    return inner
