"""What a prepared engine tells its reader: the commands for the device, and `README.md`.

The commands name the bundle as it was called when they were written, from the folder that it lies
in; `build_command` names it as it is called now.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ...core import Precision, Target, command
from ...core.jetpack import TRTEXEC
from .options import BuildOptions, flags, trtexec_flags
from .tensorrt8 import FOLDER

__all__ = ["build_command", "commands", "readme"]

_SCRIPT = re.compile(rf"/engines/[a-z0-9@-]+/{FOLDER}/[a-z0-9.-]+\.sh")
_PYTHON = "~/maskrt/bin"
_BUILDS = (f"{_PYTHON}/maskrt build ", "sh ")  # what the bundle's name follows in `build`


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
        folder: of the prepared files in the bundle.
        files: the prepared files.
        options: how to build.
        workspace_mib: the builder's scratch memory.
        bundle_name: the bundle there.
    """
    bundle = shlex.quote(bundle_name)
    place = f"{bundle}/{folder}"
    scripts = [name for name in files if name.endswith(".sh")]
    found = {}
    if "model.onnx" in files:
        found["install"] = (
            "python3 -m venv --system-site-packages ~/maskrt && "
            f"{_PYTHON}/pip install \"$(ls ./maskrt-*.whl)[check]\" '{_numpy(target)}'"
        )
        found["build"] = (
            f"{_BUILDS[0]}{bundle} --target {target.name} "
            f"--precision {precision.value} --here{flags(options)}"
        )
        if options.dla is None:
            found["trtexec"] = (
                f"{TRTEXEC} --onnx={place}/model.onnx --saveEngine={place}/engine.trt "
                f"--stronglyTyped{trtexec_flags(options, workspace_mib)}"
            )
    for script in scripts:
        jetpack = script.rpartition("build-jetpack-")[2].removesuffix(".sh")
        found[f"jetpack {jetpack}"] = f"{_BUILDS[1]}{place}/{script}"
    found.setdefault("build", f"{_BUILDS[1]}{place}/{scripts[0]}" if scripts else "")
    return found


def _numpy(target: Target) -> str:
    """Return the NumPy that every JetPack release of a target takes on which maskrt builds."""
    kinds = {pack.numpy for pack in target.jetpacks if pack.tensorrt >= (10, 0)}
    return max(kinds, key=len, default="numpy")


def build_command(info: Mapping[str, Any], bundle_name: str, engine: str) -> str:
    """Return the command that builds on the device, for a bundle that is called `bundle_name` now.

    A bundle is copied and renamed like any folder; `prepared.json` keeps the name that it had. It
    may come from anywhere, too, and what is printed may be pasted into a shell: so what follows the
    name is taken only if it is what maskrt writes there, words that a shell takes as they are.

    Args:
        info: what `prepared.json` says.
        bundle_name: of today.
        engine: the folder's name under `engines/`, such as `orin-nx@int8`.
    """
    given, quoted = str(info["commands"]["build"]), shlex.quote(bundle_name)
    for start, follows in zip(_BUILDS, (_is_words, _is_script), strict=True):
        before = start + shlex.quote(str(info.get("bundle", bundle_name)))
        rest = given.removeprefix(before)
        if given.startswith(before) and follows(rest):
            return start + quoted + rest
    target, _, precision = engine.partition("@")
    words = command("--target", target, *(("--precision", precision) if precision else ()))
    return f"{_BUILDS[0]}{quoted} {words} --here"


def _is_words(rest: str) -> bool:
    """Whether it is options with their values, none of which means anything to a shell."""
    try:
        return rest.startswith(" --") and rest == f" {shlex.join(shlex.split(rest))}"
    except ValueError:  # a quotation mark without its other
        return False


def _is_script(rest: str) -> bool:
    return _SCRIPT.fullmatch(rest) is not None


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
        f"The commands are for the folder on the device into which the whole bundle, "
        f"`{info['bundle']}`, was\ncopied; under another name, put that in.\n",
        table,
        _with_maskrt(info) if "install" in info["commands"] else "",
        _with_trtexec(info) if any(c.startswith("jetpack") for c in info["commands"]) else "",
        f"""The build is expected to hold at most {info["build_memory_mib"]} MiB, of which
{info["workspace_mib"]} MiB are workspace. None of this has run on the device that it is for.
""",
        _in_use(info) if "install" in info["commands"] else "",
    ]
    return "\n".join(part for part in parts if part)


def _with_maskrt(info: Mapping[str, Any]) -> str:
    given = info["commands"]
    return f"""## TensorRT 10 and later

Copy maskrt's wheel there, too. In a clone of maskrt, this makes it in `dist/`:

    pip install build && python -m build --wheel

On the device:

    {given["install"]}
    {given["build"]}

This needs numpy, onnx, click, rich, pillow and pycocotools, which pip installs with the wheel, the
CUDA driver, and JetPack's own TensorRT, which `--system-site-packages` lets it see (`apt install
python3-libnvinfer`).{_or_trtexec(given)}
"""


def _or_trtexec(given: Mapping[str, str]) -> str:
    if "trtexec" not in given:
        return " `trtexec` cannot build it: it has no way to give a DLA some layers alone."
    return f""" Or, without maskrt and without its plugins (slower RoIAlign and NMS):

    {given["trtexec"]}"""


def _in_use(info: Mapping[str, Any]) -> str:
    bundle, pictures = info["bundle"], ("--images", "val/", "--annotations", "val.json")
    chosen = ("--target", info["target"], "--precision", info["precision"])
    store = command("maskrt", "check", bundle, *pictures, "--store-reference")
    check = command("maskrt", "check", bundle, *chosen, *pictures)
    run = command("maskrt", "run", bundle, "val/", *chosen, "-o", "out/")
    install = "\n".join(
        f"    {_PYTHON}/pip install '{s['cuda_bindings']}'      # JetPack {s['jetpack']}"
        for s in info["software"]
        if s["builds_with"].startswith("maskrt")
    )
    return f"""## Check and run

Before the bundle is copied, store what FP32 finds in it, so that the device needs neither PyTorch
nor ONNX Runtime; with `--weights FILE`, the weights it was compiled from, it is PyTorch's own:

    {store}

On the device, with the same pictures and annotations, once the engine is built:

{install}
    {_PYTHON}/{check}
    {_PYTHON}/{run}
"""


def _with_trtexec(info: Mapping[str, Any]) -> str:
    scripts = "\n".join(
        f"    {command}      # JetPack {name.split()[1]}"
        for name, command in info["commands"].items()
        if name.startswith("jetpack")
    )
    if info["options"]["dla"] is None:
        needs = """## TensorRT 8, with trtexec alone

No Python is needed (`apt install libnvinfer-bin`, or TRTEXEC=<path> before the command), and of"""
    else:
        needs = """## TensorRT 8, with its own Python alone

JetPack's Python and TensorRT are needed (`apt install python3-libnvinfer`), and of"""
    return f"""{needs} the
bundle only this folder: in a copy of it alone, leave out what stands before `{FOLDER}/`.

{scripts}

It writes `{FOLDER}/engine.trt`, for a program of your own: input `images`, uint8 `[B, H, W, 3]`,
RGB, letterboxed; outputs `boxes`, `scores`, `labels`, `masks` and `count`, padded, of which `count`
are real. RoIAlign and NMS are TensorRT's own plugins, which `initLibNvInferPlugins` registers.
Layers named `maskrt.float32/...` and all else that `layers.json` says are held in FP32; a layer
that cannot be had in the precision asked for stops the build.
"""
