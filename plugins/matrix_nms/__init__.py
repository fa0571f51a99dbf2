"""MatrixNMS: scores decayed by the overlap with better candidates, all at once."""

from ..operator import Operator
from . import builtin, function, launch, pluginless
from .schema import SCHEMA

__all__ = ["OPERATOR", "SCHEMA"]

OPERATOR = Operator(
    SCHEMA, function.make_function, pluginless.make_function, launch.plan, builtin.make_function
)
