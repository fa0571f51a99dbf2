"""`targets` and `models` list what compiles, by torchvision, the families and the documentation."""

import re
from pathlib import Path

import pytest

import maskrt
from maskrt.core import Target
from maskrt.core.cards import CARDS, sm_of_card
from maskrt.export.zoo import ZOO
from maskrt.export.zoo.known_weights import ONNX_FILES, TORCHVISION, WEIGHTS

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.torch
def test_torchvisions_names_are_those_that_a_family_exports() -> None:
    """Each of its detectors is built, without memory for weights, and shown to the families."""
    import torch
    import torchvision

    from maskrt.core import UnsupportedModelError
    from maskrt.export.families.registry import family_of

    exported = []
    for name in torchvision.models.list_models(module=torchvision.models.detection):
        with torch.device("meta"):
            model = torchvision.models.get_model_builder(name)(weights=None, weights_backbone=None)
        try:
            family_of(model)
        except UnsupportedModelError:
            continue
        exported.append(name)
    assert tuple(exported) == TORCHVISION


@pytest.mark.torch
def test_every_project_whose_layout_is_known_is_named_and_no_other() -> None:
    from maskrt.export.families.condinst_weights import CONDINST_LAYOUTS
    from maskrt.export.families.grid_checkpoints import SOLO_LAYOUTS, SOLOV2_LAYOUTS
    from maskrt.export.families.yolact_weights import YOLACT_LAYOUTS

    layouts = {
        "condinst_": CONDINST_LAYOUTS,
        "decoupled_solo_": SOLO_LAYOUTS,
        "solo_": SOLO_LAYOUTS,
        "solov2_": SOLOV2_LAYOUTS,
        "yolact_": YOLACT_LAYOUTS,
    }
    for prefix, known in layouts.items():
        said = {part.split(" ")[0] for part in WEIGHTS[prefix].split("; ")}
        projects = {layout.project.partition(",")[0] for layout in known} - {"maskrt"}
        authors = {"dbolya/yolact" if p == "the authors' program" else p for p in projects}
        assert said == authors, prefix


def test_every_model_is_listed_once_with_its_weights() -> None:
    found = maskrt.models()
    named = [facts.model for facts in found if facts.kind == "maskrt"]
    assert sorted(named) == sorted(f"maskrt:{name}" for name in ZOO)
    assert all(facts.weights for facts in found if facts.kind != "onnx")
    weights = {facts.model: facts.weights for facts in found}
    assert weights["maskrt:maskrcnn_x101_detectron2"].endswith(
        "Mask R-CNN with an FPN on X101-32x8d"
    )
    assert weights["maskrt:maskrcnn_r101"] == "trained with torchvision's code"
    assert weights["maskrt:solo_scenes"] == "its own, which ship with maskrt"


def test_what_ships_does() -> None:
    from maskrt.demo import weights_path

    demo = weights_path().parent
    scenes = [facts for facts in maskrt.models() if "ship with maskrt" in facts.weights]
    names = {facts.model.removeprefix("maskrt:") for facts in scenes}
    assert names == {file.stem for file in demo.glob("*.safetensors")}


def test_the_onnx_files_are_those_of_the_documentation() -> None:
    text = (DOCS / "surgery.md").read_text(encoding="utf-8")
    table = text[text.index("## Whose files") : text.index("*Restated*")]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| ")][1:]
    read = {exporter.strip() for exporter, recognised in rows if "fails" not in recognised}
    assert read == {", ".join(filter(None, pair)) for pair in ONNX_FILES.items()}


def test_targets_can_all_be_parsed_and_say_why_not() -> None:
    found = {facts.target.name: facts for facts in maskrt.targets()}
    assert all(Target.parse(name) == facts.target for name, facts in found.items())
    assert found["cpu"].builds
    assert found["cpu"].runs
    for facts in found.values():
        assert facts.why_not or facts.runs
        assert not (facts.builds and facts.prepares)
    assert "rtx-3090" in found["rtx-86"].cards
    named = {card for facts in found.values() for card in facts.cards}
    assert named <= set(CARDS)
    assert all(found[f"rtx-{sm_of_card(card)}"].target.sms == (sm_of_card(card),) for card in named)


def test_the_verbs_print_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    from maskrt.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["models"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for facts in maskrt.models():
        model, weights = (text.replace("`", "") for text in (facts.model, facts.weights))
        row = rf"{re.escape(model)} +{re.escape(weights or '-')}"
        assert re.search(row, shown), facts
