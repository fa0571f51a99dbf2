"""How far another project's model and maskrt's, with the same weights, find the same instances.

    MMDET/bin/python benchmarks/agreement_mmdetection.py 550 550 FOLDER yolact
    python benchmarks/agreement.py FOLDER

The first runs where the other project is installed, and needs no maskrt: it builds that project's
own model of its own configuration, gives it random weights that detect, saves them as a checkpoint,
and keeps what its eager model finds in pictures. The second compiles the checkpoint and compares.

Trained prototypes and mask features are smooth, and random ones are noise. So the 3x3 kernels that
make them are blurred; `--noise` leaves them alone.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CHECKPOINT, FOUND, ABOUT = "epoch_1.pth", "found.npz", "about.json"
SIZES = ((0, 16), (16, 32), (32, 96), (96, 1 << 20))  # root of a mask's area, pixels


def main() -> None:
    """Compile what another project wrote, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--eager", action="store_true", help="maskrt's eager model, not its graph")
    options = parser.parse_args()
    for folder in options.folder:
        print(json.dumps(agreement(folder, eager=options.eager)), flush=True)


# ---- what the other projects' sides share ----


def writer(description: str) -> argparse.ArgumentParser:
    """Return the arguments that every other project's side takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("height", type=int)
    parser.add_argument("width", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--noise", action="store_true", help="leave the mask layers as they are")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Return photographs of this size, uint8 RGB."""
    from PIL import Image
    from skimage import data

    photos = (data.astronaut(), data.coffee(), data.chelsea())
    return [np.asarray(Image.fromarray(p).resize((width, height))) for p in photos]


def keep(
    options: Any, project: str, model: str, weights: Any, found: list[dict[str, np.ndarray]]
) -> None:
    """Write all that the comparison needs.

    Args:
        options: of the command line.
        project: its name and version.
        model: maskrt's name of the model.
        weights: what is saved as the checkpoint.
        found: of each picture, `boxes`, `scores`, `labels` from 1, bool `masks`.
    """
    import torch

    options.folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, options.folder / CHECKPOINT)
    arrays = {f"{n}_{key}": value for n, one in enumerate(found) for key, value in one.items()}
    for name in [name for name in arrays if name.endswith("_masks")]:
        arrays[name] = np.packbits(arrays[name].astype(bool), axis=-1)
    np.savez_compressed(options.folder / FOUND, **arrays)
    about = {
        "project": project, "model": model, "size": [options.height, options.width],
        "smooth": not options.noise, "found": [len(one["scores"]) for one in found],
    }  # fmt: skip
    (options.folder / ABOUT).write_text(json.dumps(about))
    print(json.dumps(about))


def settle(model: Any, run: Any) -> None:
    """Take the statistics of batch norms from what `run` sees."""
    from torch import nn

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    run()
    model.eval()


def blur(model: Any, prefixes: tuple[str, ...]) -> None:
    """Give the 3x3 convolutions below `prefixes` binomial kernels, times a factor each."""
    import torch

    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = line[:, None] * line
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if name.startswith(prefixes) and weight is not None and weight.shape[2:] == (3, 3):
            mixed = weight.sum((2, 3), keepdim=True)
            weight.copy_(mixed * kernel)


def spread(layers: list[Any], run: Any, std: float, mean: float) -> None:
    """Scale `layers` so that each channel has this deviation and mean over all that `run` makes.

    None of them may feed another.
    """
    import torch

    seen: list[list[Any]] = [[] for _ in layers]
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, into=into: into.append(out))
        for layer, into in zip(layers, seen, strict=True)
    ]
    run()
    for hook in hooks:
        hook.remove()
    for layer, outputs in zip(layers, seen, strict=True):
        values = torch.cat([out.transpose(0, 1).flatten(1) for out in outputs], 1)
        scale = std / values.std(1).clamp(min=1e-6)
        layer.weight.mul_(scale[:, None, None, None])
        bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
        layer.bias.copy_((bias - values.mean(1)) * scale + mean)


def rare(layer: Any, logits: list[Any], threshold: float, wanted: int) -> None:
    """Shift a sigmoid's logits so that about `wanted` of a picture pass `threshold`."""
    import math

    import torch

    flat = torch.cat([one.flatten(1) for one in logits], 1).sort(1, descending=True).values
    least = flat[flat[:, wanted].argmax(), wanted - 1 : wanted + 1].mean()  # clear of both
    layer.bias.add_(math.log(threshold / (1 - threshold)) - least)


