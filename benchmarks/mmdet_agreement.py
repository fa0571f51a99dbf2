"""How far a model of mmdetection and maskrt's, with the same weights, find the same instances.

    MMDET/bin/python benchmarks/mmdet_agreement.py write yolact 550 550 FOLDER
    python benchmarks/mmdet_agreement.py compare FOLDER

The first runs where mmdetection is installed, and needs no maskrt: it builds the project's own
model of its own configuration, gives it random weights that detect, saves them as a checkpoint, and
keeps what its eager model finds in pictures. The second compiles the checkpoint and compares.

Trained prototypes and mask features are smooth, and random ones are noise. So the 3x3 kernels that
make them are blurred; `--noise` leaves them alone.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CONFIGS = {
    "yolact": ("yolact/yolact_r50_1xb8-55e_coco.py", "yolact_r50"),
    "condinst": ("condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py", "condinst_r50"),
    "solo": ("solo/solo_r50_fpn_1x_coco.py", "solo_r50"),
    "decoupled_solo": ("solo/decoupled-solo_r50_fpn_1x_coco.py", "decoupled_solo_r50"),
    "solov2": ("solov2/solov2_r50_fpn_1x_coco.py", "solov2_r50"),
}
SMOOTH = {  # the layers that masks are made by
    "yolact": ("mask_head.protonet",),
    "condinst": ("mask_head.mask_feature_head",),
    "solo": ("mask_head.mask_convs",),
    "decoupled_solo": ("mask_head.mask_convs", "mask_head.conv_mask_list"),
    "solov2": ("mask_head.mask_feature_head",),
}
CHECKPOINT, FOUND, ABOUT = "epoch_1.pth", "found.npz", "about.json"
SIZES = ((0, 16), (16, 32), (32, 96), (96, 1 << 20))  # root of a mask's area, pixels


def main() -> None:
    """Write what mmdetection finds, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    write = verbs.add_parser("write", help="in mmdetection's environment")
    write.add_argument("family", choices=CONFIGS)
    write.add_argument("height", type=int)
    write.add_argument("width", type=int)
    write.add_argument("folder", type=Path)
    write.add_argument("--noise", action="store_true", help="leave the mask layers as they are")
    write.add_argument("--seed", type=int, default=0)
    both = verbs.add_parser("compare", help="in maskrt's environment")
    both.add_argument("folder", type=Path)
    both.add_argument("--eager", action="store_true", help="maskrt's eager model, not its graph")
    options = parser.parse_args()
    if options.verb == "write":
        options.folder.mkdir(parents=True, exist_ok=True)
        write_foreign(options)
    else:
        print(json.dumps(agreement(options.folder, eager=options.eager)))


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Return photographs of this size, uint8 RGB."""
    from PIL import Image
    from skimage import data

    photos = (data.astronaut(), data.coffee(), data.chelsea())
    return [np.asarray(Image.fromarray(p).resize((width, height))) for p in photos]


# ---- mmdetection's side ----


def write_foreign(options: Any) -> None:
    """Build, enliven and run mmdetection's model, and keep all that the other side needs."""
    import mmdet
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    config = Config.fromfile(str(configs / CONFIGS[options.family][0]))
    config.model.backbone.init_cfg = None
    model: Any = MODELS.build(config.model)
    model.init_weights()
    model.eval()
    images = pictures(options.height, options.width)
    samples = [_sample(image) for image in images]
    with torch.no_grad():
        if not options.noise:
            blur(model, SMOOTH[options.family])
        _LIVELY[options.family](model, lambda: _features(model, samples))
        found = [_predicted(model, sample) for sample in samples]
    meta = {"epoch": 1, "mmdet_version": mmdet.__version__}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, options.folder / CHECKPOINT)
    arrays = {f"{n}_{key}": value for n, one in enumerate(found) for key, value in one.items()}
    np.savez_compressed(options.folder / FOUND, **arrays)
    about = {
        "family": options.family, "size": [options.height, options.width],
        "smooth": not options.noise, "pictures": len(images), "mmdet": mmdet.__version__,
        "found": [len(one["scores"]) for one in found],
    }  # fmt: skip
    (options.folder / ABOUT).write_text(json.dumps(about))
    print(json.dumps(about))


def _sample(image: np.ndarray) -> dict[str, Any]:
    import torch
    from mmdet.structures import DetDataSample

    size = image.shape[:2]
    meta = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    return {"inputs": [bgr], "data_samples": [DetDataSample(metainfo=meta)]}


def _features(model: Any, samples: list[Any]) -> list[Any]:
    """Return the pyramid's maps of all pictures, batch norms settled on them first."""
    import torch
    from torch import nn

    batch = torch.cat([model.data_preprocessor(sample)["inputs"] for sample in samples])
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    found = model.extract_feat(batch)
    branch = getattr(model.mask_head, "mask_feature_head", None)
    if branch is not None:
        branch(found)
    model.eval()
    return list(model.extract_feat(batch))


