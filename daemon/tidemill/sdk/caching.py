"""When a task's result may stand for running it again: cache policies, which make keys of what a run is given.

Policies add up (``INPUTS + TASK_SOURCE``), and arguments are taken out of the inputs by subtracting their names
(``INPUTS - "debug"``).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import msgspec

from tidemill.sdk.exceptions import HashError


class CachePolicy:
    """Base of all policies, and what to derive one's own from: override ``compute_key``."""

    isolation_level: str | None = None

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """Return the key for a run, or None where its result is not to be cached.

        ``task_ctx`` has ``task``, ``task_run`` and ``parameters``.
        """
        raise NotImplementedError

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: Callable[..., str | None]) -> CachePolicy:
        """Return a policy of a function ``(context, parameters) -> key or None``."""
        return CacheKeyFnPolicy(cache_key_fn)

    def configure(self, key_storage: Any = None, lock_manager: Any = None, isolation_level: Any = None) -> CachePolicy:
        """Return the same policy with another isolation level ("READ_COMMITTED" or "SERIALIZABLE").

        ``key_storage`` and ``lock_manager`` must be None: the daemon keeps the keys.
        """
        if key_storage is not None or lock_manager is not None:
            raise ValueError("the daemon keeps cache keys and locks: leave key_storage and lock_manager out")
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new._isolated(getattr(isolation_level, "value", isolation_level))

    def _isolated(self, level: str | None) -> CachePolicy:
        if level is not None:
            self.isolation_level = str(level)
        return self

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if isinstance(other, _None):
            return self
        if isinstance(self, _None):
            return other
        mine = self.policies if isinstance(self, CompoundCachePolicy) else [self]
        others = other.policies if isinstance(other, CompoundCachePolicy) else [other]
        together = CompoundCachePolicy([*mine, *others])
        return together._isolated(self.isolation_level or other.isolation_level)

    def __sub__(self, name: str) -> CachePolicy:
        if not isinstance(name, str):
            raise TypeError(f"names of arguments are subtracted from a policy, not {type(name).__name__}")
        return self

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


class CacheKeyFnPolicy(CachePolicy):
    """The key that a function gives."""

    def __init__(self, cache_key_fn: Callable[..., str | None]) -> None:
        if not callable(cache_key_fn):
            raise TypeError(f"cache_key_fn is a function, not {type(cache_key_fn).__name__}")
        self.cache_key_fn = cache_key_fn

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        key = self.cache_key_fn(task_ctx, inputs)
        return None if key is None else str(key)


class _None(CachePolicy):
    """No key, so no cache."""

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        return None


class TaskSource(CachePolicy):
    """The text of the task's function, without that of what it calls."""

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        if task_ctx is None:
            return None
        task = task_ctx.task
        code = getattr(task.fn, "__code__", None)
        return hash_objects(task.source_code or (code.co_code.hex() if code is not None else task.task_key))


class FlowParameters(CachePolicy):
    """The parameters of the flow that the task runs in."""

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        return hash_objects(flow_parameters) if flow_parameters else None


class RunId(CachePolicy):
    """The flow run, so that a result counts within one run and its retries; the task run outside a flow."""

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        if task_ctx is None:
            return None
        return str(task_ctx.task_run.flow_run_id or task_ctx.task_run.id)


class Inputs(CachePolicy):
    """The arguments of the call, without those named in ``exclude``."""

    def __init__(self, exclude: list[str] | None = None) -> None:
        self.exclude = list(exclude or ())

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        counted = {name: value for name, value in (inputs or {}).items() if name not in self.exclude}
        bound_to = getattr(getattr(task_ctx, "task", None), "bound_to", None)
        if bound_to is not None and not isinstance(bound_to, type) and "self" not in self.exclude:
            counted["self"] = bound_to
        if not inputs and not counted:
            return None
        try:
            return hash_objects(counted)
        except HashError as error:
            odd = next((name for name, value in counted.items() if not _is_hashable(value)), "name")
            raise ValueError(
                f"{error}; leave the argument out (INPUTS - {odd!r}), give a cache_key_fn, or use cache_policy=NO_CACHE"
            ) from error

    def __sub__(self, name: str) -> CachePolicy:
        super().__sub__(name)
        return Inputs([*self.exclude, name])._isolated(self.isolation_level)


class CompoundCachePolicy(CachePolicy):
    """Several policies at once: all their keys count, those without a key aside."""

    def __init__(self, policies: list[CachePolicy]) -> None:
        inputs = [each for each in policies if isinstance(each, Inputs)]
        self.policies = [each for each in policies if not isinstance(each, Inputs)]
        if inputs:
            self.policies.append(Inputs(sorted({name for each in inputs for name in each.exclude})))

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        keys = [each.compute_key(task_ctx, inputs, flow_parameters, **kwargs) for each in self.policies]
        found = [key for key in keys if key is not None]
        return hash_objects(found) if found else None

    def __sub__(self, name: str) -> CachePolicy:
        return CompoundCachePolicy([each - name for each in self.policies])._isolated(self.isolation_level)


def hash_objects(*values: Any) -> str:
    """Return a hash of values that is equal for equal values, in any process.

    Raises ``HashError`` for values that are neither JSON-like nor picklable.
    """
    try:
        text = msgspec.json.encode(values, order="deterministic", enc_hook=_encoded)
    except Exception:
        try:
            text = pickle.dumps(values)
        except Exception as error:
            raise HashError(f"no stable hash can be made of these values: {error}") from error
    return hashlib.sha256(text).hexdigest()[:32]


def _is_hashable(value: Any) -> bool:
    try:
        hash_objects(value)
    except HashError:
        return False
    return True


def _encoded(value: Any) -> Any:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if hasattr(value, "model_dump"):  # pydantic's models
        return [kind, value.model_dump(mode="python")]
    raise TypeError(kind)


INPUTS = Inputs()
NO_CACHE = _None()
NONE = NO_CACHE
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def task_input_hash(context: Any, parameters: dict[str, Any]) -> str | None:
    """Return a key of the task's code and its inputs; a ``cache_key_fn``."""
    return hash_objects(context.task.task_key, parameters)
