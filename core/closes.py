"""What holds memory, devices or files until it is closed, and closes at the end of a `with`."""

import abc
from types import TracebackType
from typing import TypeVar

__all__ = ["Closes"]

_Self = TypeVar("_Self", bound="Closes")


class Closes(abc.ABC):
    """A context manager that is itself what it manages."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what is held; closing twice does nothing."""

    def __enter__(self: _Self) -> _Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
