"""What a rule says: what it recognised and where, or which check declined and why."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .graph import Graph, Node

__all__ = ["Declined", "Finding", "Notes"]


class Declined(Exception):  # noqa: N818 - the outcome of a check, not an error
    """A check of a rule that does not hold.

    Attributes:
        rule: the rule's name.
        node: what the original graph calls the node that the check looked at; None for the graph.
        reason: half a sentence.
    """

    def __init__(self, rule: str, reason: str, node: Node | None = None) -> None:
        """Say that `rule` declined at `node` because of `reason`."""
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason
        self.node = None if node is None else str(node)

    def __str__(self) -> str:
        """Return one sentence without its full stop."""
        place = "" if self.node is None else f" at {self.node}"
        return f"the rule {self.rule} declined{place}: {self.reason}"


@dataclass(frozen=True)
class Finding:
    """What a rule recognised.

    Attributes:
        rule: its name.
        text: the parameters that were read from the graph.
        nodes: the landmark nodes.
    """

    rule: str
    text: str
    nodes: tuple[str, ...]


@dataclass
class Notes:
    """Findings, in the order of recognition."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, rule: str, text: str, nodes: Iterable[Node]) -> None:
        """Note that `rule` matched `nodes`."""
        self.findings.append(Finding(rule, text, tuple(str(node) for node in nodes)))


def needs(graph: Graph, rule: str, name: str) -> Node:
    """Return the maker of `name`, or decline."""
    maker = graph.maker(name)
    if maker is None:
        raise Declined(rule, f"the tensor {name!r} is not computed by any node")
    return maker
