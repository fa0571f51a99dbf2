"""Options that several verbs share, and the progress bar that all of them show."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..core import Placing, Resampling
from ..core.masks import MaskPaste
from ..core.words import for_terminal
from . import json_output
from .signs_of_life import SignsOfLife

__all__ = [
    "OUTPUT_FILE",
    "bundle_argument",
    "console",
    "improvement_options",
    "keep_options",
    "kept_layers",
    "model_options",
    "model_words_option",
    "on_device_option",
    "precision_option",
    "progress_bars",
    "trust_options",
]

_TABLE_WIDTH = 108
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "mixed")
_Function = Callable[..., Any]

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
precision_option = click.option(
    "--precision", type=click.Choice(PRECISIONS), help="Of the engine; default: the bundle's own."
)
on_device_option = click.option(
    "--on-device", is_flag=True, help="Letterbox and paste on the GPU, too, in one CUDA graph."
)

model_words_option = click.option(
    "--model", metavar="MODEL",
    help="With --weights: the model in your own words, if it is neither torchvision: nor maskrt:.",
)  # fmt: skip


def trust_options(function: _Function) -> _Function:
    """Add whose engines are opened: what both options say is one argument, `trust`."""

    @click.option(
        "--trust",
        is_flag=True,
        help="Open an engine for a GPU, machine code, though it was not built here.",
    )
    @click.option(
        "--trust-key", type=click.Path(path_type=Path), metavar="FILE",
        help="Open it if BUNDLE is signed by this public key; see maskrt sign.",
    )  # fmt: skip
    @functools.wraps(function)
    def trusting(*words: Any, trust: bool, trust_key: Path | None, **options: Any) -> Any:
        return function(*words, trust=trust or trust_key or False, **options)

    return trusting


class _OutputFile(click.Path):
    """A file to be written in the end, refused at once if it cannot be."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, if the nearest folder above it that exists may be written to."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            self.fail(f"{path} cannot be written: {folder} is no folder that you may write to.")
        return path


OUTPUT_FILE = _OutputFile()


class _Console(Console):
    """Writes control characters out: names come from files, and files from anybody."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Return the text of a string: printed, in a table's cell, in its title."""
        return super().render_str(for_terminal(text), **how)


def console() -> Console:
    """Return the console that results are printed on (standard output), wide enough for a table.

    With `--json` it prints nothing.
    """
    screen = _Console(highlight=False, markup=False, soft_wrap=True, quiet=json_output.asked())
    screen.width = max(screen.width, _TABLE_WIDTH)
    return screen


