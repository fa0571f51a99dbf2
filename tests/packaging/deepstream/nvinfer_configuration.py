"""The configuration that nvinfer reads: its keys, and the values that each takes."""

import configparser
from collections.abc import Callable

__all__ = ["read_configuration"]

# Section "Gst-nvinfer File Configuration Specifications" of the DeepStream developer guide, and
# gstnvinfer_property_parser.cpp: key → values that it takes, for the keys that are written here.
_PROPERTY: dict[str, Callable[[str], bool]] = {
    "gpu-id": str.isdigit,
    "gie-unique-id": lambda v: int(v) > 0,
    "process-mode": lambda v: v in ("1", "2"),
    "interval": str.isdigit,
    "batch-size": lambda v: 1 <= int(v) <= 1024,
    "model-engine-file": bool,
    "network-mode": lambda v: v in ("0", "1", "2", "3"),
    "labelfile-path": bool,
    "num-detected-classes": lambda v: int(v) > 0,
    "infer-dims": lambda v: [int(n) > 0 for n in v.split(";")] == [True] * 3,
    "network-input-order": lambda v: v in ("0", "1", "2"),
    "model-color-format": lambda v: v in ("0", "1", "2"),
    "net-scale-factor": lambda v: float(v) > 0,
    "maintain-aspect-ratio": lambda v: v in ("0", "1"),
    "symmetric-padding": lambda v: v in ("0", "1"),
    "scaling-filter": lambda v: 0 <= int(v) <= 5,
    "network-type": lambda v: v in ("0", "1", "2", "3", "100"),
    "cluster-mode": lambda v: v in ("0", "1", "2", "3", "4"),
    "output-instance-mask": lambda v: v in ("0", "1"),
    "segmentation-threshold": lambda v: 0 <= float(v) <= 1,
    "custom-lib-path": bool,
    "parse-bbox-instance-mask-func-name": bool,
}
_CLASS: dict[str, Callable[[str], bool]] = {
    "pre-cluster-threshold": lambda v: float(v) >= 0,
    "topk": lambda v: int(v) >= -1,
}


def read_configuration(text: str) -> configparser.ConfigParser:
    """Read a configuration, or raise ValueError for what nvinfer does not know."""
    found = configparser.ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    found.read_string(text)
    for section in found.sections():
        known = {"property": _PROPERTY, "class-attrs-all": _CLASS}[section]
        for key, value in found[section].items():
            if key not in known or not known[key](value):
                raise ValueError(f"{key}={value}")
    return found
