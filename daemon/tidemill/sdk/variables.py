"""Variables: named JSON values that flows read, and may set."""

from __future__ import annotations

from typing import Any

import msgspec

from tidemill.core.reports import VariableChange, VariableQuestion
from tidemill.errors import NotFoundError, TidemillError
from tidemill.sdk.asking import answer
from tidemill.sdk.canonical import canonical
from tidemill.sdk.context import run_context
from tidemill.sdk.states import awaited


class Variable(msgspec.Struct, frozen=True):
    """A variable as it was set. Its functions answer sync code at once; in async code they are awaited."""

    name: str
    value: Any
    tags: tuple[str, ...] = ()

    @classmethod
    def get(cls, name: str, default: Any = None) -> Any:
        """Return a variable's value, or ``default`` where there is none."""
        return answer(VariableQuestion(name=name), lambda value: default if value is None else value, awaited=awaited())

    @classmethod
    async def aget(cls, name: str, default: Any = None) -> Any:
        """Return what :meth:`get` returns."""
        value = await run_context().ask(VariableQuestion(name=name))
        return default if value is None else value

    @classmethod
    def set(cls, name: str, value: Any, tags: list[str] | None = None, overwrite: bool = False) -> Any:
        """Set a variable to a JSON value and return it as a Variable.

        Raises ``ValueError`` where it is set already and ``overwrite`` is False. None is no value: use :meth:`unset`.
        """
        change, made = _change(name, value, tags, overwrite)
        if awaited():
            return _settled(change, made)
        try:
            run_context().ask_now(change)
        except TidemillError as error:
            raise _refused(error) from None
        return made

    @classmethod
    async def aset(cls, name: str, value: Any, tags: list[str] | None = None, overwrite: bool = False) -> Variable:
        """Do what :meth:`set` does."""
        change, made = _change(name, value, tags, overwrite)
        return await _settled(change, made)

    @classmethod
    def unset(cls, name: str) -> Any:
        """Remove a variable; return whether there was one."""
        if awaited():
            return cls.aunset(name)
        try:
            return run_context().ask_now(VariableChange(name=name, value=None)) is not None
        except NotFoundError:
            return False

    @classmethod
    async def aunset(cls, name: str) -> bool:
        """Do what :meth:`unset` does."""
        try:
            return await run_context().ask(VariableChange(name=name, value=None)) is not None
        except NotFoundError:
            return False


def _change(name: str, value: Any, tags: list[str] | None, overwrite: bool) -> tuple[VariableChange, Variable]:
    if value is None:
        raise ValueError("a variable's value is not None; Variable.unset(name) removes it")
    try:
        canonical(value, limit=None)
    except ValueError as error:
        raise ValueError(f"the value for variable {name} is {error}") from None
    listed = tuple(tags or ())
    return VariableChange(name=name, value=value, tags=listed, overwrite=overwrite), Variable(name, value, listed)


async def _settled(change: VariableChange, made: Variable) -> Variable:
    try:
        await run_context().ask(change)
    except TidemillError as error:
        raise _refused(error) from None
    return made


def _refused(error: TidemillError) -> Exception:
    return ValueError(str(error)) if "overwrite=True" in str(error) else error
