r"""Train a one-stage family on scenes drawn while it trains, and measure COCO AP.

    python examples/scenes/train_family.py --family solov2

The backbone starts from the demo Mask R-CNN's trained weights (or, with `--start`, from another
family's): its body is kept as it is unless `--body-rate` says otherwise, its pyramid and the heads
learn. What is saved and measured is a moving average of all parameters, in FP16 on disk. `last.pt`
resumes a run.

The files in `maskrt/demo/` were made on two busy cores, and have on 200 held-out scenes:

                    AP   AP50  AP75  small  medium  large
    condinst boxes  54.2  77.9  63.7   40.7    64.9   59.4
    condinst masks  48.5  76.1  51.8   29.7    62.4   58.9
    yolact boxes    44.2  70.1  48.3   33.6    53.9   47.5
    yolact masks    41.5  66.9  44.4   28.6    56.3   41.9
    solov2 boxes    30.9  49.3  32.1   23.0    48.2   31.9
    solov2 masks    40.3  68.1  38.8   24.2    56.1   48.3
    solo boxes      42.2  67.6  45.4   25.1    54.3   54.1
    solo masks      38.9  72.2  36.7   22.7    51.7   49.9

CondInst by an equal recipe, `--family condinst --iterations 2200 --body-rate 0.2`, but on 2400
scenes, each turned and mirrored at random, and with the pyramid at half the rate. The others step
by step, `train_family.py --family` and:

    solov2 --precision fp32 --iterations 1200 --lr 2e-3
    solov2 --precision fp32 --adopt FIRST --iterations 280 --lr 5e-4 --warmup 20 --body-rate 0.5
        --first-scene 5480 --seed 2                                            masks 33.6
    solov2 --start SECOND --adopt SECOND --iterations 900 --warmup 30 --body-rate 0.3
        --first-scene 40000 --seed 4                                           masks 40.3

    yolact --start CONDINST --iterations 1200, 900, 1500, and 2150 at --lr 2e-3, each resumed from
        the one before, at 500, 750, 1500                                      masks 25.1
    yolact --start CONDINST --adopt FIRST --iterations 4000 --warmup 200 --body-rate 0.2
        --first-scene 20000 --seed 3, to 1000; resumed with --iterations 2800  masks 41.5

    solo --start SOLOV2 --adopt SOLOV2 --iterations 1600 --lr 2e-3 --body-rate 0.2
        --first-scene 60000 --seed 5                                           masks 38.9

A family is a name of the zoo and a function of its losses, in `FAMILIES`.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from condinst_loss import condinst_losses
from grid_losses import solo_losses, solov2_losses
from safetensors.torch import load_file
from torch import Tensor
from training import Sample, Table, Training, arguments, batches, coco_table, print_table, run
from yolact_loss import yolact_losses

from maskrt.core import InputSpec
from maskrt.demo import weights_path
from maskrt.demo.scenes import write_coco
from maskrt.export.families.one_stage import OneStage
from maskrt.export.families.registry import family_of
from maskrt.export.zoo.condinst import condinst_scenes
from maskrt.export.zoo.solo import solo_scenes, solov2_scenes
from maskrt.export.zoo.yolact import yolact_scenes
from maskrt.runtime import letterbox
from maskrt.runtime.postprocess import instances_of

SIZE = 320


class Recipe(NamedTuple):
    """What trains a family.

    Attributes:
        build: returns the model.
        losses: (model, heads, targets) → losses by name, to be summed.
    """

    build: Callable[[], OneStage]
    losses: Callable[[Any, Any, list[dict[str, Tensor]]], dict[str, Tensor]]


FAMILIES = {
    "condinst": Recipe(condinst_scenes, condinst_losses),
    "yolact": Recipe(yolact_scenes, yolact_losses),
    "solov2": Recipe(solov2_scenes, solov2_losses),
    "solo": Recipe(solo_scenes, solo_losses),
}


def adopt_backbone(model: OneStage, start: Path) -> list[str]:
    """Start `model`'s backbone from trained weights; returns what stays random."""
    trained = load_file(str(start))
    maps = sum(name.startswith("backbone.fpn.inner_blocks.") for name in trained) // 2
    shift = maps - len(model.backbone.fpn.inner_blocks)  # pyramids from P3 have one map fewer
    found = {}
    for name in model.backbone.state_dict():
        parts = name.split(".")
        if parts[0] == "fpn" and parts[1] in ("inner_blocks", "layer_blocks"):
            parts[2] = str(int(parts[2]) + shift)
        source = trained.get("backbone." + ".".join(parts))
        if source is not None:
            found[name] = source.float() if source.is_floating_point() else source
    return model.backbone.load_state_dict(found, strict=False).missing_keys


