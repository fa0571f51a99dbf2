"""Engines from elsewhere, in every verb that opens one; signing and verifying."""

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from maskrt.cli.verbs import _VERBS
from maskrt.core import Bundle

from ..built import note_built
from ..runtime.trust.bundles import ENGINE, MANIFEST, PLAN, make, pretend_gpu
from ..runtime.trust.minisign_wrote import KEY, PUBLIC, SECRET, SECRET_WITH_PASSWORD
from .command_line import run

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
OPENING = {"run", "check", "bench", "package", "sign"}


@pytest.fixture
def bundle(work: Path, tmp_path: Path, elsewhere: Path) -> Bundle:
    """The small compiled bundle, with an engine for a GPU that came from elsewhere."""
    shutil.copytree(work / "tiny.maskrt", tmp_path / "b.maskrt")
    opened = Bundle.open(tmp_path / "b.maskrt")
    with opened.edit() as staged:
        for target in ("rtx", "gpu"):
            staged.write(f"engines/{target}/engine.trt", PLAN)
            staged.write(f"engines/{target}/engine.json", {**ENGINE, "form": "aot"})
    return opened


def _words(verb: str, work: Path, tmp_path: Path) -> tuple[Any, ...]:
    return {
        "run": (work / "pictures", "-o", tmp_path / "out", "--target", "rtx"),
        "check": ("--images", work / "pictures", "--annotations", work / "annotations.json",
                  "--target", "rtx"),
        "bench": ("--runs", 1, "--target", "rtx"),
        "package": ("--triton", tmp_path / "triton", "--target", "gpu"),
    }[verb]  # fmt: skip


@pytest.mark.parametrize("verb", ["run", "check", "bench", "package"])
def test_an_engine_from_elsewhere_is_refused_in_the_words_of_the_command_line(
    verb: str, bundle: Bundle, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    opened = pretend_gpu(monkeypatch, bundle.manifest)
    words = _words(verb, work, tmp_path)
    capsys.readouterr()
    assert run(verb, bundle.path, *words) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"error: engines/(rtx|gpu) in \S+ was not built on this machine, it is not signed, and an "
        r"engine is machine code: build it here with maskrt build \S+ --target (rtx|gpu)[^,]*, or, "
        r"if you trust whoever built it, say so with --trust\.",
        said,
    )
    assert opened == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "triton").exists()
    assert run(verb, bundle.path, *words, "--trust") == 0
    if verb == "package":
        (plan,) = (tmp_path / "triton").rglob("model.plan")
        assert plan.read_bytes() == PLAN
    else:
        assert {plan for plan, _ in opened} == {PLAN}


def test_a_signature_is_enough(
    bundle: Bundle, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("minisign")
    opened = pretend_gpu(monkeypatch, bundle.manifest)
    (tmp_path / "v.key").write_text(SECRET)
    (tmp_path / "v.pub").write_text(PUBLIC)
    assert run("sign", bundle.path, "--key", tmp_path / "v.key") == 1
    assert "say so with --trust." in capsys.readouterr().err
    assert run("sign", bundle.path, "--key", tmp_path / "v.key", "--trust") == 0
    assert f"is signed by the key {KEY}" in " ".join(capsys.readouterr().out.split())
    assert run("verify", bundle.path) == 1
    assert "with --key, or do not use the bundle." in capsys.readouterr().err
    assert run("verify", bundle.path, "--key", tmp_path / "v.pub") == 0
    assert f"signed    by the key {KEY} (timestamp:" in capsys.readouterr().out
    words = _words("check", work, tmp_path)
    assert run("check", bundle.path, *words, "--trust-key", tmp_path / "v.pub") == 0
    assert len(opened) == 1
    assert run("verify", bundle.path, "--key", tmp_path / "v.pub") == 0
    told = capsys.readouterr().out  # changed, if the shared bundle had a report
    assert re.search(r"(added|changed) +report/report\.html, report/report\.json", told)
    with Bundle.open(bundle.path).edit() as staged:
        staged.write("engines/rtx/engine.trt", b"another")
    assert run("verify", bundle.path, "--key", tmp_path / "v.pub") == 1
    assert "engine.trt is not the file that the key" in capsys.readouterr().err


@pytest.mark.slow
def test_the_password_of_a_key_is_asked_for(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("minisign")
    (tmp_path / "b.key").write_text(SECRET_WITH_PASSWORD)
    asked: list[str] = []
    monkeypatch.setattr(click, "prompt", lambda text, **_: asked.append(text) or "secret")
    note_built(PLAN)
    assert run("sign", make(tmp_path / "b.maskrt").path, "--key", tmp_path / "b.key") == 0
    assert asked == [f"password of {tmp_path / 'b.key'}"]
    assert "signed by the key C71367BFBC53BD25" in " ".join(capsys.readouterr().out.split())


def test_every_verb_that_opens_an_engine_takes_the_users_word() -> None:
    """Those that open one, or pass one on; the others open what they built themselves, or none."""
    taking = set()
    for verb in _VERBS:
        command = importlib.import_module(f"maskrt.cli.{verb}").command
        names = {option for parameter in command.params for option in parameter.opts}
        if "--trust" in names:
            taking.add(verb)
            assert "--trust-key" in names
    assert taking == OPENING


def test_doctor_says_which_engines_are_refused(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "b.maskrt").path
    run("doctor", path)
    told = " ".join(capsys.readouterr().out.split())
    assert "rtx was not built on this machine, it is not signed." in told
    assert f"run maskrt build {path} --target rtx --precision fp16" in told
    note_built(PLAN)
    run("doctor", path)
    assert "was not built on this machine" not in capsys.readouterr().out


def test_a_stranger_cannot_write_into_the_terminal_by_a_signature(
    tmp_path: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minisign = pytest.importorskip("minisign")
    path = make(tmp_path / "b.maskrt").path
    pair = minisign.KeyPair.generate()
    (tmp_path / "x.pub").write_bytes(bytes(pair.public_key))
    (path / "signed").mkdir()
    statement = (path / "manifest.json").read_bytes()
    signature = bytes(pair.secret_key.sign(statement)).splitlines()
    signature[2] = b"trusted comment: \x1b[2Jtimestamp:1"
    (path / "signed" / "manifest.json").write_bytes(statement)
    (path / "signed" / "manifest.json.minisig").write_bytes(b"\n".join(signature) + b"\n")
    assert run("verify", path, "--key", tmp_path / "x.pub") == 1
    assert "\x1b" not in "".join(capsys.readouterr())
    assert MANIFEST.class_names is not None