def model_options(function: _Function, *, output_required: bool = True) -> _Function:
    """Add MODEL, everything that says what it is, and the bundle to write."""
    decorators = [
        click.argument("model"),
        click.option(
            "-o", "--output", required=output_required, type=click.Path(path_type=Path),
            help="The bundle.",
        ),
        click.option(
            "--weights", type=click.Path(path_type=Path), help=".safetensors, .pth or .pkl."
        ),
        click.option(
            "--num-classes", type=click.IntRange(min=2), help="Background included."
        ),
        click.option(
            "--input-size", type=(int, int), default=None, metavar="H W",
            help="Height and width in pixels; default: 512 512, or an ONNX file's own.",
        ),
        click.option("--batch", type=int, default=1, show_default=True, help="Pictures a call."),
        click.option(
            "--class-names", type=click.Path(path_type=Path),
            help="Text file, a class name a line, the first being the background's.",
        ),
        click.option(
            "--mean", type=(float, float, float), default=None, metavar="A B C",
            help="Of an ONNX file that takes normalised pictures: of pixels from 0 to 255, in the "
            "network's order; default: from pipeline.json beside it.",
        ),
        click.option(
            "--std", type=(float, float, float), default=None, metavar="A B C",
            help="The same, what is divided by.",
        ),
        click.option(
            "--channel-order", type=click.Choice(("rgb", "bgr")),
            help="Of the channels that an ONNX file takes.",
        ),
        click.option(
            "--paste", type=click.Choice([paste.value for paste in MaskPaste]),
            help="How masks come into the picture; default: as the model does it.",
        ),
        *_HEAD_OPTIONS,
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


_HEAD_OPTIONS = (
    click.option(
        "--outputs", metavar="FORM=NAME,...",
        help="What the outputs of an ONNX file of one pass are, if that is not recognised: "
        "yolo-seg=PREDICTIONS,PROTOTYPES or detr-seg=BOXES,SCORES,MASKS.",
    ),
    click.option(
        "--score-threshold", type=click.FloatRange(0, 1), metavar="X",
        help="Of an ONNX file of one pass: instances score more; default: its family's.",
    ),
    click.option(
        "--iou-threshold", type=click.FloatRange(0, 1), metavar="X",
        help="The same: a box that overlaps a better one more is left out.",
    ),
    click.option(
        "--class-agnostic/--class-aware", default=None,
        help="The same: whether boxes of other classes suppress, too.",
    ),
    click.option(
        "--max-detections", type=click.IntRange(min=1), help="The same: instances a picture."
    ),
    click.option(
        "--mask-crop", type=click.Choice(("picture", "prototypes", "none")),
        help="The same: where masks end with their boxes.",
    ),
    click.option(
        "--placing", type=click.Choice([one.value for one in Placing]),
        help="The same: where a picture lies on the input.",
    ),
    click.option(
        "--resampling", type=click.Choice([one.value for one in Resampling]),
        help="The same: how it is resized.",
    ),
    click.option(
        "--fill", type=(int, int, int), default=None, metavar="R G B",
        help="The same: the colour beside a letterboxed picture.",
    ),
)  # fmt: skip


def improvement_options(function: _Function) -> _Function:
    """Add what INT8 may be improved by; both need --images and --annotations."""
    function = click.option(
        "--equalise", is_flag=True,
        help="Equalise channels between layers for INT8, if that raises AP on --images.",
    )(function)  # fmt: skip
    return click.option(
        "--bias-correction", is_flag=True,
        help="Take INT8's mean errors off the biases, if that raises AP on --images.",
    )(function)  # fmt: skip


def kept_layers(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Return `LAYER=PRECISION` as a dictionary, the later of two for one layer last."""
    found: dict[str, str] = {}
    for value in values:
        layer, equals, precision = value.rpartition("=")
        if not (layer and equals and precision):
            raise click.BadParameter(f"{value!r} is not LAYER=PRECISION, such as 'rpn.*=fp16'.")
        found.pop(layer, None)
        found[layer] = precision
    return found


def keep_options(function: _Function) -> _Function:
    """Add which layers stay wide, whatever the precision asked for."""
    function = click.option(
        "--keep-outputs", is_flag=True,
        help="Keep the layers in FP32 that make scores, boxes and masks.",
    )(function)  # fmt: skip
    return click.option(
        "--keep", multiple=True, metavar="LAYER=PRECISION", callback=kept_layers,
        help="Keep a layer, or all that match a pattern, at fp16 or fp32; may be repeated.",
    )(function)  # fmt: skip


def read_class_names(path: Path | None) -> list[str] | None:
    """Return the names in a text file, one a line."""
    if path is None:
        return None
    if not path.is_file():
        raise click.UsageError(f"class names file {path} does not exist.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise click.UsageError(f"class names file {path} is not UTF-8 text.") from None
    return [line.strip() for line in lines if line.strip()]


class _Speed(ProgressColumn):
    """How many a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """Return the speed, or nothing while it is not known."""
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a progress callback that shows one bar a stage on standard error.

    What is no terminal, a log file, say, gets lines instead: see `signs_of_life.py`. So each verb
    whose work may take long runs inside this, whether it has stages to tell of or not.
    """
    screen = Console(stderr=True)
    if not screen.is_terminal or screen.is_dumb_terminal:
        with SignsOfLife(lambda line: click.echo(for_terminal(line), err=True)).start() as signs:
            yield signs.show
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen) as bars:
        stages: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(for_terminal(stage), total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield show
