"""`maskrt`: the group of verbs, and what becomes of an error.

Exit status 0 means done, 1 that the work failed or a budget was missed, 2 wrong usage, and 130 or
143 that it was stopped (Ctrl-C, SIGTERM). An error is one sentence on standard error; `--debug`
(before or after the verb) adds the traceback, and `--verbose` what the library logs on its way.
"""

import importlib
import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..core import MaskrtError, MaskrtWarning, UsageError, suggestion
from ..core.folders import asked_for
from ..core.words import for_terminal
from . import config, json_output
from .examples import EXAMPLES
from .option_words import as_options

__all__ = ["run"]

_VERBS = {
    "compile": "compile a PyTorch model or ONNX file to a bundle with engines",
    "export": "export a PyTorch model or ONNX file to canonical ONNX in a bundle",
    "calibrate": "measure activations and write the bundle's recipe",
    "recipe": "list the precision of each layer of a bundle, or keep some of them wide",
    "build": "build an engine into a bundle",
    "run": "find instances in pictures; draw them and write COCO JSON",
    "check": "measure COCO AP and what was lost against FP32",
    "report": "lay the checks of several engines or bundles side by side",
    "bench": "measure latency, throughput and memory",
    "package": "write a Triton model repository, or a folder for DeepStream",
    "sign": "sign a bundle, for those who trust your key",
    "verify": "say whether a bundle is as its signer had it",
    "inspect": "show what a bundle holds, or what surgery recognises in an ONNX file",
    "models": "list what compiles by name, and whose weights fit",
    "targets": "list what engines can be built for",
    "doctor": "show what is installed and what this machine can do",
    "demo": "do the whole job once on a model and pictures that ship with maskrt",
}
# `maskrt` alone: click raises it from 8.2 on, and prints the help itself before
_NO_WORDS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Verbs(click.Group):
    """Loads a verb's file only when that verb is asked for, so `--help` is quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the verbs in the order of the pipeline."""
        return list(_VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import `cli/<name>.py` and return its `command`."""
        if name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f".{name}", __package__).command
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[name])
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; for one that is misspelt, say which it may have been."""
        if args[0] not in _VERBS and not args[0].startswith("-"):
            context.fail(f"No such verb {args[0]!r}: {suggestion(args[0], _VERBS)}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maskrt", message="maskrt %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--verbose", is_flag=True, help="Show what the library logs.")
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE",
    help=f"Defaults of options, a table a verb; default: {config.NAME}, if it is there.",
)  # fmt: skip
@click.pass_context
def _group(context: click.Context, debug: bool, verbose: bool, file: Path | None) -> None:
    """Compile instance-segmentation models into TensorRT engines, and prove their accuracy."""
    verb = context.invoked_subcommand or ""
    command = _group.get_command(context, verb)
    if command is None:
        return
    found, sentence = config.defaults_of(verb, command, tuple(_VERBS), file)
    context.default_map = {verb: found}
    if sentence:
        click.echo(for_terminal(sentence), err=True)


class _ToStandardError(logging.Handler):
    """Writes each record as a line, above the bars of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        click.echo(for_terminal(self.format(record)), err=True)


@contextmanager
def _logged(verbose: bool) -> Iterator[None]:
    """Show what the library logs: warnings, and with `verbose` every step with its time."""
    logger, handler = logging.getLogger("maskrt"), _ToStandardError()
    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s"
    handler.setFormatter(logging.Formatter(form, datefmt="%H:%M:%S"))
    before = logger.level
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def run(arguments: list[str]) -> None:
    """Run the words after `maskrt`; ends in `SystemExit`, or `KeyboardInterrupt` if stopped."""
    warnings.showwarning = _warned(warnings.showwarning)
    signal.signal(signal.SIGTERM, _stop)  # so that nothing half-written is left then, either
    debug, verbose = "--debug" in arguments, "--verbose" in arguments
    given = [word for word in arguments if word not in ("--debug", "--verbose")]
    json_output.begin()
    with _logged(verbose):
        _run(given, debug)


def _run(given: list[str], debug: bool) -> None:
    try:
        result: Any = _group.main(given, prog_name="maskrt", standalone_mode=False, obj=given)
        json_output.finish()
        sys.exit(result if isinstance(result, int) else 0)
    except SystemExit:  # a verb that says so itself, when part of its work failed
        json_output.finish()
        raise
    except click.Abort as error:  # click's word for an interrupt; before 8.1.4 as context
        raise error.__cause__ or error.__context__ or KeyboardInterrupt from None
    except click.ClickException as error:
        _report_usage(error)
        json_output.finish()
        sys.exit(2)
    except MaskrtError as error:
        _report(_as_options(str(error), given), debug)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        where = f" {asked_for(str(error.filename))}" if error.filename else ""
        _report(f"the operating system refused{where}: {error.strerror or error}.", debug)
        sys.exit(1)
    except Exception as error:  # a defect of ours: said in one sentence all the same
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        _report(f"a defect in maskrt ({reason}): run again with --debug and report it.", debug)
        sys.exit(1)


def _warned(otherwise: Any) -> Any:
    """Return what shows warnings: ours as one sentence, like an error."""

    def show(message: Any, category: type[Warning], *more: Any, **rest: Any) -> None:
        if issubclass(category, MaskrtWarning):
            click.echo(for_terminal(f"warning: {message}"), err=True)
        else:
            otherwise(message, category, *more, **rest)

    return show


def _stop(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


def _report_usage(error: click.ClickException) -> None:
    """Say what was wrong in the words of every other error, after the usage of the verb."""
    context = getattr(error, "ctx", None)
    if isinstance(error, _NO_WORDS):
        error.show()  # the help
        return
    if context is not None:
        click.echo(f"{context.get_usage()}\nsee {context.command_path} --help\n", err=True)
    message = error.format_message()
    if message[1:2].islower():
        message = message[0].lower() + message[1:]
    json_output.fail(for_terminal(message))
    click.echo(for_terminal(f"error: {message}"), err=True)


def _as_options(sentence: str, given: list[str]) -> str:
    """Say arguments in Python as the options of the verb, and those of `compile`, which advise."""
    verb, context = next((word for word in given if word in _VERBS), ""), click.Context(_group)
    own, other = (_group.get_command(context, name) for name in (verb, "compile"))
    return as_options(sentence, own, other)


def _report(sentence: str, debug: bool) -> None:
    if debug:
        click.echo(for_terminal(traceback.format_exc()), err=True, nl=False)
    click.echo(for_terminal(f"error: {sentence}"), err=True)
    json_output.fail(for_terminal(sentence))
    json_output.finish()
