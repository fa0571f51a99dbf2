"""A kit's README, which fits one screen, and its scripts.

The scripts make an environment without pip (a Jetson's Python may lack `ensurepip`) and run pip out
of its own wheel. The environment sees the system's packages, since JetPack's TensorRT is one.
"""

from collections.abc import Sequence

from ..core import Bundle, Precision, Target
from .place import Place

__all__ = ["scripts"]

_DRIVER = 580  # the first of CUDA 13, which TensorRT-RTX's wheels are built with


def scripts(
    bundle: Bundle, target: Target, precision: Precision, places: Sequence[Place], size: int
) -> dict[str, str]:
    """Return README.md and the scripts, by name.

    Args:
        bundle: in the kit.
        target: the device.
        precision: of its engine.
        places: that the kit has wheels for.
        size: of all wheels, in bytes.
    """
    windows = places[0].system == "windows"
    install, smoke = ("install.cmd", "smoke.cmd") if windows else ("sh install.sh", "sh smoke.sh")
    program = r"venv\Scripts\maskrt" if windows else "./venv/bin/maskrt"
    name = bundle.path.resolve().name
    brought = target.backend == "tensorrt_rtx"  # so that the device has no record of building it
    run = (
        f"{program} run {name} pictures {'--trust' if brought else '-o out'} "
        f"--target {target.name} --precision {precision}"
    )
    trusting = "\n`--trust`: the engine is machine code, built by whoever made this kit.\n"
    readme = f"""# {bundle.path.stem} at {precision} for {target.description}

Everything that the device needs is in this folder. It needs no network.

1. Copy the whole folder to the device, by a USB stick or `scp -r`.
2. In it, on the device:

       {install:18} # a minute: Python packages into the folder venv
       {smoke:18} # {_how_long(target)}

3. The last line is `PASSED`, with the numbers above it. Then use it:

       {run}
{trusting if brought else ""}
Needed on the device:

{_needs(target, places)}

If a step fails it says why in one sentence, and `{program} doctor {name}`
says what is wrong with the machine. Packages, sizes and licences ({size / 1e6:.0f} MB): WHEELS.md.
This kit was installed and tested without a network on a CPU; it has not run on this device yet.
"""
    if windows:
        return {
            "README.md": readme,
            "install.cmd": _install_cmd(places[0]),
            "smoke.cmd": _SMOKE_CMD,
        }
    return {"README.md": readme, "install.sh": _install_sh(places), "smoke.sh": _SMOKE_SH}


def _how_long(target: Target) -> str:
    if target.backend == "tensorrt":
        return "5 to 30 minutes: builds the engine, tests it on three pictures"
    return "a minute: tests the engine on three pictures"


def _needs(target: Target, places: Sequence[Place]) -> str:
    pythons = " or ".join(place.python for place in places)
    if target.is_jetson:
        packs = [p for p in target.jetpacks if p.tensorrt >= (10, 0)]
        known = ", ".join(f"{p.version} (TensorRT {p.tensorrt_version})" for p in packs)
        return f"""- JetPack {known}
- its TensorRT for Python {pythons}: `nvidia-jetpack`, or `python3-libnvinfer`

JetPack 5 and 6.0 have TensorRT 8 and need no kit: copy `engines/*/tensorrt8/` of the bundle."""
    system = (
        "Windows 10 or 11" if places[0].system == "windows" else "Linux with glibc 2.31 or later"
    )
    lines = [f"- x86-64, {system}, Python {pythons}"]
    if target.backend == "tensorrt_rtx":
        sms = ", ".join(f"{sm / 10:.1f}" for sm in target.runs_on)
        lines.append(
            f"- an NVIDIA GPU of compute capability {sms}, and NVIDIA's driver {_DRIVER} or"
        )
        lines.append("  later (`nvidia-smi` shows it); no CUDA toolkit")
    elif target.backend == "tensorrt":
        lines.append(
            f"- an NVIDIA GPU, NVIDIA's driver {_DRIVER} or later, and TensorRT 10 or 11 for"
        )
        lines.append("  that Python, which NVIDIA's own index alone has: install it beforehand")
    return "\n".join(lines)


def _install_sh(places: Sequence[Place]) -> str:
    tags, machine = " ".join(place.tag for place in places), places[0].machine
    return f"""#!/bin/sh
# Installs this kit's Python packages into ./venv, without a network. PYTHON=<path> chooses one.
set -eu
cd "$(dirname "$0")"
python=${{PYTHON:-python3}}
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
if [ "$(uname -m)" != {machine} ]; then
    echo "This kit is for {machine} machines, and this one is $(uname -m)." >&2
    exit 1
fi
if [ ! -d "wheels/$tag" ]; then
    echo "This kit has packages for {tags}, and $python is $tag: set PYTHON=<another>." >&2
    exit 1
fi
"$python" -m venv --clear --without-pip --system-site-packages venv
pip=$(echo wheels/"$tag"/pip-*.whl)/pip
PIP_CONFIG_FILE=/dev/null venv/bin/python "$pip" --isolated install \\
    --quiet --no-index --no-deps --ignore-installed --no-compile \\
    --find-links "wheels/$tag" --requirement "wheels/$tag/requirements.txt"
venv/bin/maskrt --version
echo "Installed. Next: sh smoke.sh"
"""


def _install_cmd(place: Place) -> str:
    wheels = rf"wheels\{place.tag}"
    return "\r\n".join(
        (
            "@echo off",
            "rem Installs this kit's Python packages into .\\venv, without a network.",
            'cd /d "%~dp0"',
            f"py -{place.python} -m venv --clear --without-pip venv || exit /b 1",
            rf"for %%w in ({wheels}\pip-*.whl) do set pip=%%w\pip",
            "set PIP_CONFIG_FILE=nul",
            r"venv\Scripts\python %pip% --isolated install --quiet --no-index --no-deps "
            rf"--no-compile --find-links {wheels} --requirement {wheels}\requirements.txt",
            "if errorlevel 1 exit /b 1",
            r"venv\Scripts\maskrt --version",
            "echo Installed. Next: smoke.cmd",
            "",
        )
    )


_SMOKE_SH = """#!/bin/sh
# Builds this kit's engine where it is missing, and tests it; the last line says whether it passed.
# --trust: whoever starts this script, which is the kit's, has decided to trust the kit.
set -eu
cd "$(dirname "$0")"
exec venv/bin/python -m maskrt.kit.smoke . --trust "$@"
"""
_SMOKE_CMD = (
    "@echo off\r\n"
    "rem Builds this kit's engine where it is missing, and tests it.\r\n"
    'cd /d "%~dp0"\r\n'
    "venv\\Scripts\\python -m maskrt.kit.smoke . --trust %*\r\n"
)
