"""Marks around arguments that say how the engine treats them."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Annotation(Generic[T]):
    """A value with a mark on it."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def unwrap(self) -> T:
        """Return the value without the mark."""
        return self.value

    def rewrap(self, value: Any) -> Annotation[Any]:
        """Return the same mark around another value."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(Annotation[T]):  # noqa: N801 - Prefect's name, as all here
    """Give the value as it is to every call of a ``map``, though one could iterate over it.

    >>> unmapped([1, 2]).unwrap()
    [1, 2]
    """

    __slots__ = ()


class allow_failure(Annotation[T]):  # noqa: N801
    """Run though this input's run failed: the function gets the exception in place of the result."""

    __slots__ = ()


class quote(Annotation[T]):  # noqa: N801
    """Hand the value over as it is, without looking for futures inside: for large collections."""

    __slots__ = ()

    def unquote(self) -> T:
        return self.value


class opaque(Annotation[T]):  # noqa: N801
    """Resolve a future or state, and do not look into its result."""

    __slots__ = ()
