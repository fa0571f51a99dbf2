"""Arguments of Python in a sentence, said as options: `calibration=` is `--calibration` here."""

import re

import click

__all__ = ["as_options"]


def as_options(sentence: str, own: click.Command | None, other: click.Command | None = None) -> str:
    """Return `sentence` with arguments as options.

    Args:
        sentence: says `max_ap_drop` or `mean=`.
        own: the user's verb.
        other: another one whose arguments the sentence may advise, written with `=`.
    """
    for command in (own, other):
        for parameter in command.params if command is not None else ():
            if isinstance(parameter, click.Option):
                sentence = _as_option(sentence, parameter, bare=command is own)
    return sentence


def _as_option(sentence: str, option: click.Option, bare: bool) -> str:
    if option.is_flag:
        sentence = re.sub(rf"\b{option.name}=True\b", option.opts[0], sentence)
    sentence = re.sub(rf"\b{option.name}=(?=[ ,.:;])", option.opts[0], sentence)
    if bare and "_" in str(option.name):
        sentence = re.sub(rf"\b{option.name}\b", option.opts[0], sentence)
    return sentence
