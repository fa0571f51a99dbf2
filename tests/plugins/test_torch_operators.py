"""`torch.ops.maskrt.*`: the reference on the CPU, and the launches that CUDA would see."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.core import UnsupportedModelError  # noqa: E402
from maskrt.plugins import OPERATORS  # noqa: E402
from maskrt.plugins.adapters.host import launch_stage_on_host  # noqa: E402
from maskrt.plugins.adapters.torch_cuda import register_operators, run_plan_on  # noqa: E402
from maskrt.plugins.launch import LaunchPlan, Stage, Tensor  # noqa: E402

from .test_batched_nms_kernel import BASE as NMS  # noqa: E402
from .test_batched_nms_kernel import _draw as draw_candidates  # noqa: E402
from .test_multilevel_roialign_kernel import BASE as ROI  # noqa: E402
from .test_multilevel_roialign_kernel import _draw as draw_boxes  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_operators()


def _launch(plan: LaunchPlan, stage: Stage, addresses: Mapping[str, int]) -> None:
    launch_stage_on_host(plan, stage, {k: ctypes.c_void_p(v) for k, v in addresses.items()})


def _nms() -> tuple[list[Any], dict[str, Any]]:
    return [torch.from_numpy(v) for v in draw_candidates(np.random.default_rng(0))], NMS


def _roi() -> tuple[list[Any], dict[str, Any]]:
    boxes, features = draw_boxes(np.random.default_rng(1), 3)
    return [torch.from_numpy(boxes), [torch.from_numpy(f) for f in features]], ROI


@pytest.mark.parametrize(("folder", "case"), [("batched_nms", _nms), ("multilevel_roialign", _roi)])
def test_what_cuda_would_launch_equals_the_reference(folder: str, case: Any) -> None:
    inputs, attributes = case()
    expected = getattr(torch.ops.maskrt, folder)(*inputs, **attributes)
    expected = [expected] if isinstance(expected, torch.Tensor) else expected
    flat = [t for i in inputs for t in (i if isinstance(i, list) else [i])]
    operator = next(o for o in OPERATORS.values() if o.folder == folder)
    specs = [Tensor(tuple(t.shape), str(t.dtype)[6:]) for t in flat]
    found = run_plan_on(operator.launch(operator.schema.filled(attributes), specs), flat, _launch)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize(("folder", "case"), [("batched_nms", _nms), ("multilevel_roialign", _roi)])
def test_torch_accepts_the_definition(folder: str, case: Any) -> None:
    """PyTorch's own check: schema, shapes without data, and tracing agree with the operator."""
    inputs, attributes = case()
    torch.library.opcheck(
        getattr(torch.ops.maskrt, folder).default, tuple(inputs), dict(attributes),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


def test_every_operator_is_registered() -> None:
    for operator in OPERATORS.values():
        assert getattr(torch.ops.maskrt, operator.folder).default._schema.is_mutable is False


def test_defaults_may_be_left_out() -> None:
    (boxes, features), attributes = _roi()
    short = {k: v for k, v in attributes.items() if k != "feature_scale"}
    found = torch.ops.maskrt.multilevel_roialign(boxes, features, **short)
    expected = torch.ops.maskrt.multilevel_roialign(boxes, features, **attributes)
    torch.testing.assert_close(found, expected)


def test_illegal_attributes_are_refused() -> None:
    (boxes, features), attributes = _roi()
    with pytest.raises(UnsupportedModelError, match="sampling_ratio"):
        torch.ops.maskrt.multilevel_roialign(
            boxes, features, **{**attributes, "sampling_ratio": 99}
        )


@pytest.mark.gpu
@pytest.mark.parametrize(("folder", "case"), [("batched_nms", _nms), ("multilevel_roialign", _roi)])
def test_on_a_gpu_and_in_a_cuda_graph(folder: str, case: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    inputs, attributes = case()
    run = getattr(torch.ops.maskrt, folder)
    expected = run(*inputs, **attributes)
    there = [[t.cuda() for t in i] if isinstance(i, list) else i.cuda() for i in inputs]
    run(*there, **attributes)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run(*there, **attributes)
    graph.replay()
    torch.cuda.synchronize()
    pairs = (
        [(found, expected)]
        if isinstance(found, torch.Tensor)
        else zip(found, expected, strict=True)
    )
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.cpu(), theirs, atol=1e-4, rtol=1e-5, equal_nan=True)