def _predicted(model: Any, sample: Any) -> dict[str, np.ndarray]:
    data = model.data_preprocessor(sample)
    found = model.predict(data["inputs"], data["data_samples"], rescale=True)[0].pred_instances
    return {
        "boxes": found.bboxes.numpy(), "scores": found.scores.numpy(),
        "labels": found.labels.numpy() + 1,  # maskrt's begin at 1
        "masks": np.packbits(found.masks.numpy().astype(bool), axis=-1),
    }  # fmt: skip


def blur(model: Any, prefixes: tuple[str, ...]) -> None:
    """Give the 3x3 convolutions below `prefixes` binomial kernels, one factor a pair of channels."""
    import torch

    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = line[:, None] * line
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if name.startswith(prefixes) and weight is not None and weight.shape[2:] == (3, 3):
            mixed = weight.sum((2, 3), keepdim=True)
            weight.copy_(mixed * kernel)


def spread(layers: list[Any], run: Any, std: float, mean: float) -> None:
    """Scale `layers` so that each channel has this deviation and mean over all that `run` makes."""
    import torch

    for layer in layers:
        seen: list[Any] = []
        hook = layer.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        run()
        hook.remove()
        values = torch.cat([out.transpose(0, 1).flatten(1) for out in seen], 1)
        scale = std / values.std(1).clamp(min=1e-6)
        layer.weight.mul_(scale[:, None, None, None])
        bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
        layer.bias.copy_((bias - values.mean(1)) * scale + mean)


def _rare(layer: Any, logits: list[Any], threshold: float, wanted: int) -> None:
    """Shift a sigmoid's logits so that about `wanted` of a picture pass `threshold`."""
    import math

    import torch

    flat = torch.cat([one.flatten(1) for one in logits], 1).sort(1, descending=True).values
    layer.bias.add_(math.log(threshold / (1 - threshold)) - flat[:, wanted].max())


def _yolact(model: Any, features: Any) -> None:
    import torch

    maps, head, net = features(), model.bbox_head, model.mask_head.protonet
    spread([head.conv_cls], lambda: head(maps), 1.5, 0.0)
    spread([head.conv_coeff], lambda: head(maps), 1.0, 0.0)
    spread([head.conv_reg], lambda: head(maps), 1.5, 0.0)
    classes = head.cls_out_channels
    logits = torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, classes) for x in head(maps)[0]], 1)
    best = logits[..., :-1].amax(2).sort(1, descending=True).values[:, 150].max()
    head.conv_cls.bias[classes - 1 :: classes] += best + 2.0
    spread([net[-2]], lambda: net(maps[0]), 3.0, 0.0)


def _condinst(model: Any, features: Any) -> None:
    maps, head = features(), model.bbox_head
    spread([head.conv_cls], lambda: head(maps), 1.5, -4.5)
    spread([head.conv_centerness], lambda: head(maps), 1.0, 0.5)
    spread([head.conv_reg], lambda: head(maps), 1.0, 2.0)
    spread([head.controller], lambda: head(maps), 1.0, 0.0)
    branch = model.mask_head.mask_feature_head
    spread([branch.conv_pred], lambda: branch(maps), 1.0, 0.0)
    _rare(head.conv_cls, head(maps)[0], 0.05, 300)


def _solo(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head
    _spread_grid(head, maps, [*head.conv_mask_list])


def _decoupled(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head
    _spread_grid(head, maps, [*head.conv_mask_list_x, *head.conv_mask_list_y])


def _spread_grid(head: Any, maps: list[Any], layers: list[Any]) -> None:
    def run() -> Any:
        head.training = True  # else it takes sigmoids and peaks
        return head(maps)

    spread([head.conv_cls], run, 1.2, 0.0)
    spread(layers, run, 3.0, 0.5)
    _rare(head.conv_cls, run()[-1], 0.1, 60)
    head.training = False


def _solov2(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head

    def run() -> Any:
        head.training = True
        return head(maps)

    spread([head.conv_cls], run, 1.2, 0.0)
    kernels, logits, feature = run()
    product = kernels[0].flatten(2).transpose(1, 2)[:, :200] @ feature.flatten(2)
    head.conv_kernel.weight.mul_(4.0 / product.std())
    head.conv_kernel.bias.mul_(4.0 / product.std())
    _rare(head.conv_cls, logits, 0.1, 60)
    head.training = False


_LIVELY = {
    "yolact": _yolact, "condinst": _condinst, "solo": _solo, "decoupled_solo": _decoupled,
    "solov2": _solov2,
}  # fmt: skip


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
        "box_iou": min(boxes, default=None), "score": max(scores, default=None),
        "mask_iou": _by_size(masks),
    }  # fmt: skip


def _ours(folder: Path, about: dict[str, Any], *, eager: bool) -> Any:
    """Yield maskrt's instances of each picture."""
    from maskrt.checking import canonical_session, pytorch_session
    from maskrt.pipeline import export_bundle

    name = f"maskrt:{CONFIGS[about['family']][1]}"
    weights, size = folder / CHECKPOINT, tuple(about["size"])
    with tempfile.TemporaryDirectory(dir=folder) as space:
        bundle = export_bundle(name, Path(space) / "a.maskrt", weights=weights, input_size=size)
        with pytorch_session(bundle, weights) if eager else canonical_session(bundle) as session:
            for image in pictures(*size):
                yield session.predict(image)


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
