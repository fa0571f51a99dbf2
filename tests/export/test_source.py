"""From words and weights to a model: what is passed on, what is refused, what is left alone."""

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from maskrt.core import InputError, UsageError  # noqa: E402
from maskrt.export import export_model, source  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.weights import read_weights  # noqa: E402

from .detectors import tiny_one_map  # noqa: E402

pytestmark = pytest.mark.torch

FACTORIES = f"{__package__}.factories" if __package__ else "tests.export.factories"


def _saved(folder: Path, state: Any) -> Path:
    file = folder / "weights.pth"
    torch.save(state, file)
    return file


def _classes(model: Any) -> int:
    return model.roi_heads.box_predictor.cls_score.out_features


@pytest.mark.parametrize("factory", ["fixed", "flexible", "explicit"])
def test_factory_gets_the_classes_of_the_weights_if_it_takes_them(
    tmp_path: Path, factory: str
) -> None:
    weights = _saved(tmp_path, tiny_one_map(4).state_dict())
    assert _classes(load_source(f"{FACTORIES}:{factory}", weights=weights).model) == 4


def test_num_classes_given_to_a_factory_without_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"its factory takes \(\).*num_classes"):
        load_source(f"{FACTORIES}:fixed", num_classes=4)


def test_call_is_checked_before_the_factory_runs() -> None:
    with pytest.raises(UsageError, match=r"missing a required argument: 'config'"):
        load_source(f"{FACTORIES}:demanding")


def test_error_inside_the_factory_is_told_as_the_factory_s() -> None:
    with pytest.raises(UsageError, match=r"could not be built by its factory \(TypeError: ") as e:
        load_source(f"{FACTORIES}:faulty")
    assert isinstance(e.value.__cause__, TypeError)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("with_weights", [False, True])
def test_module_is_left_as_it_was(tmp_path: Path, with_weights: bool) -> None:
    model = tiny_one_map().train()
    before = copy.deepcopy(model.state_dict())
    weights = _saved(tmp_path, tiny_one_map().state_dict()) if with_weights else None
    loaded = load_source(model, weights=weights).model
    assert not any(m.training for m in loaded.modules())
    assert all(m.training for m in model.modules())
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    head = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(loaded.state_dict()[head], before[head]) is not with_weights


def test_module_in_eval_mode_is_not_copied() -> None:
    model = tiny_one_map().eval()
    assert load_source(model).model is model


def test_module_with_num_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="FasterRCNN object already has its classes"):
        export_model(tiny_one_map(), num_classes=4, input_size=(64, 64))


@pytest.mark.parametrize("number", [1, 0, -3])
def test_fewer_than_two_classes_are_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"num_classes is {number}, and must be at least 2"):
        load_source(f"{FACTORIES}:explicit", num_classes=number)


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    weights = _saved(tmp_path, {"model": {0: torch.zeros(2)}})
    with pytest.raises(InputError, match="a parameter called 0, which is a int and no name"):
        load_source(f"{FACTORIES}:fixed", weights=weights)


class _Normalised(nn.Module):
    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), norm(4))


@pytest.mark.parametrize(
    ("name", "norm", "doubt"),
    [
        ("maskrcnn_resnet50_fpn", torchvision.ops.FrozenBatchNorm2d, True),
        ("fasterrcnn_resnet50_fpn", torchvision.ops.FrozenBatchNorm2d, True),
        ("maskrcnn_resnet50_fpn", nn.BatchNorm2d, False),
        ("maskrcnn_resnet50_fpn_v2", torchvision.ops.FrozenBatchNorm2d, False),
    ],
)
def test_frozen_weights_of_unknown_epsilon_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, norm: Any, doubt: bool
) -> None:
    """The real detectors' builders are replaced by one layer: only the counters matter."""

    def build(**options: Any) -> nn.Module:
        return _Normalised(nn.BatchNorm2d)

    monkeypatch.setattr(source, "_torchvision_builder", lambda _: build)
    weights = _saved(tmp_path, _Normalised(norm).state_dict())
    about = load_source(f"torchvision:{name}", weights=weights).about
    assert ("warning" in about) is doubt
    if doubt:
        assert "epsilon" in about["warning"]
        assert "check the AP" in about["warning"]


def test_published_weights_are_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = torchvision.models.get_model_weights("maskrcnn_resnet50_fpn").COCO_V1
    stem = published.url.rpartition("-")[2].removesuffix(".pth")
    monkeypatch.setattr(
        source, "_torchvision_builder", lambda _: lambda **options: _Normalised(nn.BatchNorm2d)
    )
    monkeypatch.setattr(source, "file_sha256", lambda _: stem + "0" * 56)
    state: dict[str, Tensor] = _Normalised(torchvision.ops.FrozenBatchNorm2d).state_dict()
    found = load_source("torchvision:maskrcnn_resnet50_fpn", weights=_saved(tmp_path, state))
    assert "warning" not in found.about
    assert found.class_names is not None
    assert found.model.backbone[1].eps == 0  # type: ignore[index, union-attr]


class _Trainer:
    """What a training script keeps beside the tensors."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"\xff\xd8\xff\xe0 a picture",
            "is neither a .safetensors nor a .pth or .pkl file that torch saves",
        ),
        ({"trainer": _Trainer()}, "hold a Python object ("),
    ],
)
def test_weights_that_cannot_be_read_are_told_in_our_words(
    tmp_path: Path, content: Any, words: str
) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(InputError) as refused:
        read_weights(file)
    assert words in str(refused.value)
    assert str(refused.value).endswith((".pth.", "alone."))


@pytest.mark.parametrize("name", ["last.pth", "best.PT", "epoch=3.ckpt", "runs/model.safetensors"])
def test_weights_given_as_the_model(name: str) -> None:
    with pytest.raises(UsageError, match=r"is a file of weights, .* give the file as weights=\."):
        load_source(name)
