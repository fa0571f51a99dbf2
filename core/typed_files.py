"""The one way in which maskrt reads JSON back: strictly, and against a declaration (`typed.py`).

| what a file has | what comes of it |
|---|---|
| a byte order mark | it is read |
| bytes that are no UTF-8, text that is no JSON | refused |
| a key that stands twice, NaN, Infinity, lone surrogates | refused: readers differ on them |
| nesting beyond 64 levels, whole numbers beyond 64 bits | refused |
| a value of another type or size than declared | refused, with its place in the file |

A refusal is one sentence: the file, what is wrong and where in it, and what to do.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from .errors import BundleError, InputError, MaskrtError, StorageError
from .typed import fault

__all__ = ["believed", "json_text", "parsed", "plain_json", "read_typed"]

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def plain_json(raw: bytes | str, *, finite: bool = True) -> Any:
    """Return what a JSON text says.

    Args:
        raw: the text; a byte order mark is let be.
        finite: whether NaN and Infinity, which Python writes and JSON has not, are refused; False
            is for who looks at every number anyway, and can say where it stands.

    Raises:
        ValueError: it is no JSON, or JSON that readers do not agree on; the message is a clause.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        data = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number if finite else float
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 from byte {error.start} on") from None
    except UnicodeEncodeError:
        raise ValueError("it has half a character, a lone surrogate") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}: line {error.lineno} column {error.colno}") from None
    except ValueError as error:
        digits = "digits" in str(error)  # Python's own limit, 4300, with advice for programmers
        raise ValueError("it has a number of thousands of digits") if digits else error from None
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ValueError(f"the key {twice[:60]!r} stands there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def parsed(
    raw: bytes | str,
    kind: Any,
    where: Path | str,
    remedy: str,
    error: type[MaskrtError] = BundleError,
) -> Any:
    """Return the JSON `raw`, which is of the declared kind.

    Args:
        raw: the file's content.
        kind: the declaration, see `typed.py`.
        where: the file, as the sentence names it.
        remedy: what to do, as the end of the sentence.
        error: what is raised.

    Raises:
        MaskrtError: it is no JSON, or of another kind.
    """
    try:
        data = plain_json(raw)
    except ValueError as reason:
        raise error(f"{where} is not valid JSON ({_clause(reason)}): {remedy}.") from reason
    return believed(data, kind, where, remedy, error)


def believed(
    data: Any,
    kind: Any,
    where: Path | str,
    remedy: str,
    error: type[MaskrtError] = BundleError,
) -> Any:
    """Return `data`, which is of the declared kind; arguments and errors as of `parsed`."""
    wrong = fault(data, kind)
    if wrong is not None:
        raise error(f"{where} is not what maskrt writes ({wrong}): {remedy}.")
    return data


def read_typed(file: Path, kind: Any, remedy: str, error: type[MaskrtError] = InputError) -> Any:
    """Return the JSON in `file`, which is of the declared kind.

    Raises:
        MaskrtError: `error` if there is no such file, or it is another thing; `StorageError` if it
            cannot be read.
    """
    try:
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        what = "is a folder" if file.is_dir() else "does not exist"
        raise error(f"{file} {what}: {remedy}.") from None
    except OSError as reason:
        raise StorageError(
            f"cannot read {file} ({reason.strerror or reason}): {remedy}."
        ) from reason
    return parsed(raw, kind, file, remedy, error)


def json_text(data: Any) -> str:
    """Return JSON that `plain_json` reads: a number that is not finite becomes null."""
    try:
        return json.dumps(data, indent=2, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data), indent=2, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _clause(reason: ValueError) -> str:
    return " ".join(str(reason).split()).rstrip(".")
