"""What the demonstration's trainings share: scenes, schedule, moving average, loop, COCO AP.

The learning rate rises linearly, then falls along a half cosine to zero. What is evaluated and
saved is an exponential moving average of parameters and batch-norm buffers, in FP16 on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maskrt.demo.scenes import scene, write_coco

EMA_DECAY = 0.999
STATS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")

Sample = tuple[Tensor, dict[str, Tensor]]


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


class Training:
    """Model, optimizer and average of one run; `save` and `restore` make it resumable.

    Args:
        model: to be trained.
        groups: of parameters for AdamW; `share` in one is its part of the learning rate.
        args: with lr, warmup and iterations.
        name: of the weights' file.
    """

    def __init__(
        self, model: nn.Module, groups: list[dict[str, Any]], args: argparse.Namespace, name: str
    ) -> None:
        self.model = model
        self.args = args
        self.name = f"{name}.safetensors"
        self.average = copy.deepcopy(model).eval()
        self.optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=1e-4)
        self.step = 0

    def losses(self, batch: list[Sample]) -> dict[str, Tensor]:
        """Return the losses of a batch, to be summed."""
        raise NotImplementedError

    def train_on(self, batch: list[Sample]) -> dict[str, float]:
        """One optimizer step; returns the losses."""
        rate = learning_rate(self.step, self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("share", 1.0) * rate
        losses = self.losses(batch)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        update_average(self.average, self.model, self.step)
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def restore(self, path: Path) -> None:
        """Go on from `last.pt`."""
        state = torch.load(path, map_location=next(self.model.parameters()).device)
        for part in ("model", "average", "optimizer"):
            getattr(self, part).load_state_dict(state[part])
        self.step = state["step"]

    def save(self, folder: Path) -> Path:
        """Write `last.pt` and the averaged weights; returns the weights' path."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, folder / "last.partial")
        (folder / "last.partial").replace(folder / "last.pt")
        save_weights(self.average, folder / self.name)
        return folder / self.name


Table = dict[str, list[float]]


def run(
    training: Training,
    drawn: Iterable[list[Sample]],
    args: argparse.Namespace,
    evaluate: Callable[[Path, Path], Table],
) -> None:
    """Train on the batches `drawn`; save, log, and `evaluate(weights, annotations)` on the way."""
    few = write_coco(args.out / "few", 60)
    started, began = time.time(), training.step
    mean: dict[str, float] = {}
    for batch in drawn:
        losses = training.train_on(batch)
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in losses.items()}
        step = training.step
        if step % args.log_every == 0:
            text = " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in mean.items())
            pace = (time.time() - started) / (step - began)
            print(f"{step}/{args.iterations} {pace:.2f} s/iteration {text}", flush=True)
        if step % args.save_every == 0 or step == args.iterations:
            training.save(args.out)
        if step % args.eval_every == 0 and step < args.iterations:
            print_table(evaluate(training.save(args.out), few))


def coco_table(annotations: Path, detect: Callable[[np.ndarray, int], list[dict]]) -> Table:
    """COCO AP in percent, by kind of result ("bbox", "segm").

    Args:
        annotations: COCO JSON beside its `images`.
        detect: (RGB picture, image id) → COCO results.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        results = []
        for row in truth.dataset["images"]:
            path = annotations.parent / "images" / row["file_name"]
            results += detect(np.array(Image.open(path).convert("RGB")), row["id"])
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


def print_table(table: Table) -> None:
    for kind, values in table.items():
        cells = ", ".join(f"{name} {value:.1f}" for name, value in zip(STATS, values, strict=True))
        print(f"{kind}: {cells}", flush=True)


def arguments(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return a parser of what every training takes; `defaults` replace the usual ones."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, help="folder")
    parser.add_argument("--resume", type=Path, help="last.pt of an earlier run")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100, help="iterations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--log-every", type=int, default=20, help="iterations")
    parser.add_argument("--save-every", type=int, default=200, help="iterations")
    parser.add_argument("--eval-every", type=int, default=500, help="iterations")
    parser.add_argument("--eval-scenes", type=int, default=200, help="of the final evaluation")
    parser.add_argument("--eval-only", type=Path, metavar="SAFETENSORS")
    parser.set_defaults(**defaults)
    return parser
