"""Examples of each verb, as `maskrt VERB --help` shows them.

Each is parsed by the verb itself in `tests/cli/test_conventions.py`.
"""

__all__ = ["EXAMPLES"]

EXAMPLES = {
    "compile": (
        "maskrt compile torchvision:maskrcnn_resnet50_fpn -o street.maskrt --weights maskrcnn.pth",
        "maskrt compile model.onnx -o street.maskrt --precision int8 --calibration pictures/",
        "maskrt compile street:model -o street.maskrt --weights street.pth --precision int8 "
        "--calibration pictures/ --max-ap-drop 0.3 --images val/ --annotations val.json",
    ),
    "export": (
        "maskrt export torchvision:maskrcnn_resnet50_fpn -o street.maskrt --weights maskrcnn.pth",
        "maskrt export street.maskrt --inlined street.onnx",
    ),
    "calibrate": (
        "maskrt calibrate street.maskrt --calibration pictures/",
        "maskrt calibrate street.maskrt --calibration pictures/ --method percentile",
    ),
    "recipe": (
        "maskrt recipe street.maskrt",
        "maskrt recipe street.maskrt --set 'rpn.*=fp16'",
    ),
    "build": (
        "maskrt build street.maskrt --target orin-nx",
        "maskrt build street.maskrt --target orin-nx --kit kit/ --images val/",
    ),
    "run": (
        "maskrt run street.maskrt pictures/ -o drawn/",
        "maskrt run street.maskrt clip.mp4 camera:0 --max-frames 500",
        "maskrt run street.maskrt pictures/ --recursive --masks yolo --classes car,person",
    ),
    "check": (
        "maskrt check street.maskrt --images val/ --annotations val.json --max-ap-drop 1.0",
        "maskrt check street.maskrt --images val/ --annotations val.json --explain",
    ),
    "report": (
        "maskrt report street.maskrt --html engines.html",
        "maskrt report desktop.maskrt orin.maskrt --bench bench.json",
    ),
    "bench": (
        "maskrt bench street.maskrt --images val/ --runs 100",
        "maskrt bench street.maskrt --json bench.json --plot bench.svg",
        "maskrt bench street.maskrt --engine cpu@int8 --engine cpu@fp32",
    ),
    "package": (
        "maskrt package street.maskrt --triton models/",
        "maskrt package street.maskrt --deepstream ds/ --target orin-nx",
    ),
    "sign": ("maskrt sign street.maskrt --key ~/.minisign/minisign.key",),
    "verify": (
        "maskrt verify street.maskrt",
        "maskrt verify street.maskrt --key sender.pub",
    ),
    "inspect": ("maskrt inspect street.maskrt", "maskrt inspect model.onnx"),
    "models": ("maskrt models", "maskrt models --json"),
    "targets": ("maskrt targets", "maskrt targets --json"),
    "doctor": ("maskrt doctor", "maskrt doctor street.maskrt", "maskrt doctor --known"),
    "demo": ("maskrt demo --quick",),
}
