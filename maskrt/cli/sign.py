"""`maskrt sign`: a bundle's signature, for those who trust the key."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core import UsageError
from .json_output import json_option, put
from .options import bundle_argument, console, progress_bars, trust_options

if TYPE_CHECKING:
    from ..runtime.trust import Trust

__all__ = ["command"]


@click.command("sign")
@bundle_argument
@json_option
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), metavar="FILE",
    help="The secret key, as minisign -G writes it; its password is asked for.",
)  # fmt: skip
@trust_options
def command(bundle: Path, key: Path, trust: "Trust") -> None:
    """Sign BUNDLE, so that others open its engines who trust the public key.

    Engines that this machine did not build are signed with --trust alone, since you vouch for them.
    """
    from ..packaging.signature import sign

    try:
        with progress_bars():
            number = sign(bundle, key=key, trust=trust)
    except UsageError as error:
        if "password" not in str(error):
            raise
        password = click.prompt(f"password of {key}", hide_input=True, err=True)
        with progress_bars():
            number = sign(bundle, key=key, password=password, trust=trust)
    put({"bundle": bundle, "key": number})
    console().print(f"{bundle} is signed by the key {number}, for those who have its .pub file.")
