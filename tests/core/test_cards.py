"""A card's name is a target: the one of its compute capability."""

import pytest

from maskrt.cli import main
from maskrt.core import Target, UnsupportedTargetError
from maskrt.core.cards import CARDS, sm_of_card


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("rtx-3090", "rtx-86"), ("rtx-4060", "rtx-89"), ("rtx-5090", "rtx-120"), ("a10", "rtx-86"),
        ("l4", "rtx-89"), ("t4", "rtx-75"), ("rtx-2080-ti", "rtx-75"), ("a100", "rtx-80"),
        ("RTX 4070 Ti SUPER", "rtx-89"), ("NVIDIA GeForce RTX 3060 Laptop GPU", "rtx-86"),
        ("rtx3080", "rtx-86"), ("rtx_5070_ti", "rtx-120"), ("NVIDIA RTX A6000", "rtx-86"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-89"), ("Tesla T4", "rtx-75"),
        ("NVIDIA GB10", "rtx-121"), ("rtx-86", "rtx-86"),
    ],
)  # fmt: skip
def test_a_card_is_its_compute_capability(name: str, target: str) -> None:
    found = Target.parse(name)
    assert found.name == target
    assert found.sms == (int(target.removeprefix("rtx-")),)
    assert found == Target.parse(target)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h100", r"a card h100 is SM 9\.0, for which TensorRT-RTX builds no engines"),
        ("b200", r"SM 10\.0"),
        ("rtx-9090", "'rtx-9090' is unknown .* capability, as one of rtx-75"),
        ("GTX 1080", "capability, as one of rtx-75"), ("rtx-3095", "as one of rtx-75"),
        ("rtx-90", "unknown .* as one of rtx-75"),
        ("x3090", "unknown"), ("a1", "unknown"), ("", "unknown"),
    ],
)  # fmt: skip
def test_another_gpu_is_never_offered_in_its_place(name: str, words: str) -> None:
    with pytest.raises(UnsupportedTargetError, match=words) as raised:
        Target.parse(name)
    assert "did you mean rtx" not in str(raised.value)


def test_every_card_is_found_by_its_own_name() -> None:
    assert {name: sm_of_card(name) for name in CARDS} == CARDS


def test_targets_lists_the_cards(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["targets"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rtx-86, by a card's name: rtx-3050," in said
    assert "h100" not in said
