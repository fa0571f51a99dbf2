"""What holds for every verb: examples in its help, `--json`, `maskrt.toml`, logs, colour."""

import json
import logging
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import maskrt
from maskrt.cli.examples import EXAMPLES
from maskrt.cli.verbs import _VERBS, _group

from ..runtime.trust.minisign_wrote import PUBLIC, SECRET
from .command_line import run

VERBS = tuple(_VERBS)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7]|38|48)[0-9;]*m")


def _command(verb: str) -> click.Command:
    found = _group.get_command(click.Context(_group), verb)
    assert found is not None
    return found


def _maskrt(*words: Any, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maskrt", *map(str, words)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_of_help_is_parsed_by_its_verb(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert EXAMPLES[verb]
    for example in EXAMPLES[verb]:
        program, name, *words = shlex.split(example)
        assert (program, name) == ("maskrt", verb)
        _command(verb).make_context(verb, words)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_the_examples_a_line_each(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert set(EXAMPLES[verb]) <= set(lines[lines.index("Examples:") :])


def test_an_example_that_is_wrong_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        _command("check").make_context("check", ["street.maskrt", "--no-such-option"])


# --json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Path:
    """A folder of which the verbs may change everything."""
    made = tmp_path_factory.mktemp("conventions") / "work"
    shutil.copytree(work, made)
    return made


def _words(verb: str, folder: Path, out: Path) -> list[list[Any]]:
    """Return calls of the verb that do its work."""
    bundle, pictures = folder / "tiny.maskrt", folder / "pictures"
    judged = ["--images", pictures, "--annotations", folder / "annotations.json"]
    model = ["tests.export.detectors:tiny_mask_rcnn", "--weights", folder / "tiny.pth"]
    sized = ["--input-size", 128, 160]
    calls: dict[str, list[list[Any]]] = {
        "compile": [[*model, "-o", out / "made.maskrt", *sized]],
        "export": [[*model, "-o", out / "made.maskrt", *sized],
                   [bundle, "--inlined", out / "plain.onnx"]],
        "calibrate": [[bundle, "--calibration", pictures]],
        "recipe": [[bundle]],
        "build": [[bundle, "--target", "cpu"]],
        "run": [[bundle, pictures, "-o", out]],
        "check": [[bundle, *judged], [bundle, *judged, "--store-reference"]],
        "report": [[bundle]],
        "bench": [[bundle, "--runs", 1, "--images", pictures],
                  [bundle, "--runs", 1, "--images", pictures, "--all"]],
        "package": [[bundle, "--triton", out]],
        "sign": [[bundle, "--key", out / "key"]],
        "verify": [[bundle, "--key", out / "key.pub"]],
        "inspect": [[bundle], [bundle / "model.onnx"]],
        "models": [[]],
        "targets": [[]],
        "doctor": [[bundle], ["--known"]],
        "demo": [["-o", out / "demo.maskrt", "--pictures", 1]],
    }  # fmt: skip
    return calls[verb]


@pytest.mark.torch
@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=pytest.mark.slow) if v == "demo" else v for v in VERBS]
)
def test_every_verb_prints_one_document_and_nothing_else(
    verb: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"demo": "tensorrt_rtx", "sign": "minisign", "verify": "minisign"}
    if verb in needed:
        pytest.importorskip(needed[verb])
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "key.pub").write_text(PUBLIC)
    if verb == "verify":
        assert run("sign", folder / "tiny.maskrt", "--key", tmp_path / "key") == 0
    for words in _words(verb, folder, tmp_path):
        capsys.readouterr()
        status = run(verb, *words, "--json")
        document = json.loads(capsys.readouterr().out)
        assert document
        refused = words[-1:] == [folder / "tiny.maskrt" / "model.onnx"]  # maskrt's own file
        assert (status, "error" in document) == ((2, True) if refused else (0, False)), document