# ---- maskrt's side ----


def agreement(folder: Path, *, eager: bool) -> dict[str, Any]:
    """Return how many instances pair, and the worst pair, of one folder."""
    about = json.loads((folder / ABOUT).read_text())
    size = tuple(about["size"])
    theirs = np.load(folder / FOUND)
    total, boxes, scores, masks = {"theirs": 0, "ours": 0}, [], [], []
    for n, found in enumerate(_ours(folder, about, eager=eager)):
        one = {key: theirs[f"{n}_{key}"] for key in ("boxes", "scores", "labels", "masks")}
        one["masks"] = np.unpackbits(one["masks"], axis=-1, count=size[1]).astype(bool)
        total["theirs"] += len(one["scores"])
        total["ours"] += len(found.scores)
        for i, j in _pairs(one, found):
            boxes.append(_box_iou(one["boxes"][i], found.boxes[j]))
            scores.append(abs(float(one["scores"][i] - found.scores[j])))
            masks.append((float(one["masks"][i].sum()), _mask_iou(one["masks"][i], found.masks[j])))
    return {
        **about, **total, "pairs": len(scores), "eager": eager,
        "box_iou": min(boxes, default=None),  # of SOLO's, which have no boxes there, nothing
        "score": max(scores, default=None),
        "mask_iou": _by_size(masks),
    }  # fmt: skip


def _ours(folder: Path, about: dict[str, Any], *, eager: bool) -> Any:
    """Yield maskrt's instances of each picture."""
    from maskrt.checking.references import canonical_session
    from maskrt.pipeline import export_bundle

    name, size = f"maskrt:{about['model']}", tuple(about["size"])
    weights, images = folder / CHECKPOINT, pictures(*size)
    if eager:
        yield from _eager(name, weights, images)
        return
    with tempfile.TemporaryDirectory(dir=folder) as space:
        bundle = export_bundle(name, Path(space) / "a.maskrt", weights=weights, input_size=size)
        with canonical_session(bundle) as session:
            yield from map(session.predict, images)


def _eager(name: str, weights: Path, images: list[np.ndarray]) -> Any:
    from maskrt.core import InputSpec
    from maskrt.export.families.registry import family_of
    from maskrt.export.source import load_source
    from maskrt.runtime import letterbox
    from maskrt.runtime.postprocess import instances_of

    model = load_source(name, weights=weights).model
    family = family_of(model)
    spec = InputSpec(*images[0].shape[:2], 1, family.pad_value(model))
    reference = family.reference(model, spec)
    for image in images:
        canvas, place = letterbox(image, spec)
        outputs = reference.run(canvas[None])
        yield instances_of(outputs, 0, place, mask_frame=family.mask_frame(model))


def _pairs(theirs: dict[str, np.ndarray], ours: Any) -> list[tuple[int, int]]:
    """Pair instances of one label, nearest scores first where masks overlap."""
    candidates = []
    for i, label in enumerate(theirs["labels"]):
        for j in np.flatnonzero(ours.labels == label):
            gap = abs(float(theirs["scores"][i] - ours.scores[j]))
            if gap < 0.01:
                near = _box_iou(theirs["boxes"][i], ours.boxes[j])  # SOLO's have no boxes there
                candidates.append((round(gap, 4), -near, i, int(j)))
    pairs, used_i, used_j = [], set(), set()
    for _, _, i, j in sorted(candidates):
        if i not in used_i and j not in used_j:
            pairs.append((i, j))
            used_i.add(i)
            used_j.add(j)
    return pairs


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = float(sides.prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared
    return shared / union if union > 0 else 1.0


def _mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def _by_size(masks: list[tuple[float, float]]) -> dict[str, Any]:
    found = {}
    for low, high in SIZES:
        ious = [iou for area, iou in masks if low <= area**0.5 < high]
        if ious:
            name = f"{low} to {high}" if high < SIZES[-1][1] else f"above {low}"
            found[name] = {"pairs": len(ious), "mean": np.mean(ious), "worst": min(ious)}
    return found


if __name__ == "__main__":
    main()
