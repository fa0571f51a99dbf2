"""Collected ranges against NumPy on the tensors themselves, and every bad input."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from maskrt.calib import Style, collect_statistics, place, render
from maskrt.core import InputError, Precision

from .graphs import GraphBuilder, detector, int8_recipe, pictures, run, snr_db, stem


def _as_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    shown.graph.output.extend(infos)
    return shown


def test_ranges_are_those_of_the_tensors(model: onnx.ModelProto) -> None:
    images = pictures(3)
    statistics = collect_statistics(model, (image[None] for image in images))
    names = place(model).tensors
    assert tuple(statistics.tensors) == names
    assert statistics.pictures == 3
    seen = [run(_as_outputs(model, names), image[None]) for image in images]
    for index, name in enumerate(names):
        values = np.stack([tensors[index] for tensors in seen])
        # fusion differs with what is observed, so the last bits of a sum may
        bound = 1e-5 * float(np.abs(values).max())
        assert statistics.tensors[name].minimum == pytest.approx(values.min(), abs=bound)
        assert statistics.tensors[name].maximum == pytest.approx(values.max(), abs=bound)


def test_shards_merge_to_the_whole_and_order_does_not_matter(model: onnx.ModelProto) -> None:
    images = pictures(4)
    whole = collect_statistics(model, (image[None] for image in images))
    first = collect_statistics(model, (image[None] for image in images[:1]))
    rest = collect_statistics(model, (image[None] for image in images[1:]))
    assert first.merge(rest) == rest.merge(first) == whole
    assert collect_statistics(model, (image[None] for image in images[::-1])) == whole


def test_a_short_last_batch_counts_its_own_pictures_only() -> None:
    images = pictures(3)
    seen: list[int] = []
    pairs = collect_statistics(detector(batch=2), [images[:2], images[2:]], progress=seen.append)
    assert seen == [2, 3]
    assert pairs.pictures == 3
    single = collect_statistics(detector(), (image[None] for image in images))
    for name, found in pairs.tensors.items():
        bound = 1e-5 * found.amax  # another batch, other blocking of the sums
        assert found.maximum == pytest.approx(single.tensors[name].maximum, abs=bound)


def _regions(batch: int) -> onnx.ModelProto:
    """A head that runs on four regions of each picture: rows of its tensors are regions."""
    g = GraphBuilder(1)
    cut = g.op("Reshape", stem(g), g.constant(np.int64([batch, 16, 2, 8, 2, 8])))
    regions = g.op("Transpose", cut, perm=[0, 2, 4, 1, 3, 5])
    rows = g.op("Reshape", regions, g.constant(np.int64([4 * batch, 16, 8, 8])))
    return g.model([g.conv(g.relu(g.conv(rows, 16, 16)), 16, 16)], batch)


def test_the_picture_that_fills_a_batch_is_not_counted_in_any_region() -> None:
    model, images = _regions(2), np.concatenate([pictures(1, seed=seed) for seed in range(3)])
    whole = collect_statistics(model, [images[:2], images[2:]])
    first = collect_statistics(model, [images[:1]])
    rest = collect_statistics(model, [images[1:]])
    assert first.merge(rest) == whole
    single = collect_statistics(_regions(1), (image[None] for image in images))
    for name in place(model).tensors[-2:]:  # of the regions: the rows of three pictures
        counted = [found.histograms[name].counts.sum() for found in (whole, single)]
        assert counted == [3 * 4 * 16 * 8 * 8] * 2


def _ramp(sizes: tuple[int, ...]) -> onnx.ModelProto:
    """A layer that reads 2^(w - 8) at each place w of the last axis, whatever the picture."""
    g = GraphBuilder(1)
    zero = g.op("Mul", g.op("GlobalAveragePool", stem(g)), g.constant(np.float32(0)))
    one = g.op("ReduceMax", zero, keepdims=0)
    steps = g.constant(np.float32(2.0) ** np.arange(-8, sizes[-1] - 8, dtype=np.float32))
    wide = g.op("Expand", g.op("Add", one, steps), g.constant(np.int64(sizes)))
    if len(sizes) == 4:
        return g.model([g.conv(wide, sizes[1], 16, kernel=1)])
    return g.model([g.op("Gemm", wide, g.weight(sizes[-1], 16))])


@pytest.mark.parametrize("sizes", [(1, 160, 34, 17), (1, 160, 34, 19), (9000, 16), (4, 17)])
def test_a_sample_meets_every_column_and_every_feature_alike(sizes: tuple[int, ...]) -> None:
    model = _ramp(sizes)
    (name,) = (x.data for x in place(model).layers if x.name != "first")
    found = collect_statistics(model, [pictures(1)], tensors=[name]).histograms[name]
    met = found.counts[found.counts > 0]
    assert len(met) == sizes[-1]
    assert np.ptp(met) <= 1 + 0.01 * met.mean()


def test_chosen_tensors_only(model: onnx.ModelProto) -> None:
    name = place(model).tensors[3]
    assert list(collect_statistics(model, [pictures(1)], tensors=[name]).tensors) == [name]
    with pytest.raises(InputError, match="nowhere is not in the model"):
        collect_statistics(model, [pictures(1)], tensors=["nowhere"])


@pytest.mark.parametrize("style", list(Style))
def test_a_layer_that_reads_a_constant_is_neither_observed_nor_int8(style: Style) -> None:
    g = GraphBuilder(1)
    fixed = g.constant(g.random.normal(0, 1, (1, 16, 16, 16)).astype(np.float32))
    added = g.op("Conv", fixed, g.weight(16, 16, 1, 1), name="of a constant")
    model = g.model([g.relu(g.op("Add", g.conv(stem(g), 16, 16), added))])
    recipe = int8_recipe(model)
    assert recipe.layers["of a constant"].precision is Precision.FP32
    images = pictures(1)
    pairs = zip(run(model, images), run(render(model, recipe, style), images), strict=True)
    assert all(snr_db(expected, found) > 28 for expected, found in pairs)


def test_no_picture_is_an_error(model: onnx.ModelProto) -> None:
    with pytest.raises(InputError, match="no picture"):
        collect_statistics(model, [])


@pytest.mark.parametrize(
    "batch",
    [
        pictures(1).astype(np.float32),
        pictures(2),
        pictures(1)[:, :32],
        pictures(1)[:0],
    ],
    ids=["float", "too many", "another size", "empty"],
)
def test_a_batch_that_does_not_fit_is_an_error(model: onnx.ModelProto, batch: np.ndarray) -> None:
    with pytest.raises(InputError, match="letterbox"):
        collect_statistics(model, [batch])


@pytest.mark.parametrize("op_type", ["Log", "Reciprocal"])
def test_nan_and_infinity_name_the_tensor(op_type: str) -> None:
    g = GraphBuilder()
    features = stem(g)  # after ReLU, so it has zeros, and below one it has negative logarithms
    shift = g.constant(np.float32(-0.5 if op_type == "Log" else 0.0))
    broken = g.op(op_type, g.op("Add", features, shift))
    model = g.model([g.conv(broken, 16, 16)])
    with pytest.raises(InputError, match=f"tensor {broken} has a NaN or infinite"):
        collect_statistics(model, [pictures(1)])
