"""What a prepared engine tells its reader: the commands for the device, and `README.md`."""

from collections.abc import Mapping
from typing import Any

from ...core import Precision, Target
from .options import BuildOptions, flags, trtexec_flags
from .tensorrt8 import FOLDER

__all__ = ["commands", "readme"]


def commands(
    target: Target,
    precision: Precision,
    folder: str,
    files: Mapping[str, bytes],
    options: BuildOptions,
    workspace_mib: int,
    bundle_name: str,
) -> dict[str, str]:
    """Return what to run on the device, by purpose; `build` is there in any case.

    Args:
        target: the device.
        precision: of the engine.
        folder: where the prepared files lie there.
        files: the prepared files.
        options: how to build.
        workspace_mib: the builder's scratch memory.
        bundle_name: the bundle there.
    """
    scripts = [name for name in files if name.endswith(".sh")]
    found = {}
    if "model.onnx" in files:
        found["install"] = (
            "python3 -m venv --system-site-packages ~/maskrt && "
            "~/maskrt/bin/pip install ./maskrt-*.whl"
        )
        found["build"] = (
            f"~/maskrt/bin/maskrt build {bundle_name} --target {target.name} "
            f"--precision {precision.value} --here{flags(options)}"
        )
        found["trtexec"] = (
            f"trtexec --onnx={folder}/model.onnx --saveEngine={folder}/engine.trt "
            f"--stronglyTyped{trtexec_flags(options, workspace_mib)}"
        )
    for script in scripts:
        jetpack = script.rpartition("build-jetpack-")[2].removesuffix(".sh")
        found[f"jetpack {jetpack}"] = f"sh {folder}/{script}"
    found.setdefault("build", f"sh {folder}/{scripts[0]}" if scripts else "")
    return found


def readme(target: Target, info: Mapping[str, Any]) -> str:
    """Return the text of README.md from what `prepared.json` says."""
    rows = "\n".join(
        f"| {s['jetpack']} | {s['python']} | {s['cuda']} | {s['tensorrt']} | {s['builds_with']} |"
        for s in info["software"]
    )
    table = f"| JetPack | Python | CUDA | TensorRT | builds with |\n|---|---|---|---|---|\n{rows}\n"
    parts = [
        f"# {target.description}, {info['precision']}\n",
        "This engine is prepared, not built: TensorRT builds engines on the device that runs "
        "them.\n",
        table,
        _with_maskrt(info) if "install" in info["commands"] else "",
        _with_trtexec(info) if any(c.startswith("jetpack") for c in info["commands"]) else "",
        f"""The build is expected to hold at most {info["build_memory_mib"]} MiB, of which
{info["workspace_mib"]} MiB are workspace. None of this has run on the device that it is for.
""",
    ]
    return "\n".join(part for part in parts if part)


def _with_maskrt(info: Mapping[str, Any]) -> str:
    given = info["commands"]
    return f"""## TensorRT 10 and later

On the device, with the bundle copied there, and the wheel that `make wheel` makes:

    {given["install"]}
    {given["build"]}

This needs numpy, onnx, click, rich and pillow, which pip installs with the wheel, the CUDA driver,
and JetPack's own TensorRT, which `--system-site-packages` lets it see (`apt install
python3-libnvinfer`). Or, without maskrt and without its plugins (slower RoIAlign and NMS):

    {given["trtexec"]}
"""


def _with_trtexec(info: Mapping[str, Any]) -> str:
    scripts = "\n".join(
        f"    {command}      # JetPack {name.split()[1]}"
        for name, command in info["commands"].items()
        if name.startswith("jetpack")
    )
    return f"""## TensorRT 8, with trtexec alone

On the device, with this folder copied there; no Python is needed (`apt install libnvinfer-bin`, or
TRTEXEC=<path> before the command):

{scripts}

It writes `{FOLDER}/engine.trt`, for a program of your own: input `images`, uint8 `[B, H, W, 3]`,
RGB, letterboxed; outputs `boxes`, `scores`, `labels`, `masks` and `count`, padded, of which `count`
are real. RoIAlign and NMS are TensorRT's own plugins, which `initLibNvInferPlugins` registers.
Layers named `maskrt.float32/...` and all else that `layers.json` says are held in FP32; a layer
that cannot be had in the precision asked for stops the build.
"""
