"""Graphics cards by name: each is the compute capability that engines are built for.

    sm_of_card("rtx-3090")               86
    sm_of_card("NVIDIA GeForce RTX 4070 Ti SUPER")   89

Source: NVIDIA, "CUDA GPU Compute Capability", https://developer.nvidia.com/cuda-gpus.
"""

import re

__all__ = ["CARDS", "sm_of_card"]

CARDS: dict[str, int] = {
    name: sm
    for sm, names in (
        (75, "rtx-2060 rtx-2070 rtx-2080 titan-rtx t4 "
             "quadro-rtx-3000 quadro-rtx-4000 quadro-rtx-5000 quadro-rtx-6000 quadro-rtx-8000"),
        (80, "a30 a100"),
        (86, "rtx-3050 rtx-3060 rtx-3070 rtx-3080 rtx-3090 a2 a10 a16 a40 "
             "rtx-a2000 rtx-a3000 rtx-a4000 rtx-a4500 rtx-a5000 rtx-a5500 rtx-a6000"),
        (89, "rtx-4050 rtx-4060 rtx-4070 rtx-4080 rtx-4090 l4 l40 l40s rtx-2000-ada rtx-3500-ada "
             "rtx-4000-ada rtx-4500-ada rtx-5000-ada rtx-6000-ada"),
        (90, "h100 h200 gh200"),
        (100, "b200 gb200"),
        (120, "rtx-5050 rtx-5060 rtx-5070 rtx-5080 rtx-5090 rtx-pro-2000 rtx-pro-4000 "
              "rtx-pro-4500 rtx-pro-5000 rtx-pro-6000"),
        (121, "gb10"),
    )
    for name in names.split()
}  # fmt: skip

_MAKERS = re.compile(r"^(nvidia|geforce|tesla)-")
# Of one chip, or at least of one compute capability, with the card whose name is before them.
_VARIANTS = re.compile(r"-(ti|super|laptop|gpu|mobile|max-q|d|generation|blackwell)$")


def sm_of_card(name: str) -> int | None:
    """Return the compute capability of a card (89 means 8.9); None of one that is not known.

    Case, spaces and underscores do not matter, nor do maker and variant (`Ti`, `SUPER`, `Laptop
    GPU`).
    """
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    plain = re.sub(r"^rtx(?=\d)", "rtx-", plain)
    while (shorter := _MAKERS.sub("", plain)) != plain:
        plain = shorter
    while plain not in CARDS and (shorter := _VARIANTS.sub("", plain)) != plain:
        plain = shorter
    return CARDS.get(plain)
