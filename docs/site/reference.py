"""The reference: the public names of `maskrt` from their docstrings, and each verb's help."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import maskrt
from maskrt.cli.verbs import _VERBS, _group

__all__ = ["write_reference"]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")


def write_reference(folder: Path) -> None:
    """Write `python.md` and `verbs.md` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python.md").write_text(_python(), encoding="utf-8")
    (folder / "verbs.md").write_text(_verbs(), encoding="utf-8")


def _python() -> str:
    names = {name: getattr(maskrt, name) for name in maskrt.__all__}
    functions = [name for name, thing in names.items() if inspect.isfunction(thing)]
    classes = [name for name, thing in names.items() if inspect.isclass(thing)]
    lines = ["# In Python", "", "From the docstrings of this version.", "", "## Functions", ""]
    for name in functions:
        lines += _entry(f"maskrt.{name}", names[name], "###")
    lines += ["## Classes", ""]
    for name in classes:
        lines += _entry(f"maskrt.{name}", names[name], "###")
        for member, thing in _members(names[name]):
            lines += _entry(f"{name}.{member}", thing, "####")
    return "\n".join(lines) + "\n"


def _members(owner: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that the class itself says something of."""
    for name, thing in vars(owner).items():
        inner = thing.__func__ if isinstance(thing, classmethod | staticmethod) else thing
        inner = inner.fget if isinstance(inner, property) else inner
        if not name.startswith("_") and inspect.isfunction(inner) and inner.__doc__:
            yield name, inner


def _entry(title: str, thing: object, level: str) -> list[str]:
    signature = ""
    if inspect.isfunction(thing):
        signature = _signature(title.rpartition(".")[2], thing)
    body = _markdown(inspect.getdoc(thing) or "")
    block = ["```python", signature, "```", ""] if signature else []
    return [f"{level} {title}", "", *block, *body, ""]


def _signature(name: str, function: object) -> str:
    assert callable(function)
    found = inspect.signature(function)
    whole = f"{name}{found}"
    if len(whole) <= 90:
        return whole
    parts, starred = [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("    *,")
            starred = True
        parts.append(f"    {parameter},")
    returned = found.return_annotation
    arrow = "" if returned is found.empty else f" -> {_named(returned)}"
    return "\n".join([f"{name}(", *parts, f"){arrow}"])


def _named(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _markdown(text: str) -> list[str]:
    """Return a docstring of Google's style as Markdown: a list under each section."""
    lines, section = [], False
    for line in text.splitlines():
        if _SECTION.match(line):
            section = True
            lines += [f"**{line[:-1]}**", ""]
        elif section and re.match(r"^    (\S[^:]*): ", line):
            name, _, rest = line.strip().partition(": ")
            name = name if "`" in name else f"`{name}`"
            lines.append(f"- {name}: {rest}")
        elif section and line.startswith("    "):
            lines.append(f"  {line.strip()}" if line.startswith("     ") else line.strip())
        else:
            section = section and not line
            lines.append(line)
    return [*lines]


def _verbs() -> str:
    lines = ["# Every verb", "", "What `maskrt VERB --help` prints in this version.", ""]
    with click.Context(_group, info_name="maskrt") as above:
        for verb in _VERBS:
            command = _group.get_command(above, verb)
            assert command is not None
            context = click.Context(command, info_name=verb, parent=above, max_content_width=96)
            lines += [f"## maskrt {verb}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)
