"""What is written for a device: files, commands, and the JetPack releases that can use them."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from onnx import helper

from maskrt.core import Precision, Target, UnsupportedTargetError
from maskrt.runtime.build import BuildOptions, WeakTypes, prepare
from maskrt.runtime.build.prepared_text import build_command

CACHES = {"5.1": "TRT-8502-EntropyCalibration2\n", "6.0": "TRT-8602-EntropyCalibration2\n"}
LAYERS = ("body.first.out", "body.second.out", "head.up.out", "head.fc.out")
LATER = {"model.onnx"}
INT8_8 = {"tensorrt8/model.onnx", "tensorrt8/layers.json", "tensorrt8/dla.json"}
FOR_DLA = {"tensorrt8/build.py", "tensorrt8/build.json"}
FOR_51 = {"tensorrt8/build-jetpack-5.1.sh", "tensorrt8/calibration-8502.cache"}
FOR_60 = {"tensorrt8/build-jetpack-6.0.sh", "tensorrt8/calibration-8602.cache"}


@pytest.fixture
def made(small_network, monkeypatch):
    """Return a function that prepares the small network in INT8; its segments are not built."""
    monkeypatch.setattr(sys.modules[prepare.__module__], "_check", lambda *given: [])

    def make(target, canonical=None, name="b.maskrt", **options):
        weak = WeakTypes(
            dict.fromkeys(LAYERS, Precision.INT8), frozenset(), CACHES, frozenset(LAYERS[:2]), {}, 1
        )
        return prepare(
            small_network("int8"), Target.parse(target), Precision.INT8, bundle_name=name,
            folder=f"engines/{target}@int8", canonical=canonical or small_network(), weak=weak,
            options=BuildOptions(**options),
        )  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("xavier", INT8_8 | FOR_51),
        ("orin-nx", LATER | INT8_8 | FOR_51 | FOR_60),
        ("thor", LATER),
    ],
)
def test_each_jetpack_gets_what_it_builds_with(made, target, files):
    engine = made(target)
    assert set(engine.files) == {"README.md", *files}
    info = engine.info
    assert json.loads(json.dumps(info)) == info
    assert set(info["layer_precisions"].values()) == {"int8"}
    text = engine.files["README.md"].decode()
    for command in info["commands"].values():
        assert command in text
        shlex.split(command)


def test_the_commands_name_the_folder_and_the_options(made):
    given = made("orin-nx", workspace_mib=99, strip_weights=True).info["commands"]
    assert given["build"] == (
        "~/maskrt/bin/maskrt build b.maskrt --target orin-nx --precision int8 --here "
        "--workspace 99 --strip-weights"
    )
    assert "b.maskrt/engines/orin-nx@int8/model.onnx" in given["trtexec"]
    assert "--memPoolSize=workspace:99 --stripWeights" in given["trtexec"]
    assert given["trtexec"].startswith("/usr/src/tensorrt/bin/trtexec ")
    assert given["install"].endswith("[check]\" 'numpy<2'")


@pytest.mark.parametrize("target", ["orin-nx", "xavier"])
@pytest.mark.parametrize("name", ["so lo.maskrt", "build", "sh"])
def test_the_commands_take_any_name_and_follow_the_bundle(made, target, name):
    info = made(target, name=name).info
    for purpose, command in info["commands"].items():
        assert purpose == "install" or any(name in word for word in shlex.split(command))
    renamed = made(target, name="two it's.maskrt").info
    assert build_command(info, "two it's.maskrt", target) == renamed["commands"]["build"]


@pytest.mark.parametrize(
    "build",
    [
        "rm -rf ~",
        "~/maskrt/bin/maskrt build b.maskrt --target x --here; rm -rf ~",
        "~/maskrt/bin/maskrt build b.maskrt --target $(rm -rf ~)",
        "~/maskrt/bin/maskrt build b.maskrt --target 'x",
        "~/maskrt/bin/maskrt build b.maskrt/../x --here",
        "sh b.maskrt/engines/orin-nx/tensorrt8/../../../evil.sh",
        "sh b.maskrt/engines/orin-nx/tensorrt8/x.sh && rm -rf ~",
        "sh b.maskrt",
        None,
    ],
)
def test_a_command_of_a_strangers_is_not_printed(build):
    info = {"bundle": "b.maskrt", "commands": {"build": build}}
    ours = "~/maskrt/bin/maskrt build 'my b' --target orin-nx --precision int8 --here"
    assert build_command(info, "my b", "orin-nx@int8") == ours


def test_the_commands_options_are_kept(made):
    given = made("orin-nx", timing_cache=Path("/my timings"), workspace_mib=9).info
    assert " --timing-cache " in given["commands"]["build"]
    assert build_command(given, "b.maskrt", "orin-nx@int8") == given["commands"]["build"]


def test_the_readme_ends_with_check_and_run(made):
    text = made("orin-nx").files["README.md"].decode()
    assert text.index("--here") < text.index("\n## Check and run")
    last = text.partition("## Check and run")[2]
    assert "maskrt check b.maskrt --images val/ --annotations val.json --store-reference" in last
    assert "maskrt check b.maskrt --target orin-nx --precision int8 --images val/" in last
    assert "'cuda-bindings==12.8.*'      # JetPack 6.2" in last
    assert "'cuda-bindings==13.*'      # JetPack 7.2" in last
    assert "## Check and run" not in made("xavier").files["README.md"].decode()


def test_a_jetpack_that_cannot_is_left_out_with_its_reason(made):
    engine = made("orin-nx", strip_weights=True)  # from TensorRT 10 on
    assert set(engine.files) == {"README.md", *LATER}
    builds = {row["jetpack"]: row["builds_with"] for row in engine.info["software"]}
    assert builds["6.2"] == "maskrt build, or trtexec"
    assert builds["5.1"].startswith("nothing: TensorRT 8.5.2 does not take --strip-weights")
    dla = made("orin-nx", dla=0, gpu_fallback=True)  # INT8: with a calibration cache alone
    assert set(dla.files) == {"README.md", *INT8_8, *FOR_51, *FOR_60, *FOR_DLA}
    assert "with its own Python alone" in dla.files["README.md"].decode()
    assert dla.info["commands"]["build"].startswith("sh b.maskrt/engines/orin-nx@int8/tensorrt8/")


def test_a_dla_of_a_strongly_typed_network_is_built_by_maskrt_alone(made):
    """trtexec's --useDLACore sets flags that contradict --stronglyTyped."""
    info = made("agx-orin", dla=1, gpu_fallback=True).info
    builds = {row["jetpack"]: row["builds_with"] for row in info["software"]}
    assert builds["7.2.2"] == "maskrt build"  # 11.4.1
    assert builds["5.1"] == "python3, in tensorrt8/"
    assert info["commands"]["build"].endswith("--here --dla 1 --gpu-fallback")
    assert "trtexec" not in info["commands"]


def test_what_no_jetpack_can_is_refused(made):
    with pytest.raises(UnsupportedTargetError, match="target orin-nano has no DLA"):
        made("orin-nano", dla=0, gpu_fallback=True)
    with pytest.raises(UnsupportedTargetError, match="--version-compatible"):
        made("xavier", version_compatible=True)


def test_a_graph_that_tensorrt_8_does_not_take(made, small_network):
    canonical = small_network()
    canonical.graph.node.append(helper.make_node("BitwiseNot", ["images"], ["z"], "flip"))
    with pytest.raises(UnsupportedTargetError, match="'flip'"):
        made("xavier", canonical)
    engine = made("orin-nx", canonical)
    assert set(engine.files) == {"README.md", *LATER}
    assert "'flip'" in engine.info["software"][0]["builds_with"]
