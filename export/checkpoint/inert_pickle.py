"""A pickle read as data: names stay names, calls become records, and nothing is ever called.

A pickle is a program for a stack machine whose instructions can name any function and call it.
`read` interprets them anew: what only builds lists, dictionaries, text and numbers is done; a name
becomes a `Name`, and whatever would be called becomes a `Record` of what was to be called with
what. No module is imported, no method of an object from the file is run, so that a file of a
stranger can do nothing, whatever it holds.

Time and memory are linear in the file's size: instructions are counted, nothing is copied by
reference counts, and keys that could be slow to hash are kept by identity.

Source: the instructions are those of Python's own `pickletools`, protocols 0 to 5.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["Name", "PersistentId", "Record", "UnreadablePickleError", "read"]

_MOST_INSTRUCTIONS = 2_000_000  # a large training checkpoint has some ten thousand
_LARGEST_INT_KEY = 1 << 60  # larger ones can be chosen to have one hash
_SCALARS = (str, bytes, float, bool, type(None))
_DICTIONARIES = {("collections", "OrderedDict"), ("collections", "defaultdict")}


class UnreadablePickleError(Exception):
    """The bytes are no pickle that can be read as data; the message completes "because …"."""


@dataclass(frozen=True, slots=True)
class Name:
    """Something that a pickle names, and that was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return it as Python writes it."""
        return f"{self.module}.{self.name}"


class Record:
    """A call that was not made.

    Attributes:
        function: what was to be called; a `Name` unless the pickle is odd.
        arguments: with what.
        state: what the result was to be given afterwards; None if nothing.
        entries: what was to be put into the result by key.
    """

    __slots__ = ("arguments", "entries", "function", "state")

    def __init__(self, function: Any, arguments: Any) -> None:
        """Keep both as they are."""
        self.function = function
        self.arguments = arguments
        self.state: Any = None
        self.entries: dict[Any, Any] = {}

    def calls(self, *names: tuple[str, str]) -> bool:
        """Whether it is a call of one of these, each a module and a name."""
        called = self.function
        return isinstance(called, Name) and (called.module, called.name) in names


class PersistentId:
    """A persistent id: what `torch.save` writes in the place of a storage.

    Attributes:
        id: as in the file.
    """

    __slots__ = ("id",)

    def __init__(self, id: Any) -> None:
        """Keep it as it is."""
        self.id = id


class _Key:
    """A key that is no text and no number: equal to itself alone."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def read(stream: BinaryIO, ids: list[PersistentId] | None = None) -> Any:
    """Return what the pickle at the stream's position holds; the stream then stands behind it.

    Args:
        stream: at the pickle's first byte.
        ids: receives the persistent ids in the order of the file.

    Raises:
        UnreadablePickleError: it is cut short, no pickle, or longer than any checkpoint's.
    """
    machine = _Machine([] if ids is None else ids)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > _MOST_INSTRUCTIONS:
                raise UnreadablePickleError(f"it has more than {_MOST_INSTRUCTIONS} instructions")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UnreadablePickleError(
            "it is neither a .safetensors nor a .pth or .pkl file that torch saves, or it was cut "
            f"short ({str(error)[:80]})"
        ) from error


class _Machine:
    """The stack, the marks on it, what was remembered, and the persistent ids so far."""

    def __init__(self, ids: list[PersistentId]) -> None:
        self.ids = ids
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _REMEMBERED:
            self.memo[argument] = self.stack[-1]
        elif name in _RECALLED:
            self.stack.append(self.memo[argument])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise UnreadablePickleError(f"it needs the instruction {name}, which no checkpoint has")

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark from the stack."""
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def above(self, place: int) -> Any:
        """Return the object `place` below the top; never one that lies below a mark."""
        if len(self.stack) < place or (self.marks and len(self.stack) - place < self.marks[-1]):
            raise UnreadablePickleError("it takes from an empty stack")
        return self.stack[-place]


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(len(machine.stack))


def _pop(machine: _Machine, _: Any) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _tuple(number: int) -> Callable[[_Machine, Any], None]:
    def build(machine: _Machine, _: Any) -> None:
        machine.above(number)
        parts = tuple(machine.stack[-number:])
        del machine.stack[-number:]
        machine.stack.append(parts)

    return build


def _append(machine: _Machine, _: Any) -> None:
    value = machine.stack.pop()
    _extend(machine.above(1), [value])


def _extend(target: Any, values: list[Any]) -> None:
    """Add to a list; what a stranger's own list would have held is left out."""
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Record):
        raise UnreadablePickleError("it adds to what is no list")


