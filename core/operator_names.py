"""Names of the operators of the domain `maskrt`, as nodes carry them.

A node's local function depends on the node's attributes and shapes, so each node has one of its
own. They are told apart by their names, which every tool reads: the first NMS of a graph is a
`BatchedNMS`, the second a `BatchedNMS_2`. In older graphs they all have the
operator's name and differ in their `overload`.
"""

import re

__all__ = ["function_name", "operator_of"]

_NUMBER = re.compile(r"_[1-9][0-9]*$")


def function_name(operator: str, number: int) -> str:
    """Return the name of the function of the `number`-th node of `operator`, the first being 1.

    >>> function_name("BatchedNMS", 1), function_name("BatchedNMS", 2)
    ('BatchedNMS', 'BatchedNMS_2')
    """
    return operator if number == 1 else f"{operator}_{number}"


def operator_of(op_type: str) -> str:
    """Return the operator that a node of `op_type` is.

    >>> operator_of("BatchedNMS_2")
    'BatchedNMS'
    """
    return _NUMBER.sub("", op_type)
