"""The table of what is supported, families x precisions x targets, as README shows it.

    python docs/site/supported.py            prints it
    python docs/site/supported.py --write    writes it into README.md, between its two comments

The families are those of `maskrt models`, the precisions of a target those that it can compute.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from maskrt import Precision, Target, models
from maskrt.core import MaskrtError

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- supported -->\n", "<!-- end of supported -->\n"
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8, Precision.FP8)
TARGETS = ("cpu", "rtx", "rtx-89", "gpu", "orin-nano", "orin-nx", "agx-orin", "thor", "xavier")


def table() -> str:
    """Return both tables in Markdown."""
    rows = ["| model | weights |", "|---|---|"]
    rows += [f"| {names} | {weights} |" for names, weights in _families()]
    heads = " | ".join(precision.value for precision in PRECISIONS)
    rows += ["", f"| target | {heads} | built for |", f"|---|{'---|' * len(PRECISIONS)}---|"]
    for target in map(Target.parse, TARGETS):
        cells = " | ".join(_cell(target, precision) for precision in PRECISIONS)
        rows.append(f"| `{target.name}` | {cells} | {_described(target)} |")
    return "\n".join(rows) + "\n"


def _families() -> Iterable[tuple[str, str]]:
    """Yield the models of the same weights together, and the ONNX files."""
    together: dict[str, list[str]] = {}
    for facts in models():
        if facts.kind != "onnx" and not facts.model.endswith("_scenes"):
            together.setdefault(facts.weights, []).append(f"`{facts.model}`")
    for weights, names in together.items():
        yield ", ".join(names), weights
    for facts in models():
        if facts.kind == "onnx":
            yield f"ONNX: {facts.model}", facts.weights or "its own"


def _cell(target: Target, precision: Precision) -> str:
    """Return whether the target computes the precision, and `faster` where that pays."""
    try:
        target.check_computes(precision)
    except MaskrtError:
        return "no"
    return "faster" if precision in target.pays else "yes"


def _described(target: Target) -> str:
    if target.description:
        return target.description
    sm = target.sms[0]
    return f"TensorRT-RTX, SM {sm // 10}.{sm % 10} alone"


def written(text: str) -> str:
    """Return README's text with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into README.md")
    if parser.parse_args().write:
        README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table(), end="")
