"""Models that ship with maskrt, by name.

`ZOO` maps a name, as in `maskrt:maskrcnn_scenes`, to the `module:function` that builds the model.
Importing this package imports no torch; resolving a name does.
"""

from __future__ import annotations

__all__ = ["ZOO"]

ZOO: dict[str, str] = {
    "maskrcnn_scenes": "maskrt.export.zoo.maskrcnn_scenes:maskrcnn_scenes",
}
