"""`--json`: one JSON document on standard output, and nothing else there.

A verb puts its document here beside what it prints. With `--json` the consoles of `options.console`
are silent, and the document is printed when the verb has ended, also where a budget was missed. If
the verb failed before it had one, the document is `{"error": SENTENCE}`. Progress and errors go to
standard error, as without.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import click

from ..core import Bundle, Target

__all__ = ["asked", "begin", "fail", "finish", "json_file_option", "json_option", "plain", "put"]

_STDOUT = Path("-")


class _State:
    """Of the one verb that runs."""

    asked = False
    document: Any = None


def begin() -> None:
    """Forget what an earlier verb of this process asked for."""
    _State.asked, _State.document = False, None


def asked() -> bool:
    """Return whether standard output is for one JSON document alone."""
    return _State.asked


def put(document: Any) -> None:
    """Keep the document of this verb: anything that `plain` takes."""
    if _State.asked:
        _State.document = plain(document)


def fail(sentence: str) -> None:
    """Keep the error, unless the verb had a document before it failed."""
    if _State.document is None:
        put({"error": sentence})


def finish() -> None:
    """Print the document, once."""
    if _State.asked and _State.document is not None:
        click.echo(json.dumps(_State.document, indent=2, allow_nan=False))
    begin()


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flag `--json`."""
    return click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=_ask,
        help="Print one JSON document, and nothing else, on standard output.",
    )(function)  # fmt: skip


def json_file_option(kind: click.ParamType, what: str) -> Callable[..., Any]:
    """Return the option `--json [FILE]` of a verb whose figures are also written to files."""
    return click.option(
        "--json", "json_file", type=kind, is_flag=False, flag_value=str(_STDOUT), is_eager=True,
        callback=_ask_or_file, metavar="[FILE]",
        help=f"Write the {what} here; without a file, print that, and nothing else.",
    )  # fmt: skip


def _ask(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    _State.asked = _State.asked or value


def _ask_or_file(
    context: click.Context, parameter: click.Parameter, value: Path | None
) -> Path | None:
    if value != _STDOUT:
        return value
    _State.asked = True
    return None


def plain(value: Any) -> Any:
    """Return `value` as JSON data: NaN and infinity are null, a bundle is its path.

    >>> plain({"ap": float("nan"), "place": Path("a/b"), "sizes": (1, 2)})
    {'ap': None, 'place': 'a/b', 'sizes': [1, 2]}
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Bundle):
        return str(value.path)
    if isinstance(value, Target):
        return value.name
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "item"):  # a number of NumPy
        return plain(value.item())
    return str(value)
