"""What a flow and a task are defined by: a function and its options, checked once."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from tidemill.core.retries import RetryPolicy
from tidemill.sdk.caching import DEFAULT, NO_CACHE, CacheKeyFnPolicy, CachePolicy
from tidemill.sdk.parameters import Signature
from tidemill.sdk.signatures import is_async, signature_of
from tidemill.sdk.task_runners import configured

Hook = Callable[..., Any]
MAX_RETRY_DELAYS = 50


class _NotSet:
    def __repr__(self) -> str:
        return "NotSet"


NotSet: Any = _NotSet()


class TaskDefinition:
    """A task's function and options. See :func:`tidemill.sdk.tasks.task` for what each means."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        version: str | None = None,
        cache_policy: CachePolicy | None = NotSet,
        cache_key_fn: Callable[..., str | None] | None = None,
        cache_expiration: timedelta | None = None,
        task_run_name: str | Callable[..., str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
        retry_jitter_factor: float | None = None,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        result_storage_key: str | None = None,
        cache_result_in_memory: bool = True,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        refresh_cache: bool | None = None,
        on_completion: Iterable[Hook] | None = None,
        on_failure: Iterable[Hook] | None = None,
        on_running: Iterable[Hook] | None = None,
        on_rollback: Iterable[Hook] | None = None,
        on_commit: Iterable[Hook] | None = None,
        retry_condition_fn: Callable[..., Any] | None = None,
        viz_return_value: Any = None,
        asset_deps: Any = None,
    ) -> None:
        self.binding, fn = unwrapped(fn)
        if inspect.isasyncgenfunction(fn):
            raise TypeError(f"{fn.__qualname__} is an async generator; a task is a function that returns")
        self.fn = fn
        self.bound_to: Any = None
        functools.update_wrapper(self, fn)  # type: ignore[arg-type]
        self.isasync = is_async(fn)
        self.isgenerator = inspect.isgeneratorfunction(fn)
        self.signature = Signature(fn)
        self.signature.refuse_reserved()
        self.name: str = _name(name, "task") or str(getattr(fn, "__name__", type(fn).__name__))
        self.description = description or inspect.getdoc(fn)
        self.tags = frozenset(_texts(tags, "tags"))
        self.version = version
        self.source_code = source_of(fn)
        self.task_key = _task_key(fn)
        _check_run_name(task_run_name, "task_run_name")
        self.task_run_name = task_run_name
        self.name_takes_parameters = callable(task_run_name) and takes(task_run_name, "parameters")
        self.retries = _count(retries, "retries")
        self.retry_delay_seconds = delays(retry_delay_seconds, self.retries)
        self.retry_jitter_factor = _jitter(retry_jitter_factor)
        self.retry_condition_fn = _callable(retry_condition_fn, "retry_condition_fn")
        self.timeout_seconds = _seconds(timeout_seconds)
        self.log_prints = log_prints
        self.refresh_cache = bool(refresh_cache)
        self.cache_expiration = cache_expiration
        self.cache_key_fn = cache_key_fn
        self.result_storage_key = result_storage_key
        self.user_cache_policy = cache_policy
        self.user_persist_result = persist_result
        policy = CacheKeyFnPolicy(cache_key_fn) if cache_key_fn is not None else cache_policy
        if persist_result is None and (
            result_storage_key is not None or (policy is not NotSet and policy is not None and policy != NO_CACHE)
        ):
            persist_result = True
        self.persist_result = persist_result
        if persist_result is False or policy is None or (policy is NotSet and result_storage_key is not None):
            self.cache_policy: CachePolicy = NO_CACHE
        else:
            self.cache_policy = DEFAULT if policy is NotSet else policy
        # Where results are kept is the daemon's matter: these are taken so that a flow needs no other decorator.
        self.result_storage = result_storage
        self.result_serializer = result_serializer
        self.cache_result_in_memory = cache_result_in_memory
        self.viz_return_value = viz_return_value
        self.asset_deps = asset_deps
        self.on_completion_hooks = hooks(on_completion, "on_completion")
        self.on_failure_hooks = hooks(on_failure, "on_failure")
        self.on_running_hooks = hooks(on_running, "on_running")
        self.on_rollback_hooks = hooks(on_rollback, "on_rollback")
        self.on_commit_hooks = hooks(on_commit, "on_commit")

    def delay_s(self, retries_used: int) -> float:
        """Return the seconds to wait before the next attempt, without jitter."""
        given = self.retry_delay_seconds
        return given[min(retries_used, len(given) - 1)] if given else 0.0


