"""Factories as users write them, for `package.module:factory`."""

from typing import Any

from torch import nn

from .detectors import tiny_one_map


def fixed() -> nn.Module:
    """Four classes and no parameter to change that."""
    return tiny_one_map(4)


def flexible(**options: Any) -> nn.Module:
    return tiny_one_map(**options)


def explicit(num_classes: int = 3) -> nn.Module:
    return tiny_one_map(num_classes)


def demanding(config: str) -> nn.Module:
    raise AssertionError(f"must not be called with {config}")


def faulty() -> nn.Module:
    return len(3)  # type: ignore[arg-type, return-value]
