"""Pictures smaller than their canvas: what the originals find in the picture alone.

The original is PyTorch's own model on pictures of their own size, which no letterbox has touched:
torchvision's batch of them, or a one-stage model's forward. The graph gets canvases, in batches.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
from onnx import TensorProto, numpy_helper  # noqa: E402

from maskrt import calib  # noqa: E402
from maskrt.core import FILLING, InputSpec, Instances, Precision  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.letterboxed import Letterboxed, clip_boxes  # noqa: E402
from maskrt.export.families.registry import family_of  # noqa: E402
from maskrt.runtime import letterbox  # noqa: E402
from maskrt.runtime.check import combine, compare, violations  # noqa: E402
from maskrt.runtime.postprocess import instances_of  # noqa: E402

from .detectors import enliven, tiny_mask_rcnn  # noqa: E402
from .families.lively import enliven_condinst, enliven_grid, enliven_yolact  # noqa: E402
from .families.test_box_mask_families import _condinst, _yolact  # noqa: E402
from .families.test_grid_families import _tiny  # noqa: E402
from .steady import canonical, only_steady  # noqa: E402

pytestmark = pytest.mark.torch

CANVAS = (128, 160)
SIZES = [(128, 139), (103, 160), (128, 160), (97, 160)]  # each padded to the canvas by itself


def _shown(photos: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield each photograph at each size, then mirrored, then upside down."""
    for turn in (lambda p: p, np.fliplr, np.flipud):
        for photo in photos:
            for height, width in SIZES:
                resized = Image.fromarray(photo).resize((width, height))
                yield np.ascontiguousarray(turn(np.asarray(resized)))