def _appends(machine: _Machine, _: Any) -> None:
    values = machine.since_mark()
    _extend(machine.above(1), values)


def _set_items(target: Any, flat: list[Any]) -> None:
    entries = target.entries if isinstance(target, Record) else target
    if not isinstance(entries, dict) or len(flat) % 2:
        raise UnreadablePickleError("it gives entries to what is no dictionary")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        entries[_hashable(key)] = value


def _hashable(key: Any) -> Any:
    """Return `key` if it is text or a number, else something equal to itself alone."""
    quick = isinstance(key, _SCALARS) or (isinstance(key, int) and abs(key) < _LARGEST_INT_KEY)
    return key if quick else _Key(key)


def _dict(machine: _Machine, _: Any) -> None:
    flat = machine.since_mark()
    machine.stack.append({})
    _set_items(machine.stack[-1], flat)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine.above(1), [key, value])


def _set_many(machine: _Machine, _: Any) -> None:
    flat = machine.since_mark()
    _set_items(machine.above(1), flat)


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(Name(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise UnreadablePickleError("it names something by what is no text")
    machine.stack.append(Name(module, name))


def _called(function: Any, arguments: Any) -> Any:
    """Return the record of a call; a dictionary where one of the standard library's is made."""
    record = Record(function, arguments)
    if record.calls(*_DICTIONARIES) and isinstance(arguments, tuple):
        return _dictionary(arguments)
    return record


def _dictionary(arguments: tuple[Any, ...]) -> Any:
    """Make a dictionary of pairs, as Python 2 wrote an OrderedDict; else an empty one."""
    made: dict[Any, Any] = {}
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
    for pair in pairs:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            made[_hashable(pair[0])] = pair[1]
    return made


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(_called(function, arguments))


def _new_keyword(machine: _Machine, _: Any) -> None:
    keywords, arguments = machine.stack.pop(), machine.stack.pop()
    function = machine.stack.pop()
    machine.stack.append(_called(function, (arguments, keywords)))


def _object(machine: _Machine, _: Any) -> None:
    function, *arguments = machine.since_mark()
    machine.stack.append(_called(function, tuple(arguments)))


def _instance(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(_called(Name(module, name), tuple(machine.since_mark())))


def _build(machine: _Machine, _: Any) -> None:
    """Keep an object's state; of a dictionary, which then has attributes beside its entries, no."""
    state = machine.stack.pop()
    target = machine.above(1)
    if isinstance(target, Record):
        target.state = state


def _persistent(machine: _Machine, argument: Any) -> None:
    reference = PersistentId(argument)
    machine.ids.append(reference)
    machine.stack.append(reference)


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_REMEMBERED = {"PUT", "BINPUT", "LONG_BINPUT"}
_RECALLED = {"GET", "BINGET", "LONG_BINGET"}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "STOP": lambda machine, argument: None,
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": lambda machine, argument: machine.since_mark().clear(),
    "DUP": lambda machine, argument: machine.stack.append(machine.stack[-1]),
    "MEMOIZE": _memoize,
    "TUPLE": lambda machine, argument: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda machine, argument: machine.stack.append(machine.since_mark()),
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,  # sets are lists here: no element is hashed
    "FROZENSET": lambda machine, argument: machine.stack.append(machine.since_mark()),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_many,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_keyword,
    "OBJ": _object,
    "INST": _instance,
    "BUILD": _build,
    "PERSID": _persistent,
    "BINPERSID": lambda machine, argument: _persistent(machine, machine.stack.pop()),
}
