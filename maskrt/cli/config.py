"""`maskrt.toml`: defaults of the verbs' options, for what would be typed again and again.

    [check]
    images = "val/"
    annotations = "val.json"
    max-ap-drop = 1.0

A table for each verb; a key is an option without its dashes. The command line comes before the
file. The file is `maskrt.toml` in the working folder, or what `--config` names; a path in it starts
at the file's folder. An option that runs code or trusts a server is refused there: a folder with
such a file may come from anybody, and a verb that is called in it would do what the file says.
"""

from pathlib import Path
from typing import Any

import click

from ..core import MissingDependencyError, UsageError, suggestion

__all__ = ["NAME", "defaults_of"]

NAME = "maskrt.toml"
_SAID_EACH_TIME = {
    "model": "it imports code",
    "dask": "its scheduler is trusted with code",
}


def defaults_of(
    verb: str, command: click.Command, verbs: tuple[str, ...], given: Path | None
) -> tuple[dict[str, Any], str]:
    """Return the defaults of a verb, by the names of its parameters, and a sentence of it.

    Args:
        verb: the verb that runs.
        command: its options.
        verbs: all verbs, whose tables the file may have.
        given: the file, or None for `maskrt.toml` in the working folder, if there is one.

    Raises:
        UsageError: the file cannot be read, or has what no verb knows.
    """
    file = given or Path(NAME)
    if given is None and not file.is_file():
        return {}, ""
    tables = _read(file)
    for name, table in tables.items():
        if name not in verbs or not isinstance(table, dict):
            raise UsageError(
                f"{file} has {name!r}, which is no table of a verb: {suggestion(name, verbs)}"
            )
    table = tables.get(verb, {})
    found = dict(_default(file, command, verb, key, value) for key, value in table.items())
    words = ", ".join(f"--{key}" for key in table)
    return found, f"{file} gives {verb} {words}." if found else ""


def _read(file: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # before Python 3.11
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            raise MissingDependencyError(
                f"{file} needs tomli in this Python: pip install tomli"
            ) from None
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{file} cannot be read as TOML: {reason}.") from None


def _default(
    file: Path, command: click.Command, verb: str, key: str, value: Any
) -> tuple[str, Any]:
    """Return a parameter's name and its value, whose paths start at the file's folder."""
    options = {
        word.removeprefix("--"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in (*parameter.opts, *parameter.secondary_opts)
        if word.startswith("--")
    }
    if key not in options:
        raise UsageError(
            f"{file} has {key!r} for {verb}, which has no such option: {suggestion(key, options)}"
        )
    if key in _SAID_EACH_TIME:
        raise UsageError(
            f"{file} has {key!r} for {verb}, but {_SAID_EACH_TIME[key]}: say --{key} on the "
            "command line."
        )
    option = options[key]
    many = option.multiple and isinstance(value, list)
    values = value if many else [value]
    if any(isinstance(one, dict) for one in values):
        raise UsageError(f"{file} has a table as {key!r} of {verb}: give a value.")
    if isinstance(option.type, click.Path):
        values = [str(file.parent / one) if isinstance(one, str) else one for one in values]
    assert option.name is not None
    return option.name, values if option.multiple else values[0]
