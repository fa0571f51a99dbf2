"""From the first moment to the last: interrupts, errors in one form, and what the help says."""

import signal
import subprocess
import sys

import pytest

from maskrt.cli import main, summary


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "import"), (signal.SIGINT, "verb"), (signal.SIGTERM, "verb")],
)
def test_a_stop_at_any_moment_is_one_word(number: signal.Signals, moment: str) -> None:
    """While click is imported, one of the first, and when a verb has begun."""
    stop = (
        f"import os, signal, sys, maskrt.cli\nhit = lambda: os.kill(os.getpid(), {int(number)})\n"
    )
    if moment == "import":
        stop += (
            "class Finder:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        hit() if name == 'click' else None\n"
            "sys.meta_path.insert(0, Finder())\n"
            "assert 'click' not in sys.modules\n"
        )
    else:
        stop += "import maskrt.core\nmaskrt.core.Bundle.open = lambda path: hit()\n"
    stop += "maskrt.cli.main(['inspect', 'x.maskrt'])\n"
    done = subprocess.run(
        [sys.executable, "-c", stop], capture_output=True, text=True, check=False,
        # what is started in a shell's background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.stderr.strip() == "stopped."
    assert done.returncode == 128 + number


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], "error: no such verb 'nonsense': choose one of compile, export"),
        (["calibrat"], "error: no such verb 'calibrat': did you mean calibrate?"),
        (["run", "x.maskrt"], "error: missing argument 'IMAGE|DIR|PATTERN|VIDEO...'."),
        (["package", "x.maskrt"], "error: give --triton or --deepstream, one of the two."),
        (["inspect", "x.maskrt"], "error: x.maskrt does not exist, so it is not a bundle"),
    ],
)
def test_every_error_begins_alike(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == (1 if words[0] == "inspect" else 2)
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1].startswith(sentence)
    assert "Error" not in shown


def test_the_help_says_what_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    def help_of(*words: str) -> str:
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        return " ".join(capsys.readouterr().out.split())

    assert "see maskrt targets; may be repeated." in help_of("compile")
    assert ".safetensors, .pth or .pkl." in help_of("compile")
    assert "or a folder for DeepStream" in help_of()


def test_layers_that_are_run_again_are_explained_once() -> None:
    once = {"layer_precisions": {"stem": "int8", "body.0": "int8", "body.1": "int8"}}
    again = {"layer_precisions": {"head": "int8", "head.2": "int8"}}
    assert summary._counting([once]) == []
    assert len(summary._counting([once, again, again])) == 1


def test_a_refusal_names_the_file_that_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", "out/.b2.json.j804wn36")

    monkeypatch.setattr("maskrt.core.Bundle.open", refuse)
    with pytest.raises(SystemExit):
        main(["inspect", "x.maskrt"])
    assert capsys.readouterr().err.strip() == (
        "error: the operating system refused out/b2.json: Permission denied."
    )