def adopt_alike(model: OneStage, weights: Path) -> int:
    """Start from trained weights, of another family perhaps, where name and shape are alike."""
    own = model.state_dict()
    found = {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(str(weights)).items()
        if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(found, strict=False)
    return len(found)


class FamilyTraining(Training):
    """Of a family's heads and pyramid, and of its body if `--body-rate` says so."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.recipe = FAMILIES[args.family]
        model = self.recipe.build()
        random = adopt_backbone(model, args.start) or "nothing"
        print("random in the backbone:", random, flush=True)
        if args.adopt:
            print("adopted:", adopt_alike(model, args.adopt), flush=True)
        model = model.to(memory_format=torch.channels_last)
        body = list(model.backbone.body.parameters())
        own = {id(p) for p in body}
        rest = [p for p in model.parameters() if id(p) not in own]
        for parameter in body:
            parameter.requires_grad_(args.body_rate > 0)
        groups = [{"params": rest, "share": 1.0}, {"params": body, "share": args.body_rate}]
        super().__init__(model, groups, args, f"{args.family}_scenes")
        self.model.train()
        self.model.backbone.body.eval()  # its batch-norm statistics stay

    def losses(self, batch: list[Sample]) -> dict[str, Tensor]:
        images = torch.stack([x for x, _ in batch]).permute(0, 3, 1, 2).float() / 255.0
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.precision == "bf16"):
            heads = self.model(normalised(images, self.model))
        targets = [target for _, target in batch]
        return self.recipe.losses(self.model, in_float(heads), targets)


def normalised(images: Tensor, model: OneStage) -> Tensor:
    mean, std = (
        torch.tensor(values).reshape(1, 3, 1, 1) for values in (model.image_mean, model.image_std)
    )
    return (images - mean) / std


def in_float(value: Any) -> Any:
    """Return heads, however nested, in FP32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(in_float(v) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(in_float(v) for v in value)
    if isinstance(value, dict):
        return {k: in_float(v) for k, v in value.items()}
    return value


def evaluate(build: Callable[[], OneStage], weights: Path, annotations: Path) -> Table:
    """COCO AP in percent of stored weights, in FP32."""
    model = build()
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()}
    model.load_state_dict(state)
    family, spec = family_of(model), InputSpec(SIZE, SIZE)
    reference, frame = family.reference(model, spec), family.mask_frame(model)

    def detect(pixels: np.ndarray, image_id: int) -> list[dict]:
        canvas, place = letterbox(pixels, spec)
        found = instances_of(reference.run(canvas[None]), 0, place, mask_frame=frame)
        return found.to_coco(image_id)

    return coco_table(annotations, detect)


def drawn_for(args: argparse.Namespace, step: int) -> Any:
    """Return the batches of a run that is at `step`."""
    first = args.first_scene + step * args.batch
    last = args.first_scene + (args.overfit or args.iterations) * args.batch
    drawn = batches(first, last, args.batch, args.workers)
    # A few scenes over and over show whether the losses can fall at all.
    return list(drawn) * (args.iterations // args.overfit) if args.overfit else drawn


def main() -> None:
    parser = arguments("Train a one-stage family on generated scenes.")
    parser.add_argument("--family", choices=sorted(FAMILIES), required=True)
    parser.add_argument("--start", type=Path, default=weights_path(), help="demo weights")
    parser.add_argument("--adopt", type=Path, help="weights of a whole model, or one much alike")
    parser.add_argument("--first-scene", type=int, default=0, help="of the training split")
    parser.add_argument("--body-rate", type=float, default=0.0, help="share of lr; 0 freezes it")
    parser.add_argument("--overfit", type=int, default=0, metavar="BATCHES")
    args = parser.parse_args()
    args.out = args.out or Path("runs") / args.family
    torch.set_num_threads(args.threads)
    measure = functools.partial(evaluate, FAMILIES[args.family].build)
    if not args.eval_only:
        args.out.mkdir(parents=True, exist_ok=True)
        training = FamilyTraining(args)
        if args.resume:
            training.restore(args.resume)
        run(training, drawn_for(args, training.step), args, measure)
    weights = args.eval_only or args.out / f"{args.family}_scenes.safetensors"
    print_table(measure(weights, write_coco(args.out / "val", args.eval_scenes)))


if __name__ == "__main__":
    main()