def _torchvision(model: Any, pictures: Sequence[np.ndarray]) -> list[Instances]:
    """Run the original on a batch of pictures as large as they are."""
    original = copy.deepcopy(model).eval()
    original.transform.resize = lambda image, target=None: (image, target)
    for pool in (original.roi_heads.box_roi_pool, original.roi_heads.mask_roi_pool):
        pool.scales, pool.map_levels = None, None
    tensors = [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in pictures]
    with torch.no_grad():
        found = original(tensors)
    return [
        Instances(
            boxes=f["boxes"].numpy(), scores=f["scores"].numpy(), labels=f["labels"].numpy(),
            image_size=p.shape[:2], masks_source=(f["masks"][:, 0] > 0.5).numpy(),
        )
        for f, p in zip(found, pictures, strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def two_stage(photos: list[np.ndarray]) -> tuple[Any, Any, list[np.ndarray]]:
    """A Mask R-CNN, its export for two pictures a call, and a steady picture of each size."""
    torch.manual_seed(0)
    model = enliven(tiny_mask_rcnn(), photos)
    exported = export_model(model, input_size=CANVAS, batch=2)
    found: dict[tuple[int, ...], np.ndarray] = {}
    for picture in only_steady(exported.model, exported.manifest, _shown(photos)):
        found.setdefault(picture.shape[:2], picture)
        if len(found) == len(SIZES):
            break
    return model, exported, [found[size] for size in SIZES]


def test_torchvision_finds_the_same_in_each_picture_alone(two_stage: Any) -> None:
    model, exported, steady = two_stage
    session = canonical(exported.model, exported.manifest)
    matches = [compare(_torchvision(model, [p])[0], session.predict(p)) for p in steady]
    found = combine(matches)
    assert violations(found) == [], found
    assert found.pairs >= 10 * len(SIZES)


def test_torchvision_finds_the_same_in_a_batch_of_two_sizes(two_stage: Any) -> None:
    model, exported, steady = two_stage
    session = canonical(exported.model, exported.manifest)
    for pair in (steady[:2], steady[1::-1]):
        matches = map(compare, _torchvision(model, pair), session.predict(pair))
        found = combine(matches)
        assert violations(found) == [], found
        assert found.pairs >= 20


def test_a_canvas_filled_otherwise_is_taken_for_the_picture(two_stage: Any) -> None:
    """The comparison above can fail: where the graph cannot see the end, it finds other things."""
    model, exported, steady = two_stage
    small = [p for p in steady if p.shape[:2] != CANVAS]
    black = np.zeros((len(small), *CANVAS, 3), np.uint8)
    for canvas, picture in zip(black, small, strict=True):
        canvas[: picture.shape[0], : picture.shape[1]] = picture
    session = canonical(exported.model, exported.manifest)
    theirs = [_torchvision(model, [p])[0] for p in small]
    ours = [
        instances_of(session.run(np.stack([canvas] * 2)), 0, letterbox(p, session.spec)[1])
        for canvas, p in zip(black, small, strict=True)
    ]
    assert violations(combine(map(compare, theirs, ours)))
    sized = exported.reference.run(np.stack([black[0]] * 2), [small[0].shape[:2]] * 2)
    told = instances_of(sized, 0, letterbox(small[0], session.spec)[1])
    assert violations(compare(theirs[0], told)) == []  # whoever is told needs no filling


_FAMILIES = {
    "condinst": (_condinst, enliven_condinst),
    "solov2": (lambda: _tiny("solov2"), enliven_grid),
    "decoupled": (lambda: _tiny("decoupled"), enliven_grid),
    "yolact": (_yolact, enliven_yolact),
}


@pytest.mark.parametrize(
    "name",
    [
        "condinst",
        "solov2",
        pytest.param("decoupled", marks=pytest.mark.slow),
        pytest.param("yolact", marks=pytest.mark.slow),
    ],
)
def test_a_one_stage_model_finds_the_same_in_its_picture_alone(
    name: str, photos: list[np.ndarray]
) -> None:
    """The graph gets two canvases of two sizes; the model one picture, padded by itself."""
    torch.manual_seed(0)
    make, lively = _FAMILIES[name]
    model = lively(make(), photos, CANVAS)
    matches: list[Any] = []
    pictures = _shown(photos)
    for pair in zip(pictures, pictures, strict=True):
        ours = _graph(model, pair)
        if any(violations(m) for m in map(compare, ours, _graph(_shaken(model), pair))):
            continue  # rounding decides something in it; see steady.py
        matches += map(compare, (_alone(model, picture) for picture in pair), ours)
        if len(matches) == len(SIZES):
            break
    found = combine(matches)
    assert violations(found) == [], found
    assert found.pairs >= 10 * len(SIZES)


def _graph(model: Any, pictures: Sequence[np.ndarray]) -> list[Instances]:
    """Run what is traced."""
    family = family_of(model)
    spec = InputSpec(*CANVAS, len(pictures), family.pad_value(model))
    graph: Any = family.graph(model, spec)
    placed = [letterbox(picture, spec) for picture in pictures]
    with torch.no_grad():
        values = graph(torch.from_numpy(np.stack([canvas for canvas, _ in placed])))
    outputs = {n: v.numpy() for n, v in zip(graph.output_names, values, strict=True)}
    return [
        instances_of(outputs, index, place, mask_frame=family.mask_frame(model))
        for index, (_, place) in enumerate(placed)
    ]


def _shaken(model: Any) -> Any:
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in moved.parameters():
            value.mul_(1 + 1e-5 * torch.randn(value.shape, generator=generator))
    return moved


def _alone(model: Any, picture: np.ndarray) -> Instances:
    """Run the model on one picture, normalised and padded with zeros as the originals do it."""
    height, width = picture.shape[:2]
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.image_mean, model.image_std))
    x = (torch.from_numpy(picture).permute(2, 0, 1).float() / 255 - mean) / std
    x = torch.nn.functional.pad(x, (0, CANVAS[1] - width, 0, CANVAS[0] - height))
    with torch.no_grad():
        (found,) = model(x[None], [(height, width)])
    outputs = {name: value[None].numpy() for name, value in found._asdict().items()}
    outputs["count"] = np.array([len(found.scores)])
    place = letterbox(picture, InputSpec(*CANVAS))[1]  # where it lies in x
    return instances_of(outputs, 0, place, mask_frame=family_of(model).mask_frame(model))