@pytest.mark.torch
def test_the_documents_say_what_was_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, pictures = folder / "tiny.maskrt", folder / "pictures"
    run("run", bundle, pictures, "-o", tmp_path, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["instances"] == len(json.loads((tmp_path / "results.json").read_text()))
    assert told["pictures"] == len(list(pictures.iterdir()))
    run("recipe", bundle, "--json")
    layers = json.loads(capsys.readouterr().out)["layers"]
    kept = maskrt.recipe(bundle).layers
    assert {n: c["precision"] for n, c in layers.items()} == {
        name: choice.precision.value for name, choice in kept.items()
    }
    run("inspect", bundle, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["bundle"] == str(bundle)
    assert [engine["name"] for engine in told["engines"]] == ["cpu"]


@pytest.mark.torch
def test_a_budget_that_is_missed_has_its_report_and_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskrt.runtime import check as judgement

    def missed(report: Any) -> None:
        raise maskrt.MaskrtError("missed.")

    monkeypatch.setattr(judgement, "enforce", missed)
    judged = ("--images", folder / "pictures", "--annotations", folder / "annotations.json")
    words = (folder / "tiny.maskrt", *judged, "--max-ap-drop", 9)
    assert run("check", *words, "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["metrics"]["box"]
    assert said.err.rstrip().endswith("error: missed.")


def test_a_failure_is_a_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", tmp_path / "none.maskrt", "--json") == 1
    said = capsys.readouterr()
    assert f"error: {json.loads(said.out)['error']}\n" == said.err
    assert run("inspect", tmp_path / "none.maskrt") == 1
    assert capsys.readouterr().out == ""


# maskrt.toml


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.torch
def test_options_of_maskrt_toml_are_taken_unless_given(
    folder: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "maskrt.toml").write_text(f'[run]\noutput = "drawn"\ntarget = "orin-nx"\n')  # noqa: F541
    bundle, pictures = folder / "tiny.maskrt", folder / "pictures"
    assert run("run", bundle, pictures) == 1  # no engine for that target
    said = capsys.readouterr().err
    assert said.startswith("maskrt.toml gives run --output, --target.\n")
    assert "orin-nx" in said.splitlines()[-1]
    assert run("run", bundle, pictures, "--target", "cpu") == 0
    assert (here / "drawn" / "results.json").is_file()


@pytest.mark.torch
def test_paths_of_a_config_start_at_its_folder(folder: Path, here: Path) -> None:
    place = here / "elsewhere"
    place.mkdir()
    (place / "mine.toml").write_text('[run]\noutput = "drawn"\nmin-score = 0.9\n')
    assert run("--config", place / "mine.toml", "run", folder / "tiny.maskrt",
               folder / "pictures") == 0  # fmt: skip
    assert (place / "drawn" / "results.json").is_file()


def test_lists_flags_and_pairs_of_maskrt_toml_are_those_of_the_command_line(here: Path) -> None:
    from maskrt.cli.config import defaults_of

    (here / "maskrt.toml").write_text(
        '[compile]\ntarget = ["cpu", "rtx"]\ninput-size = [320, 480]\nequalise = true\n'
        'keep = ["rpn.*=fp16"]\nclass-aware = false\n'
    )
    command = _command("compile")
    found, _ = defaults_of("compile", command, VERBS, None)
    given = command.make_context("compile", ["m", "-o", "b.maskrt"], default_map=found).params
    asked = ["m", "-o", "b.maskrt", "--target", "cpu", "--target", "rtx", "--input-size", "320",
             "480", "--equalise", "--keep", "rpn.*=fp16"]  # fmt: skip
    expected = command.make_context("compile", asked).params
    assert {k: v for k, v in given.items() if k != "class_agnostic"} == {
        k: v for k, v in expected.items() if k != "class_agnostic"
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[chekc]\n", "maskrt.toml has 'chekc', which is no table of a verb: did you mean check?"),
        ("images = 'val'\n", "maskrt.toml has 'images', which is no table of a verb"),
        ("[models]\ntargt = 1\n", "maskrt.toml has 'targt' for models, which has no such option"),
        ("[check]\nmodel = 'a:b'\n", "for check, but it imports code: say --model on the command"),
        ("[check]\ndask = 'tcp://x'\n", "for check, but its scheduler is trusted with code"),
        ("[bench]\nruns = {a = 1}\n", "maskrt.toml has a table as 'runs' of bench"),
        ("[check\n", "maskrt.toml cannot be read as TOML"),
        ("[bench]\nruns = 'many'\n", "invalid value for '--runs'"),
    ],
)
def test_what_is_wrong_in_maskrt_toml_is_said(
    text: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "maskrt.toml").write_text(text)
    verb = (re.findall(r"\[(check|bench|models)", text) or ["models"])[0]
    words = {"models": (), "bench": ("b",), "check": ("b", "--images", "i", "--annotations", "a")}
    assert run(verb, *words[verb]) == 2
    assert sentence in capsys.readouterr().err


def test_no_option_that_imports_code_is_left_out_of_those_that_are_refused() -> None:
    """A new option that takes `package.module:factory` or a scheduler has to be listed."""
    from maskrt.cli.config import _SAID_EACH_TIME

    risky = {
        parameter.opts[0].removeprefix("--")
        for verb in VERBS
        for parameter in _command(verb).params
        if isinstance(parameter, click.Option)
        and re.search(r"in your own words|scheduler|factory", parameter.help or "")
    }
    assert risky == set(_SAID_EACH_TIME)


# Logs


def test_the_library_logs_and_prints_nothing(
    work: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="maskrt"):
        maskrt.build(shutil.copytree(work / "tiny.maskrt", work / "logged.maskrt"), "cpu")
    shutil.rmtree(work / "logged.maskrt")
    assert capfd.readouterr() == ("", "")
    assert any(record.name.startswith("maskrt.") for record in caplog.records)


def test_a_program_that_sets_up_nothing_sees_nothing() -> None:
    code = "import logging, maskrt; logging.getLogger('maskrt.runtime').warning('seen?')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_verbose_shows_the_log_on_standard_error(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(work / "tiny.maskrt", tmp_path / "b.maskrt")
    assert run("build", bundle, "--target", "cpu", "--verbose") == 0
    said = capsys.readouterr()
    assert re.search(r"^\d\d:\d\d:\d\d maskrt\.\S+: .*cpu", said.err, re.MULTILINE)
    assert "maskrt.runtime" not in said.out
    assert run("build", bundle, "--target", "cpu") == 0
    assert not re.search(r"^\d\d:\d\d:\d\d", capsys.readouterr().err, re.MULTILINE)
    assert not [h for h in logging.getLogger("maskrt").handlers if type(h).__name__[0] == "_"]


# Terminals


def _on_a_terminal(words: list[str], cwd: Path, **environment: str) -> str:
    """Return what maskrt writes on a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "maskrt", *words], cwd=cwd, stdout=theirs, stderr=theirs,
        stdin=theirs, env=os.environ | {"TERM": "xterm-256color"} | environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 4096):
                text += chunk
        except OSError:  # its end
            pass
        process.wait()
    os.close(ours)
    return text.decode()


@pytest.fixture
def wrong_bundle(work: Path, tmp_path: Path) -> Path:
    """A bundle of which the doctor says something in red."""
    bundle = shutil.copytree(work / "tiny.maskrt", tmp_path / "wrong.maskrt")
    (bundle / "model.onnx").write_bytes(b"")
    return bundle


def test_colour_is_for_terminals_that_want_it(wrong_bundle: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k in ("NO_COLOR", "FORCE_COLOR")}
    assert not environment, "unset these for this test"
    assert COLOUR.search(_on_a_terminal(["doctor", str(wrong_bundle)], tmp_path))
    assert not COLOUR.search(_on_a_terminal(["doctor", str(wrong_bundle)], tmp_path, NO_COLOR="1"))
    piped = _maskrt("doctor", wrong_bundle, cwd=tmp_path)
    assert "error: " in piped.stdout
    assert not ESCAPE.search(piped.stdout + piped.stderr)


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", {"COMP_WORDS": "maskrt ch", "COMP_CWORD": "1"}, "plain,check"),
        ("zsh", {"COMP_WORDS": "maskrt ch", "COMP_CWORD": "1"}, "check"),
        ("fish", {"COMP_WORDS": "maskrt ch", "COMP_CWORD": "ch"}, "plain,check"),
        ("bash", {"COMP_WORDS": "maskrt check --max", "COMP_CWORD": "2"}, "plain,--max-ap-drop"),
    ],
)
def test_a_shell_completes_verbs_and_options(
    shell: str, words: dict[str, str], expected: str, tmp_path: Path
) -> None:
    code = "from maskrt.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | words | {"_MASKRT_COMPLETE": f"{shell}_complete"},
    )  # fmt: skip
    assert expected in [line.partition("\t")[0] for line in done.stdout.splitlines()], done
