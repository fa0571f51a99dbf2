"""Surgery of torchvision's detectors as the old exporter writes them: seconds, memory, nodes.

    python benchmarks/surgery.py [--size 800] [--model maskrcnn_resnet50_fpn]

Each file is rewritten in a process of its own, so the memory is that of surgery alone. The limits
that are held: 20 s, 2 GB, fewer than 700 nodes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

LIMITS = {"seconds": 20.0, "gigabytes": 2.0, "nodes": 700}
MODELS = (
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
)

_OPERATE = """
import json, re, sys, time
from pathlib import Path
started = time.perf_counter()
from maskrt.export.surgery import export_onnx
exported = export_onnx(sys.argv[1])
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory, too
print(json.dumps({
    "seconds": time.perf_counter() - started,
    "gigabytes": int(re.search(r"VmHWM:\\s+(\\d+)", status).group(1)) / 1e6,
    "nodes": len(exported.model.graph.node),
}))
"""


def export_old(name: str, size: int, path: Path) -> int:
    """Write an untrained detector with `dynamo=False`; return how many nodes it has."""
    import onnx
    import torch
    import torchvision

    torch.manual_seed(0)
    builder = torchvision.models.get_model_builder(name)
    model = builder(weights=None, weights_backbone=None).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, ([torch.rand(3, size, size)],), str(path), dynamo=False)
    return len(onnx.load(path).graph.node)


def main() -> int:
    """Print a line a model; exit 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--size", type=int, default=800)
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in options.model or MODELS:
            path = Path(folder) / f"{name}.onnx"
            before = export_old(name, options.size, path)
            words = [sys.executable, "-c", _OPERATE, str(path)]
            answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found = json.loads(answer)
            missed |= any(found[what] >= limit for what, limit in LIMITS.items())
            print(
                f"{name} {options.size}: {before} -> {found['nodes']} nodes, "
                f"{found['seconds']:.1f} s, {found['gigabytes']:.2f} GB",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