class FlowDefinition:
    """A flow's function and options. See :func:`tidemill.sdk.flows.flow` for what each means."""

    plain = False  # a function without the decorator: its prints are always kept

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        version: str | None = None,
        flow_run_name: str | Callable[[], str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | list[float] | Callable[[int], list[float]] | None = None,
        retry_jitter_factor: float | None = None,
        task_runner: Any = None,
        description: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        on_completion: Iterable[Hook] | None = None,
        on_failure: Iterable[Hook] | None = None,
        on_cancellation: Iterable[Hook] | None = None,
        on_crashed: Iterable[Hook] | None = None,
        on_running: Iterable[Hook] | None = None,
    ) -> None:
        self.binding, fn = unwrapped(fn)
        if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
            raise TypeError(f"{fn.__qualname__} is a generator; a flow is a function or an async function")
        self.fn = fn
        self.bound_to: Any = None
        functools.update_wrapper(self, fn)  # type: ignore[arg-type]
        self.isasync = is_async(fn)
        self.signature = Signature(fn)
        self.signature.refuse_reserved()
        self.checked = signature_of(fn)
        own = str(getattr(fn, "__name__", type(fn).__name__))
        self.name: str = _name(name, "flow") or own.replace("_", "-").replace("<lambda>", "unknown-lambda")
        for character in "/%&<>":
            if name and character in name:
                raise ValueError(f'a flow\'s name has no "{character}" in it, unlike {name!r}')
        self.version = version
        self.description = description or inspect.getdoc(fn)
        _check_run_name(flow_run_name, "flow_run_name")
        self.flow_run_name = flow_run_name
        self.retries = _count(retries, "retries")
        self.retry_delay_seconds = delays(retry_delay_seconds, self.retries)
        self.retry_jitter_factor = _jitter(retry_jitter_factor)
        self.task_runner = configured(task_runner)
        self.timeout_seconds = _seconds(timeout_seconds)
        self.should_validate_parameters = validate_parameters
        self.persist_result = persist_result
        self.result_storage = result_storage
        self.result_serializer = result_serializer
        self.cache_result_in_memory = cache_result_in_memory
        self.log_prints = log_prints
        self.on_completion_hooks = hooks(on_completion, "on_completion")
        self.on_failure_hooks = hooks(on_failure, "on_failure")
        self.on_cancellation_hooks = hooks(on_cancellation, "on_cancellation")
        self.on_crashed_hooks = hooks(on_crashed, "on_crashed")
        self.on_running_hooks = hooks(on_running, "on_running")

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as a JSON schema."""
        return self.signature.schema()

    @property
    def retry_policy(self) -> RetryPolicy | None:
        """The decorator's retries as a policy; None where it asks for none."""
        if not self.retries:
            return None
        given = tuple(timedelta(seconds=each) for each in self.retry_delay_seconds) or (timedelta(0),)
        return RetryPolicy(retries=self.retries, delays=given, jitter=self.retry_jitter_factor)

    def delay_s(self, retries_used: int) -> float:
        """Return the seconds to wait before the next attempt, without jitter."""
        given = self.retry_delay_seconds
        return given[min(retries_used, len(given) - 1)] if given else 0.0


