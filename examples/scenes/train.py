"""Train the demonstration model on scenes drawn while it trains, and measure COCO AP.

The convolutions run in bfloat16 (`--precision fp32` turns that off); losses, box arithmetic and
RoIAlign stay in FP32. Evaluation is FP32, on the FP16-rounded weights, with the settings that
`maskrcnn_scenes()` gives a user. Schedule, average and loop are in `training.py`.

The weights in `maskrt/demo/maskrcnn_scenes.safetensors` were made by

    python examples/scenes/train.py --iterations 5000 --batch 4 --seed 0 --threads 1

in 58 minutes on two shared CPU cores (20 000 scenes; one torch thread, one process that draws).
On 200 held-out scenes (`split="val"`, 0..199, photographs never seen in training):

           AP   AP50  AP75  small  medium  large
    boxes  63.2  87.0  72.1   53.3    71.2   66.6
    masks  59.3  85.2  68.0   45.9    71.2   63.9

`--eval-only maskrt/demo/maskrcnn_scenes.safetensors` measures this table again.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from safetensors.torch import load_file
from torch import Tensor, nn
from training import Sample, Table, Training, arguments, batches, coco_table, print_table, run

from maskrt.demo.scenes import write_coco
from maskrt.export.zoo.maskrcnn_scenes import maskrcnn_scenes

LOW_PRECISION = ("backbone", "rpn.head", "roi_heads.box_head", "roi_heads.mask_head")
TRAINING = {
    "rpn_pre_nms_top_n_train": 500,
    "rpn_post_nms_top_n_train": 250,
    "box_batch_size_per_image": 80,
}


def run_in_bfloat16(model: nn.Module, device: torch.device) -> None:
    """Run the convolution-heavy submodules under autocast and give their outputs back in FP32."""
    for name in LOW_PRECISION:
        module = model.get_submodule(name)
        module.forward = _autocast(module.forward, device.type)


def _autocast(forward: Any, device_type: str) -> Any:
    def call(*inputs: Any) -> Any:
        with torch.autocast(device_type, torch.bfloat16):
            return _to_float(forward(*inputs))

    return call


def _to_float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return type(value)((k, _to_float(v)) for k, v in value.items())
    return type(value)(_to_float(v) for v in value)


@torch.no_grad()
def detect(model: nn.Module, device: torch.device, pixels: np.ndarray, image_id: int) -> list[dict]:
    """Detections of one picture as COCO results."""
    image = torch.from_numpy(pixels).permute(2, 0, 1).to(device).float() / 255.0
    found = {key: value.cpu() for key, value in model([image])[0].items()}
    results = []
    rows = zip(*(found[k] for k in ("boxes", "labels", "scores", "masks")), strict=True)
    for box, label, score, mask in rows:
        x1, y1, x2, y2 = box.tolist()
        rle = coco_mask.encode(np.asfortranarray((mask[0] > 0.5).numpy().astype(np.uint8)))
        results.append(
            {
                "image_id": image_id,
                "category_id": int(label),
                "score": float(score),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": rle,
            }
        )
    return results


def evaluate(device: torch.device, weights: Path, annotations: Path) -> Table:
    """COCO AP in percent of stored weights, in FP32."""
    model = maskrcnn_scenes()
    model.load_state_dict(load_file(str(weights)))
    model.eval().to(device)
    return coco_table(annotations, functools.partial(detect, model, device))


class TwoStageTraining(Training):
    """Of torchvision's model, which computes its own losses."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        model = maskrcnn_scenes(**TRAINING).to(self.device).to(memory_format=torch.channels_last)
        super().__init__(model, [{"params": model.parameters()}], args, "maskrcnn_scenes")
        self.model.train()
        if args.precision == "bf16":
            run_in_bfloat16(self.model, self.device)

    def losses(self, batch: list[Sample]) -> dict[str, Tensor]:
        images = [x.to(self.device).permute(2, 0, 1).float() / 255.0 for x, _ in batch]
        targets = [{k: v.to(self.device) for k, v in target.items()} for _, target in batch]
        return self.model(images, targets)


def main() -> None:
    parser = arguments(
        "Train maskrcnn_scenes on generated scenes.",
        iterations=5000, lr=2e-3, warmup=300, out=Path("runs/scenes"), eval_every=1000,
    )  # fmt: skip
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure = functools.partial(evaluate, torch.device(args.device))
    if not args.eval_only:
        args.out.mkdir(parents=True, exist_ok=True)
        training = TwoStageTraining(args)
        if args.resume:
            training.restore(args.resume)
        first = training.step * args.batch
        drawn = batches(first, args.iterations * args.batch, args.batch, args.workers)
        run(training, drawn, args, measure)
    weights = args.eval_only or args.out / "maskrcnn_scenes.safetensors"
    print_table(measure(weights, write_coco(args.out / "val", args.eval_scenes)))


if __name__ == "__main__":
    main()
