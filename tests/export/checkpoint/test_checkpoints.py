"""Checkpoints of every project give their weights, whatever else they hold, and say which."""

import collections
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel  # noqa: E402

from maskrt.core import InputError  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.weights import read_checkpoint  # noqa: E402

from . import layouts  # noqa: E402

pytestmark = pytest.mark.torch


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def _state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = _Net()
    net.backbone(torch.rand(2, 3, 8, 8))  # the counter counts
    return net.state_dict()


def _same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "mmengine": layouts.mmengine,
    "detectron2": layouts.detectron2,
    "mmcv": layouts.mmcv,
    "script": layouts.script,
    "old script": lambda state, file: layouts.script(state, file, legacy=True),
    "plain": lambda state, file: torch.save(state, file),
    "old plain": lambda state, file: torch.save(
        collections.OrderedDict(state), file, _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_weights_are_those_that_were_saved(tmp_path: Path, layout: str) -> None:
    file, state = tmp_path / "epoch_12.pth.tar", _state(0)
    WRITERS[layout](state, file)
    found = read_checkpoint(file)
    _same(found.tensors, state)
    assert "averaged" not in found.about
    assert found.about.get("part", "") in ("", "model", "state_dict")
    assert importlib.util.find_spec("mmengine") is None  # nothing that the file names was there


@pytest.mark.parametrize("write", [layouts.mmengine, layouts.lightning])
def test_averaged_weights_are_taken_and_told(tmp_path: Path, write: Any) -> None:
    """Both tools have put the average under `state_dict` by themselves."""
    file, averaged, trained = tmp_path / "last.ckpt", _state(0), _state(1)
    write(averaged, file, trained)
    found = load_source(_Net(), weights=file)
    _same(found.model.state_dict(), averaged)
    told = found.about["weights"]
    assert told["averaged"] is True
    assert told["beside"] in ("ema_state_dict", "current_model_state")


@pytest.mark.parametrize("key", ["model_ema", "ema_state", "ema", "ema_state_dict"])
@pytest.mark.parametrize("inside", [False, True])
def test_average_beside_the_trained_model_is_taken(tmp_path: Path, key: str, inside: bool) -> None:
    file, averaged, trained = tmp_path / "best.pt", _state(0), _state(1)
    held = {"module": averaged, "updates": 3} if inside else averaged
    torch.save({"model": trained, key: held, "epoch": 3}, file)
    found = read_checkpoint(file)
    _same(found.tensors, averaged)
    part = f"{key}.module" if inside else key
    assert found.about == {"part": part, "averaged": True, "beside": "model"}


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "model._orig_mod.", "module.detector.net."]
)
def test_prefix_is_taken_off(tmp_path: Path, prefix: str) -> None:
    file, state = tmp_path / "w.pth", _state(0)
    torch.save({"state_dict": {prefix + name: value for name, value in state.items()}}, file)
    found = load_source(_Net(), weights=file)
    _same(found.model.state_dict(), state)
    assert found.about["weights"]["prefix"] == prefix


class _Wrapped(nn.Module):
    """A model whose own names have the prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.module = _Net()


def test_prefix_that_the_model_has_stays(tmp_path: Path) -> None:
    file, state = tmp_path / "w.pth", _Wrapped().state_dict()
    torch.save(state, file)
    found = load_source(_Wrapped(), weights=file)
    _same(found.model.state_dict(), state)
    assert "prefix" not in found.about["weights"]


def test_averaging_wrapper_of_torch(tmp_path: Path) -> None:
    file, net = tmp_path / "swa.pt", _Net()
    torch.save(AveragedModel(net).state_dict(), file)  # module.* and n_averaged
    found = load_source(_Net(), weights=file)
    _same(found.model.state_dict(), net.state_dict())
    assert found.about["weights"]["prefix"] == "module."
    assert "left_out" not in found.about["weights"]


def test_one_model_among_others_is_found_and_the_rest_told(tmp_path: Path) -> None:
    file, teacher, student = tmp_path / "w.pth", _state(0), _state(1)
    both = {f"student.{n}": v for n, v in student.items()}
    both |= {f"teacher.{n}": v for n, v in teacher.items()} | {"loss.weight": torch.ones(2)}
    torch.save({"state_dict": both}, file)
    found = load_source(_Net(), weights=file)
    _same(found.model.state_dict(), teacher)
    told = found.about["weights"]
    assert (told["prefix"], told["left_out"]) == ("teacher.", len(student) + 1)


def test_mmcv_s_second_copy_is_left_out(tmp_path: Path) -> None:
    file, state = tmp_path / "w.pth", _state(0)
    doubled = {f"ema_{name.replace('.', '_')}": value + 1 for name, value in state.items()}
    torch.save({"meta": {}, "state_dict": {**state, **doubled}}, file)
    found = load_source(_Net(), weights=file)
    _same(found.model.state_dict(), state)
    assert found.about["weights"]["left_out"] == len(doubled)


def test_prefix_does_not_hide_what_is_missing(tmp_path: Path) -> None:
    file, state = tmp_path / "w.pth", _state(0)
    del state["head.bias"]
    torch.save({f"module.{name}": value for name, value in state.items()}, file)
    with pytest.raises(InputError, match="not this model's"):
        load_source(_Net(), weights=file)


def test_whole_module_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    with layouts.standing_in("strangers.net", "Detector") as kind:
        torch.save({"model": kind(), "epoch": 3}, file)
    with pytest.raises(InputError, match=r"strangers\.net\.Detector.*nothing of it was") as refused:
        read_checkpoint(file)
    assert "torch.load('best.pt', weights_only=False)['model'].state_dict()" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, r"no parameters by name \(but epoch\)"),
        ({"a": {"w": 1}, "b": 2}, "no parameters by name"),
        ([1, 2], "no parameters by name"),
        ({"model": {"w": torch.zeros(2), 3: torch.zeros(2)}}, "called 3, which is a int"),
        ({"model": {"w": torch.zeros(2), "\x1b[2Jx": 7}}, r"no tensor \(\?\[2Jx: int\)"),
        ({"w": torch.zeros(3).to_sparse()}, "_rebuild_sparse_tensor"),
        ({"w": torch.zeros(2), "c": torch.zeros(2, dtype=torch.complex64)}, "ComplexFloatStorage"),
    ],
)
def test_what_holds_no_weights_is_told(tmp_path: Path, content: Any, words: str) -> None:
    file = tmp_path / "w.pth"
    torch.save(content, file)
    with pytest.raises(InputError, match=words):
        read_checkpoint(file)
