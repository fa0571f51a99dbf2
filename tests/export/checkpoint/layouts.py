"""Training checkpoints as the tools write them, read node by node from files that they wrote.

    mmengine     0.10.7, Runner with CheckpointHook (and EMAHook)
    detectron2   02b5c4e, DetectionCheckpointer with optimizer and scheduler
    Lightning    2.6.6, ModelCheckpoint and EarlyStopping (and WeightAveraging)
    mmcv         1.x, save_checkpoint, as in WXinlong/SOLO and mmdetection 2

Objects of theirs are pickled by name: modules stand in for the tools' while a file is written, and
are gone when it is read.
"""

import argparse
import collections
import contextlib
import datetime
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
_STATISTICS = ("min", "max", "current", "mean")


@contextlib.contextmanager
def standing_in(module: str, name: str) -> Iterator[type]:
    """Yield a class that pickles as `module.name`; afterwards no such module can be imported."""
    words = module.split(".")
    added = [".".join(words[: i + 1]) for i in range(len(words))]
    made: Any = type(name, (), {"__module__": module, "__qualname__": name})
    for path in added:
        sys.modules[path] = types.ModuleType(path)
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for path in added:
            del sys.modules[path]


def momentum(state: State) -> dict[str, Any]:
    """SGD's own state dict after a step on parameters of these shapes."""
    floats = [t.clone().requires_grad_() for t in state.values() if t.is_floating_point()]
    optimizer = torch.optim.SGD(floats, lr=0.02, momentum=0.9)
    for value in floats:
        value.grad = torch.full_like(value, 1e6)
    optimizer.step()
    return optimizer.state_dict()


def mmengine(state: State, file: pathlib.Path, averaged_from: State | None = None) -> None:
    """`epoch_N.pth`; with `averaged_from`, what EMAHook leaves: the average is `state_dict`."""
    with standing_in("mmengine.logging.history_buffer", "HistoryBuffer") as kind:
        for name in _STATISTICS:
            setattr(kind, name, types.FunctionType(_history.__code__, {}, name))
            method = getattr(kind, name)
            method.__module__, method.__qualname__ = kind.__module__, f"HistoryBuffer.{name}"
        content = {
            "meta": {
                "epoch": 2,
                "iter": 8,
                "cfg": "model = dict(type='MaskRCNN')\n",
                "seed": 390651915,
                "experiment_name": "20261128_214720",
                "time": "20261128_214727",
                "mmengine_version": "0.10.7",
                "dataset_meta": {"classes": ("cup", "plate", "fork"), "palette": [(1, 2, 3)]},
                "hook_msgs": {},
            },
            "state_dict": collections.OrderedDict(state),
            "message_hub": {
                "log_scalars": {"train/lr": _history(kind), "train/loss": _history(kind)},
                "runtime_info": {"epoch": 1, "eta": np.float64(12.5), "last_ckpt": str(file)},
                "resumed_keys": {"epoch": True, "train/loss": True},
            },
            "optimizer": momentum(state),
            "param_schedulers": [{"milestones": collections.Counter({8: 1}), "gamma": 0.1}],
        }
        if averaged_from is not None:
            inner = {f"module.{name}": value for name, value in averaged_from.items()}
            content["ema_state_dict"] = {"steps": torch.tensor(8), **inner}
        torch.save(content, file)


def _history(kind: Any) -> Any:
    buffer = kind()
    buffer.__dict__.update(
        max_length=1000000,
        _log_history=np.linspace(0, 1, 8),
        _count_history=np.ones(8, np.int64),
        statistics_methods={name: getattr(kind, name) for name in _STATISTICS},
    )
    return buffer


def detectron2(state: State, file: pathlib.Path) -> None:
    """`model_final.pth`."""
    content = {
        "model": collections.OrderedDict(state),
        "optimizer": momentum(state),
        "scheduler": {"base_lrs": [0.02], "last_epoch": 269999},
        "iteration": 269999,
    }
    torch.save(content, file)


def lightning(state: State, file: pathlib.Path, trained: State | None = None) -> None:
    """`epoch=1-step=8.ckpt` of a module whose detector is its `model`; `trained` if averaged."""
    content: dict[str, Any] = {
        "epoch": 1,
        "global_step": 8,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": collections.OrderedDict({f"model.{n}": v for n, v in state.items()}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}}}},
        "callbacks": {
            "EarlyStopping{'monitor': 'loss', 'mode': 'min'}": {"best_score": torch.tensor(0.5)},
            "ModelCheckpoint{'monitor': 'loss'}": {"dirpath": "/runs", "best_k_models": {}},
        },
        "optimizer_states": [momentum(state)],
        "lr_schedulers": [{"step_size": 1, "gamma": 0.1, "base_lrs": [0.1], "last_epoch": 2}],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "lr": 0.1,
            "data": pathlib.PurePosixPath("/data"),
            "extra": argparse.Namespace(a=1),
        },
    }
    if trained is not None:
        content["current_model_state"] = {f"model.{n}": v for n, v in trained.items()}
        content["averaging_state"] = {"n_averaged": torch.tensor(8)}
    torch.save(content, file)


def mmcv(state: State, file: pathlib.Path) -> None:
    """`epoch_12.pth` of mmcv 1, in the format before PyTorch 1.6."""
    content = {
        "meta": {
            "epoch": 12,
            "iter": 87960,
            "mmcv_version": "0.2.16",
            "config": "model = dict()",
            "CLASSES": ("cup", "plate", "fork"),
            "time": "Wed Mar 18 10:00:00 2020",
        },
        "state_dict": collections.OrderedDict(state),
        "optimizer": momentum(state),
    }
    torch.save(content, file, _use_new_zipfile_serialization=False)


def script(state: State, file: pathlib.Path, legacy: bool = False) -> None:
    """What a training script of one's own keeps."""
    content = {
        "model": state,
        "optimizer": momentum(state),
        "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data"), classes={"a", "b"}),
        "when": datetime.datetime(2026, 11, 28, 12, 0),
        "best": np.float64(0.61),
        "history": [np.float32(0.5), np.arange(3), torch.Size([1, 2]), torch.float16],
    }
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
