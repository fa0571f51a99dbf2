import pytest

from maskrt.core import Precision
from maskrt.runtime.build.plan_precision import found_precisions
from maskrt.runtime.build.plan_text import Plan, read_plan

# The form of TensorRT-RTX 1.7, shortened to one kernel of each kind that matters.
HEADER = """header {
  region = { name=devmem size=4096 alignment=128 instance=0 }
  accelerators={sm80 sm89 }
}
descriptors {

  tensor={ alignment=128 const_payload_size=9216 dims={ 32 32 3 3 } name="w8" offset=1 type=int8 }
  tensor={ alignment=128 const_payload_size=36864 dims={ 36864 } name="w32" offset=1 type=float }
  tensor={ alignment=128 const_payload_size=640 dims={ 32 10 } name="row" offset=1 type=half }
  tensor={ alignment=128 dims={ 1 32 8 8 } mem_prop=0 name="a8" offset=0 type=int8 }
  tensor={ alignment=128 dims={ 1 32 8 8 } mem_prop=0 name="a32" offset=0 type=float }
  tensor={ alignment=128 dims={ 1 32 8 8 } mem_prop=0 name="odd" offset=0 type=fp4 }
  sub_tensor={ base="a8" const_offset=0 dims={ 32 } mem_prop=0 name="a8^deref" offset=0 type=int8 }
}
main {
 label bb1:
"""
STATEMENTS = """  memset={ name="init" output={"z" }  src="0i32" stream=0 }
  function={ name=__myl_MulMinMaxRounCast input_args={ "a32" } output_args={ "a8" } layers="[ONNX Layer: Q]" swap_ab=false }
  corrltn={ name="conv" output={"y" } input={"a8" "w8" "alpha" } quantize=false layers="[ONNX Layer: conv]\x1f[ONNX Layer: relu]" }
  corrltn={ name="silent" output={"y" } input={"a32" "w32" } layers="[ONNX Layer: silent]" }
  deconvolution={ name="half pair" output={"y" } input={"a8^deref" "w32" } layers="[ONNX Layer: half pair]" }
  signal={ name="__mye1" stream=0 event=1 layers="" }
  fully_connected={ name="two" output={"y" } input={"a8^deref" "w8" } layers="[ONNX Layer: one]\x1f[ONNX Layer: two]" }
  function={ name=__myl_MulSum input_args={ "row" "a32" "row" "row" } output_args={ "y" } layers="[ONNX Layer: gemv]" swap_ab=false }
  function={ name=__myl_CastMulSum input_args={ "w8" "a32" } output_args={ "y" } layers="[ONNX Layer: widened]" swap_ab=false }
  corrltn={ name="exotic" output={"y" } input={"odd" "w8" } layers="[ONNX Layer: exotic]" }
  runtime_fusion={ name=__myl_CorrCast input_args={ "a32" "w32" } output_args={ "y" } binary=0 layers="[ONNX Layer: fused]" backbone=conv }
}
shape_main {
}
"""  # noqa: E501
BODY = """descriptors {
  tensor={ alignment=4 dims={ 1 } mem_prop=0 name="a" offset=0 type=half }
  tensor={ alignment=4 dims={ 1 } mem_prop=0 name="w" offset=0 type=half }
}
main {
 label bb1:
  corrltn={ name="fused" output={"t" } input={"a" "w" } layers="[ONNX Layer: fused]" }
  cast={ name="back" output={"y" } input={"t" } layers="[ONNX Layer: back]" }
}
"""
PLAN = b"\x00\xffNLYM" + HEADER.encode() + STATEMENTS.encode() + b"\x00\x01\xfe" + BODY.encode()


@pytest.fixture(scope="module")
def plan() -> Plan:
    found = read_plan(PLAN)
    assert found is not None
    return found


def test_kernels_are_counted_by_what_they_are(plan):
    assert plan.count() == {"convolution": 5, "gemm": 1, "other": 3, "rounding": 1}
    assert plan.accelerators == ("sm80", "sm89")
    assert plan.device_memory_bytes == 4096
    assert [kernel.kind for kernel in plan.bodies] == ["corrltn", "cast"]