def _ends(canvases: np.ndarray, filling: tuple[int, int, int]) -> list[list[float]]:
    spec = InputSpec(*canvases.shape[1:3], len(canvases), filling)
    _, corner = Letterboxed(spec, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
        torch.from_numpy(canvases)
    )
    ends: list[list[float]] = corner[:, 0].tolist()
    assert [tuple(end[:2][::-1]) for end in ends] == spec.picture_sizes(canvases)
    return ends


def test_a_picture_ends_with_its_last_pixel_of_another_colour() -> None:
    """By one grey level in one channel of one pixel; an empty canvas is all picture."""
    filling = (124, 116, 104)
    canvases = np.full((5, 40, 64, 3), filling, np.uint8)
    canvases[1, 17, 30, 1] += 1
    canvases[2, 0, 0, 2] -= 1
    canvases[3, 39, 63, 0] = 255
    canvases[4, 5, 8:50] = 0
    canvases[4, 20, 3] = 7
    ends = _ends(canvases, filling)
    assert [end[:2] for end in ends] == [[64, 40], [31, 18], [1, 1], [64, 40], [50, 21]]
    assert all(end[:2] == end[2:] for end in ends)


def test_a_border_of_the_filling_s_colour_is_not_seen() -> None:
    """A picture whose last columns have it ends before them, and inside one it is a colour."""
    picture = np.full((40, 30, 3), 200, np.uint8)
    picture[:, 20:25] = (124, 116, 104)
    picture[:, 28:] = (124, 116, 104)
    canvas, _ = letterbox(picture, InputSpec(40, 64))
    assert _ends(canvas[None], (124, 116, 104)) == [[28, 40, 28, 40]]
    spec = InputSpec(40, 64)
    x, _ = Letterboxed(spec, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
        torch.from_numpy(canvas[None])
    )
    assert (x[..., 28:] == 0).all()
    assert (x[..., 20:25] != 0).all()


def test_padding_is_zero_as_in_the_originals_and_pixels_are_normalised() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)
    picture = np.random.default_rng(0).integers(0, 256, (33, 64, 3), np.uint8)
    spec = InputSpec(48, 64, 1, (128, 102, 76))
    x, _ = Letterboxed(spec, mean, std)(torch.from_numpy(letterbox(picture, spec)[0][None]))
    plain = (picture / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(x[0, :, :33].permute(1, 2, 0).numpy(), plain, atol=1e-5)
    assert (x[0, :, 33:] == 0).all()


def test_boxes_are_clipped_each_to_its_picture() -> None:
    boxes = torch.tensor([[-3.0, 2, 50, 60], [20, 5, 30, 9]]).expand(2, -1, -1)
    corner = torch.tensor([[[40.0, 64, 40, 64]], [[64, 8, 64, 8]]])
    expected = [[[0, 2, 40, 60], [20, 5, 30, 9]], [[0, 2, 50, 8], [20, 5, 30, 8]]]
    assert clip_boxes(boxes, corner).tolist() == expected


def test_what_measures_the_picture_is_in_no_recipe_and_stays_fp32(two_stage: Any) -> None:
    _, exported, _ = two_stage
    model = exported.model
    (filling,) = (t for t in model.graph.initializer if t.name == FILLING)
    assert numpy_helper.to_array(filling).ravel().tolist() == [124, 116, 104]
    nodes = list(model.graph.node)
    first = next(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    made = {name for node in nodes[:first] for name in node.output}
    recipe = calib.make_recipe(model, Precision.FP16, None)
    lowered, free = calib.layer_types(model, recipe)
    assert not made & (set(lowered) | free)
    half = calib.render(model, recipe, calib.Style.TENSORRT)
    known = onnx.shape_inference.infer_shapes(half).graph.value_info
    kinds = {info.name: info.type.tensor_type.elem_type for info in known if info.name in made}
    assert len(kinds) == len(made)
    assert TensorProto.FLOAT16 not in kinds.values()
    assert nodes[first].input[0] in made
