"""Who is believed when a bundle brings machine code.

    record.py   this machine's own record of the engines that it built
    keys.py     the public keys that the user trusts
    signed.py   a bundle's signature, and what it covers
    engine.py   whether an engine may be deserialised: `check_trusted`

In: a bundle and the user's word. Out: nothing, or one sentence with the ways on.
"""

from .engine import PLAN, Trust, check_trusted, is_code, why_untrusted

__all__ = ["PLAN", "Trust", "check_trusted", "is_code", "why_untrusted"]