def unwrapped(fn: Any) -> tuple[str | None, Callable[..., Any]]:
    """Return how a function binds ("classmethod", "staticmethod" or None) and the function itself."""
    binding = None
    if isinstance(fn, classmethod | staticmethod):
        binding = type(fn).__name__
        fn = fn.__func__
    if not callable(fn):
        raise TypeError(f"a flow or task is made of a function, not of {type(fn).__name__}")
    return binding, fn


def hooks(given: Iterable[Hook] | None, name: str) -> list[Hook]:
    """Return a list of hooks; raises ``TypeError`` for what is no list of callables."""
    if given is None:
        return []
    if callable(given):
        raise TypeError(f"{name} takes a list of functions: {name}=[{getattr(given, '__name__', 'hook')}]")
    try:
        listed = list(given)
    except TypeError:
        raise TypeError(f"{name} takes a list of functions, not {type(given).__name__}") from None
    for hook in listed:
        if not callable(hook):
            raise TypeError(f"{name} takes a list of functions; {hook!r} is none")
    return listed


def delays(
    given: float | list[float] | tuple[float, ...] | Callable[[int], list[float]] | None, retries: int
) -> list[float]:
    """Return the delays before each retry in seconds; the last one repeats."""
    if callable(given):
        given = given(retries)
    if given is None:
        return []
    if isinstance(given, bool) or not isinstance(given, int | float | list | tuple):
        raise TypeError(f"retry_delay_seconds is a number, a list of numbers or a function, not {type(given).__name__}")
    listed = [float(each) for each in given] if isinstance(given, list | tuple) else [float(given)]
    if len(listed) > MAX_RETRY_DELAYS:
        raise ValueError(f"at most {MAX_RETRY_DELAYS} retry delays can be given, not {len(listed)}")
    if any(each < 0 for each in listed):
        raise ValueError("a retry delay is at least 0 seconds")
    return listed


def takes(fn: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of that name."""
    try:
        return name in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def source_of(fn: Callable[..., Any]) -> str | None:
    """Return the text of a function, None where there is none."""
    try:
        return inspect.getsource(fn)
    except (TypeError, OSError):
        return None


def _task_key(fn: Callable[..., Any]) -> str:
    """Return what makes runs of the same task belong together: the function's name and a hash of its code."""
    name: str = getattr(fn, "__qualname__", type(fn).__qualname__)
    code = getattr(fn, "__code__", None)
    if code is None:
        return f"{name}-unknown"
    digest = hashlib.sha256(code.co_code + repr((code.co_consts, code.co_names)).encode(errors="replace"))
    return f"{name}-{digest.hexdigest()[:8]}"


def _name(name: Any, of: str) -> str | None:
    if name is not None and not isinstance(name, str):
        hint = "; perhaps it was to be called" if callable(name) else ""
        raise TypeError(f"the name of a {of} is a text, not {type(name).__name__}{hint}")
    return name


def _texts(given: Iterable[str] | None, what: str) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{what} is a list of texts: [{given!r}]")
    return [str(each) for each in given or ()]


def _check_run_name(given: Any, what: str) -> None:
    if given is not None and not isinstance(given, str) and not callable(given):
        raise TypeError(f"{what} is a text or a function, not {type(given).__name__}")


def _count(given: Any, what: str) -> int:
    if given is None:
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{what} is a number from 0 on, not {given!r}")
    return given


def _jitter(given: float | None) -> float:
    if given is not None and given < 0:
        raise ValueError("`retry_jitter_factor` must be >= 0.")
    return given or 0.0


def _seconds(given: Any) -> float | None:
    if given is not None and given < 0:
        raise ValueError(f"timeout_seconds is at least 0, not {given}")
    return float(given) if given else None


def _callable(given: Any, what: str) -> Any:
    if given is not None and not callable(given):
        raise TypeError(f"Expected `{what}` to be callable, got {type(given).__name__} instead.")
    return given