def test_traffic_is_what_kernels_read_and_write(plan):
    activation = 32 * 8 * 8
    rounding = next(kernel for kernel in plan.kernels if kernel.is_rounding)
    assert rounding.traffic_bytes == 4 * activation + activation  # float in, int8 out
    conv = next(kernel for kernel in plan.kernels if kernel.name == "conv")
    assert conv.traffic_bytes == activation + 32 * 32 * 9
    found = plan.traffic()
    assert found["rounding"] == rounding.traffic_bytes
    counted = [kernel.traffic_bytes for kernel in plan.kernels if kernel.category != "control"]
    assert found["frame"] == sum(counted)
    listed_thrice = next(kernel for kernel in plan.kernels if kernel.layers == ("gemv",))
    assert listed_thrice.traffic_bytes == 640 + 4 * activation


def test_the_floor_is_each_tensor_of_the_layers_once(plan):
    activation, weights = 32 * 8 * 8, 32 * 32 * 9
    # a8, its part a8^deref, a32, w8 and w32; not "row", which a generated kernel reads
    assert plan.traffic()["floor"] == activation + 32 + 4 * activation + weights + 4 * 36864


def test_a_kernel_has_its_layers_and_the_types_of_what_it_reads(plan):
    conv = next(kernel for kernel in plan.kernels if kernel.name == "conv")
    assert conv.layers == ("conv", "relu")
    assert [(a.name, a.type, a.constant_bytes) for a in conv.inputs] == [
        ("a8", "int8", 0),
        ("w8", "int8", 9216),
        ("alpha", None, 0),
    ]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("conv", Precision.INT8),
        ("silent", Precision.FP32),  # INT8 asked, widened by kernels before it
        ("half pair", Precision.FP32),  # the wider of data and weights
        ("one", Precision.INT8),  # fused with its neighbour
        ("gemv", Precision.FP16),  # a generated kernel: the type of its weights
        ("widened", Precision.FP32),  # INT8 weights, float data
        ("fused", Precision.FP16),  # what the fusion's body says
        ("exotic", None),
        ("absent", None),
    ],
)
def test_a_layer_computes_in_the_type_of_its_operands(plan, layer, expected):
    assert found_precisions(plan, [layer], {}) == {layer: expected}


def test_a_network_wider_than_the_plan_counts(plan):
    network = {"conv": Precision.FP16, "silent": Precision.INT8}
    found = found_precisions(plan, ["conv", "silent"], network)
    assert found == {"conv": Precision.FP16, "silent": Precision.FP32}


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff" * 500,
        b"main {\n}\n",
        HEADER.encode(),
        HEADER.encode() + b"}\n",  # a program without kernels
        PLAN.replace(b"[ONNX Layer: ", b"[Layer "),  # another version's words
        PLAN.replace(b"descriptors {", b"tensors {"),
    ],
)
def test_a_plan_that_is_not_recognised_claims_nothing(garbage):
    assert read_plan(garbage) is None
    assert found_precisions(None, ["conv"], {"conv": Precision.INT8}) == {"conv": None}


def test_tensors_without_types_leave_their_layers_unknown():
    untyped = read_plan(PLAN.replace(b"type=", b"kind="))
    assert untyped is not None
    assert found_precisions(untyped, ["conv", "gemv"], {}) == {"conv": None, "gemv": None}


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("const_payload_size=9216", "const_payload_size=" + "9" * 5000),
        ("dims={ 32 32 3 3 }", "dims={ " + "9" * 5000 + " }"),
        ("dims={ 32 32 3 3 }", "dims={ " + "99 " * 5000 + "}"),
        ("size=4096", "size=" + "9" * 5000),
    ],
)
def test_a_number_that_no_tensor_has_is_unknown(said, instead):
    odd = read_plan(PLAN.replace(said.encode(), instead.encode()))
    assert odd is not None
    assert odd.count() == read_plan(PLAN).count()
    assert odd.traffic()["frame"] <= read_plan(PLAN).traffic()["frame"]
    assert odd.device_memory_bytes == (None if "size=4096" in said else 4096)
