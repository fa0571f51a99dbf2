"""Train the demonstration model on scenes drawn while it trains, and measure COCO AP.

The learning rate rises linearly, then falls along a half cosine to zero. What is evaluated and
saved is an exponential moving average of parameters and batch-norm buffers, in FP16 on disk. On a
CPU the convolutions run in bfloat16 (`--precision fp32` turns that off); losses, box arithmetic
and RoIAlign stay in FP32. Evaluation is FP32, on the FP16-rounded weights, with the settings a user
gets from `maskrcnn_scenes()`.

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
import contextlib
import copy
import io
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from maskrt.demo.scenes import scene, write_coco
from maskrt.export.zoo.maskrcnn_scenes import maskrcnn_scenes

LOW_PRECISION = ("backbone", "rpn.head", "roi_heads.box_head", "roi_heads.mask_head")
TRAINING = {
    "rpn_pre_nms_top_n_train": 500,
    "rpn_post_nms_top_n_train": 250,
    "box_batch_size_per_image": 80,
}
EMA_DECAY = 0.999
STATS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")

Sample = tuple[torch.Tensor, dict[str, torch.Tensor]]


class Scenes(Dataset[Sample]):
    """Training scenes `first` to `last`, as torchvision's detectors take them."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Sample:
        drawn = scene(self.first + index, split="train")
        target = {
            "boxes": torch.from_numpy(drawn.boxes_xyxy),
            "labels": torch.from_numpy(drawn.labels),
            "masks": torch.from_numpy(drawn.masks.astype(np.uint8)),
        }
        return torch.from_numpy(drawn.image), target


def one_opencv_thread(_worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)


def batches(first: int, last: int, batch: int, workers: int) -> Iterator[list[Sample]]:
    """Batches of consecutive scenes, drawn by worker processes ahead of time."""
    return iter(
        DataLoader(
            Scenes(first, last),
            batch_size=batch,
            num_workers=workers,
            collate_fn=list,
            worker_init_fn=one_opencv_thread,
            prefetch_factor=4 if workers else None,
            # A fork would copy OpenCV's thread pool without its threads and wait for them forever.
            multiprocessing_context="spawn" if workers else None,
        )
    )


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


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, then a half cosine to zero."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    done = (step - args.warmup) / max(1, args.iterations - args.warmup)
    return args.lr * 0.5 * (1.0 + math.cos(math.pi * done))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the average towards the model; early on it follows faster."""
    weight = 1.0 - min(EMA_DECAY, (1.0 + step) / (10.0 + step))
    state = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(state[name], weight)
        else:
            value.copy_(state[name])


def save_weights(model: nn.Module, path: Path) -> None:
    """Write parameters and floating-point buffers as FP16 safetensors, by rename."""
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    save_file(state, str(partial))
    partial.chmod(0o644)
    partial.replace(path)


@torch.no_grad()
def detect(model: nn.Module, path: Path, image_id: int, device: torch.device) -> list[dict]:
    """Detections of one picture as COCO results."""
    from PIL import Image
    from pycocotools import mask as coco_mask

    pixels = np.array(Image.open(path).convert("RGB"))
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


def evaluate(weights: Path, annotations: Path, device: torch.device) -> dict[str, list[float]]:
    """COCO AP in percent of stored weights, in FP32, by kind of result ("bbox", "segm")."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    model = maskrcnn_scenes()
    model.load_state_dict(load_file(str(weights)))
    model.eval().to(device)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        results = []
        for row in truth.dataset["images"]:
            path = annotations.parent / "images" / row["file_name"]
            results += detect(model, path, row["id"], device)
        if not results:
            return {kind: [0.0] * len(STATS) for kind in ("bbox", "segm")}
        found = truth.loadRes(results)
        table = {}
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            table[kind] = [100.0 * float(x) for x in evaluation.stats[: len(STATS)]]
    return table


def print_table(table: dict[str, list[float]]) -> None:
    for kind, values in table.items():
        cells = ", ".join(f"{name} {value:.1f}" for name, value in zip(STATS, values, strict=True))
        print(f"{kind}: {cells}", flush=True)


class Training:
    """Model, optimizer and average of one run; `state` and `restore` make it resumable."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        self.model = maskrcnn_scenes(**TRAINING).to(self.device)
        self.model = self.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=args.lr, weight_decay=1e-4)
        self.step = 0
        if args.precision == "bf16":
            run_in_bfloat16(self.model, self.device)

    def restore(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def save(self, folder: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, folder / "last.partial")
        (folder / "last.partial").replace(folder / "last.pt")
        save_weights(self.average, folder / "maskrcnn_scenes.safetensors")

    def train_on(self, batch: list[Sample]) -> dict[str, float]:
        """One optimizer step; returns the losses."""
        images = [x.to(self.device).permute(2, 0, 1).float() / 255.0 for x, _ in batch]
        targets = [{k: v.to(self.device) for k, v in target.items()} for _, target in batch]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.args)
        losses = self.model(images, targets)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        update_average(self.average, self.model, self.step)
        self.step += 1
        return {name: float(loss) for name, loss in losses.items()}


def train(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(args)
    if args.resume:
        training.restore(args.resume)
    few = write_coco(args.out / "few", 60)
    started = time.time()
    mean: dict[str, float] = {}
    training.model.train()
    first = training.step * args.batch
    for batch in batches(first, args.iterations * args.batch, args.batch, args.workers):
        losses = training.train_on(batch)
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in losses.items()}
        step = training.step
        if step % 50 == 0:
            text = " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in mean.items())
            print(f"{step}/{args.iterations} {time.time() - started:.0f} s {text}", flush=True)
        if step % args.save_every == 0 or step == args.iterations:
            training.save(args.out)
        if step % args.eval_every == 0 and step < args.iterations:
            print_table(evaluate(args.out / "maskrcnn_scenes.safetensors", few, training.device))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train maskrcnn_scenes on generated scenes.")
    parser.add_argument("--iterations", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--resume", type=Path, help="last.pt of an earlier run")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=300, help="iterations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0 for its default")
    parser.add_argument("--save-every", type=int, default=250, help="iterations")
    parser.add_argument("--eval-every", type=int, default=1000, help="iterations")
    parser.add_argument("--eval-scenes", type=int, default=200, help="of the final evaluation")
    parser.add_argument("--eval-only", type=Path, metavar="SAFETENSORS")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.eval_only:
        train(args)
    weights = args.eval_only or args.out / "maskrcnn_scenes.safetensors"
    annotations = write_coco(args.out / "val", args.eval_scenes)
    print_table(evaluate(weights, annotations, torch.device(args.device)))


if __name__ == "__main__":
    main()
