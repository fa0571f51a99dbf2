"""`maskrt build` and its options, on a bundle of one layer."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrt.calib import make_recipe
from maskrt.core import Bundle, InputSpec, Manifest, Precision, Target, UntrustedError
from maskrt.core.bundle import MODEL, RECIPE
from maskrt.runtime.build.plan_text import read_plan
from maskrt.runtime.trust import check_trusted, record

from .command_line import run

pytestmark = pytest.mark.rtx


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    info = helper.make_tensor_value_info
    weight = np.ones((2, 3, 3, 3), np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["y"], "conv"),
    ]
    graph = helper.make_graph(
        nodes, "g", [info("images", TensorProto.UINT8, [2, 32, 32, 3])],
        [info("y", TensorProto.FLOAT, [2, 2, 30, 30])], [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    fidelity = {"pictures": 1, "instances": 0, "violations": []}
    manifest = Manifest("test", InputSpec(32, 32, 2), {"y": (2, 2, 30, 30)},
                        source={"model": "test"}, fidelity=fidelity)  # fmt: skip
    with Bundle.create(tmp_path / "b.maskrt", manifest) as made:
        made.write(MODEL, model.SerializeToString())
        made.write(RECIPE, make_recipe(model, Precision.FP32, None).to_json())
    return Bundle.open(tmp_path / "b.maskrt")


def _info(bundle: Bundle, target: str) -> dict[str, Any]:
    return Bundle.open(bundle.path).read_json(f"engines/{target}/engine.json")


@pytest.mark.parametrize("target", ["rtx", "cpu"])
def test_the_second_build_comes_out_of_the_cache(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("MASKRT_CACHE", str(tmp_path / "cache"))
    assert run("build", bundle.path, "--target", target) == 0
    first = _info(bundle, target)
    assert run("build", bundle.path, "--target", target) == 0
    again = _info(bundle, target)
    assert (first["cached"], again["cached"]) == (False, True)
    assert again["build_seconds"] == first["build_seconds"]
    assert run("build", bundle.path, "--target", target, "--no-cache") == 0
    assert _info(bundle, target)["cached"] is False


def test_engines_know_themselves(bundle: Bundle) -> None:
    assert run("build", bundle.path, "--target", "rtx-89", "--workspace", 512) == 0
    info = _info(bundle, "rtx-89")
    assert info["layer_precisions"] == {"conv": "fp32"}
    assert info["sms"] == [89]
    assert info["options"]["workspace_mib"] == 512
    digests = Bundle.open(bundle.path).digests
    assert info["sha256"]["graph"] == digests[MODEL]
    assert info["sha256"]["recipe"] == digests[RECIPE]
    assert len(info["sha256"]["kernels"]) == 64


def test_inspect_says_what_the_program_launches_and_moves(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", bundle.path, "--target", "rtx") == 0
    plan = read_plan(Bundle.open(bundle.path).read("engines/rtx/engine.trt"))
    assert plan is not None
    launched = [kernel for kernel in plan.kernels if kernel.category != "control"]
    heavy = [kernel for kernel in launched if kernel.category != "other"]
    held = {a.name: a.size_bytes for k in heavy for a in (*k.inputs, *k.outputs)}
    moved = sum(
        size
        for kernel in launched
        for side in (kernel.inputs, kernel.outputs)
        for size in {a.name: a.size_bytes for a in side}.values()
    )
    # a convolution reads [2, 3, 32, 32] and writes [2, 2, 30, 30], in FP32
    assert len(heavy) == 1
    assert sum(held.values()) >= 4 * 2 * (3 * 32 * 32 + 2 * 30 * 30)
    capsys.readouterr()
    assert run("inspect", bundle.path) == 0
    told = " ".join(capsys.readouterr().out.split())
    others = len(launched) - len(heavy)
    memory = plan.device_memory_bytes
    assert memory is not None
    assert (
        f"rtx: a frame launches 1 convolutions and GEMMs and {others} other kernel"
        f"{'' if others == 1 else 's'}, and moves {moved / 1e6:.1f} MB, of which "
        f"{sum(held.values()) / 1e6:.1f} MB are weights and data of layers, each once, "
        f"{memory / 1e6:.1f} MB of device memory; counted, not timed." in told
    )


def test_inspect_says_nothing_of_a_program_that_was_not_counted(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("build", bundle.path, "--target", "cpu") == 0
    capsys.readouterr()
    assert run("inspect", bundle.path) == 0
    told = capsys.readouterr().out
    assert "cpu" in told
    assert "a frame launches" not in told


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--target", "rtx", "--dla", 0, "--gpu-fallback"], 1, "target rtx has no DLA"),
        (["--target", "rtx", "--gpu-fallback"], 2, "give --dla"),
        (["--target", "cpu", "--workspace", 64], 1, "does not take --workspace for target cpu"),
        (["--target", "rtx", "--workspace", 0], 2, "must be at least 1"),
        (["--target", "rtx", "--strip-weights"], 1, "does not take --strip-weights"),
        (["--target", "rtx", "--version-compatible"], 1, "does not take --version-compatible"),
        (["--target", "rtx", "--timing-cache", "t"], 1, "times no kernels"),
        (["--target", "rtx", "--dynamic-batch", 1, 2, 4], 1, "computes 2 pictures a call"),
        (["--target", "rtx", "--dynamic-batch", 4, 2, 1], 2, "must rise"),
        (["--target", "orin-nano", "--dla", 0, "--gpu-fallback"], 1, "orin-nano has no DLA"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_sentence(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], words: list[Any], status: int, told: str
) -> None:
    before = {p: p.read_bytes() for p in bundle.path.rglob("*") if p.is_file()}
    assert run("build", bundle.path, *words) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert told in lines[-1]
    assert {p: p.read_bytes() for p in bundle.path.rglob("*") if p.is_file()} == before


def test_a_batch_that_is_the_graphs_own_is_taken(bundle: Bundle) -> None:
    assert run("build", bundle.path, "--target", "rtx", "--dynamic-batch", 2, 2, 2) == 0


def test_an_engine_that_was_built_here_is_known_to_the_next_process(
    bundle: Bundle, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("build", bundle.path, "--target", "rtx") == 0
    opened = Bundle.open(bundle.path)
    monkeypatch.setattr(record, "_noted", {})
    check_trusted(opened, Target.parse("rtx"), None)
    shutil.rmtree(elsewhere)
    with pytest.raises(UntrustedError):
        check_trusted(opened, Target.parse("rtx"), None)


def test_a_record_that_cannot_be_written_is_said_in_one_line(
    bundle: Bundle, tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere.write_text("a file in its place")
    assert run("build", bundle.path, "--target", "rtx") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "record" in line]
    assert len(told) == 1
    assert told[0].startswith(f"warning: that this machine built the engine cannot be noted in "
                              f"{elsewhere} (")  # fmt: skip
