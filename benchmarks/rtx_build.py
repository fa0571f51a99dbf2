"""Build time of TensorRT-RTX engines on a machine without a GPU.

    python benchmarks/rtx_build.py [--model torchvision:maskrcnn_resnet50_fpn] [--size 512]
                                   [--target rtx] [--weights FILE]
                                   [--precisions fp32 fp16 int8]

Prints seconds, size and the precisions read back. FP8 needs `--target rtx-89` or later.
"""

import argparse
import tempfile
from pathlib import Path

from cpu_latency import photos

import maskrt


def main() -> None:
    """Compile once, build at each precision, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="torchvision:maskrcnn_resnet50_fpn")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--target", default="rtx")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "int8"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = maskrt.compile(
            options.model, Path(folder) / "model.maskrt", weights=options.weights,
            input_size=(options.size, options.size), calibration=photos(options.size),
            precision="int8", targets=["cpu"],
        )  # fmt: skip
        target = maskrt.Target.parse(options.target)
        anew = maskrt.BuildOptions(cache=False)
        for precision in map(maskrt.Precision.parse, options.precisions):
            maskrt.build(bundle, target, precision=precision, options=anew)
            info = bundle.read_json(f"{bundle.engine_folder(target, precision)}/engine.json")
            layers = ", ".join(f"{n} {name}" for name, n in info["layers"].items() if n)
            print(
                f"{options.model} {options.size} {options.target} {precision}: "
                f"{info['total_seconds']:.1f} s, {info['bytes'] / 1e6:.1f} MB, {layers}"
            )


if __name__ == "__main__":
    main()
