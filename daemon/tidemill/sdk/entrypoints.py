"""From what the configuration says to the function itself.

``reports.py:daily`` is the function ``daily`` of a file inside the flows folder; ``package.module:flow`` is importable.
The flows folder stands at the end of the import path, so that its files may import each other and shadow nothing.
A module is executed once in a process.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.errors import EntrypointError
from tidemill.sdk.definitions import TaskDefinition
from tidemill.sdk.findings import near
from tidemill.sdk.import_guard import guard, open_to_anybody
from tidemill.sdk.signatures import check_parameters, is_generator, signature_of

__all__ = ["Generation", "check_parameters", "load", "locate", "signature_of"]

_NAMESPACE = "tidemill_flows"  # so that flows/random.py is not the random of everybody
# Two threads must not execute one file twice, and a file whose import hangs must not hold others up: a lock for each.
_EXECUTING: dict[str, threading.RLock] = {}


class Generation:
    """Everything under a flows folder as it was when it was first imported.

    A new generation imports all of it anew: entrypoints, and what they import from the folder. Functions of an older
    one go on with the modules they have; only an import that one of them makes while it runs finds the newest.
    """

    def __init__(self, flows_dir: Path) -> None:
        with _GENERATIONS:
            self.number = next(_NUMBERS)
            self.flows_dir = flows_dir
            self._namespace = _NAMESPACE if self.number == 1 else f"{_NAMESPACE}_{self.number}"
            if self.number > 1:
                _forget(flows_dir)

    def load(self, ref: FlowRef) -> Callable[..., Any]:
        """Return the function that ``ref`` names in this generation; as :func:`load`."""
        return load(ref, self.flows_dir, namespace=self._namespace)


def _forget(flows_dir: Path) -> None:
    """Have the next import of what lies under the folder execute it anew."""
    home = flows_dir.resolve()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0].startswith(_NAMESPACE):
            continue
        path = Path(file)
        # What is installed inside the folder (a virtual environment) is no flow of the user's.
        if path.is_relative_to(home) and "site-packages" not in path.parts and "dist-packages" not in path.parts:
            del sys.modules[name]
    importlib.invalidate_caches()


_GENERATIONS = threading.Lock()
_NUMBERS = itertools.count(1)


def load(ref: FlowRef, flows_dir: Path, *, namespace: str | None = None) -> Callable[..., Any]:
    """Return the function that ``ref`` names, importing its module. This runs the code at the module's top.

    Raises :class:`EntrypointError`, which says what is in the way: no such file or function (with near names), a
    symlink that leads out of the flows folder, a file that anybody may write, an import that failed.
    """
    place, _, name = ref.entrypoint.rpartition(":")
    if not place or not name:
        raise EntrypointError(f'"{ref.entrypoint}": write "file.py:function" or "package.module:function"')
    folder = str(flows_dir)
    if folder not in sys.path:
        sys.path.append(folder)
        guard(flows_dir)
    if ref.kind is FlowKind.FILE:
        path = locate(ref, flows_dir)
        with _EXECUTING.setdefault(f"{namespace} {path}", threading.RLock()):
            module = _import_file(ref, path, flows_dir, namespace or _NAMESPACE)
    else:
        module = _import_module(ref, place)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
        if function is None:
            raise EntrypointError(f'"{ref.entrypoint}": {place} has no "{name}"{_hint(name, _functions(module))}')
    if not callable(function):
        raise EntrypointError(
            f'"{ref.entrypoint}": "{name}" is {type(function).__name__}, not a function'
            f"{_hint(name, _functions(module))}"
        )
    if isinstance(function, TaskDefinition):
        raise EntrypointError(
            f'"{ref.entrypoint}": "{name}" is a task, and a deployment runs a flow; write one that calls it'
            f"{_hint(name, _functions(module))}"
        )
    if is_generator(function):
        raise EntrypointError(f'"{ref.entrypoint}": "{name}" is a generator; a flow is a function or an async function')
    return cast(Callable[..., Any], function)


def locate(ref: FlowRef, flows_dir: Path) -> Path:
    """Return the resolved path of a file entrypoint, or raise :class:`EntrypointError` where it must not be run."""
    file = ref.entrypoint.rpartition(":")[0]
    written = Path(file)
    if written.is_absolute() or ".." in written.parts:
        raise EntrypointError(f'"{ref.entrypoint}": flows are files inside {flows_dir}; name the file from there')
    try:
        home = flows_dir.resolve(strict=True)
    except OSError as error:
        raise EntrypointError(
            f'"{ref.entrypoint}": the flows folder {flows_dir} cannot be opened ({error.strerror}); '
            "make it, or set [daemon] flows"
        ) from error
    try:
        path = (home / written).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        if (home / written).is_symlink():
            raise EntrypointError(
                f'"{ref.entrypoint}": {flows_dir / file} is a symlink to {(home / written).readlink()}, which is '
                "missing; restore that file, or copy it into the folder"
            ) from error
        present = [str(found.relative_to(home)) for found in sorted(home.rglob("*.py"))[:200]]
        raise EntrypointError(
            f'"{ref.entrypoint}": there is no file {flows_dir / file}{_hint(file, present)}'
        ) from error
    if not path.is_relative_to(home):
        raise EntrypointError(
            f'"{ref.entrypoint}": {flows_dir / file} is a symlink that leads out of the flows folder, to {path}; '
            "copy the file into the folder"
        )
    if not path.is_file():
        raise EntrypointError(f'"{ref.entrypoint}": {flows_dir / file} is not a file')
    _refuse_writable_by_anybody(ref, path, home)
    return path


def _refuse_writable_by_anybody(ref: FlowRef, path: Path, home: Path) -> None:
    """Whoever may write the file, or swap it in its folder, would run code as the daemon's user."""
    place = open_to_anybody(path, home)
    if place is not None:
        raise EntrypointError(f'"{ref.entrypoint}": anybody may write {place}; run: chmod o-w {place}')


def _import_file(ref: FlowRef, path: Path, flows_dir: Path, namespace: str) -> ModuleType:
    parts = path.relative_to(flows_dir.resolve()).with_suffix("").parts
    name = ".".join((namespace, *parts))
    present = sys.modules.get(name)
    if present is not None and getattr(present, "__file__", None) == str(path):
        return present
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EntrypointError(f'"{ref.entrypoint}": {path.name} is not a Python file; its name must end in .py')
    module = importlib.util.module_from_spec(spec)
    for depth in range(1, name.count(".") + 1):  # what pickle imports on its way to a class of the module
        above = ".".join(name.split(".")[:depth])
        if above not in sys.modules:
            sys.modules[above] = ModuleType(above)
            sys.modules[above].__path__ = []
    sys.modules[name] = module  # dataclasses and pickle look a class's module up while it is being executed
    token = _loading.set(True)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise EntrypointError(f'"{ref.entrypoint}": {path.name} cannot be imported: {import_failure(error)}') from error
    finally:
        _loading.reset(token)
    return module


def is_loading() -> bool:
    """Whether an entrypoint's file is being executed: it is imported for its flows, not run as a script."""
    return _loading.get()


_loading: ContextVar[bool] = ContextVar("tidemill_loading", default=False)


def _import_module(ref: FlowRef, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise EntrypointError(
                f'"{ref.entrypoint}": there is no module "{error.name}" to import; install it, or put a file into the '
                'flows folder and name it "file.py:function"'
            ) from error
        raise EntrypointError(f'"{ref.entrypoint}": {name} cannot be imported: {import_failure(error)}') from error
    except (Exception, SystemExit) as error:
        raise EntrypointError(f'"{ref.entrypoint}": {name} cannot be imported: {import_failure(error)}') from error


def import_failure(error: BaseException) -> str:
    """Return one line: the exception, and the last place in the user's own code that it passed."""
    if isinstance(error, SystemExit):
        text = f"it ended itself with exit status {error.code!r}"
    else:
        text = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{text} ({Path(error.filename or '?').name}, line {error.lineno})"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def _functions(module: ModuleType) -> list[str]:
    """Return the names that a deployment may run: no classes, no tasks, and nothing of tidemill's own."""
    return [name for name, value in vars(module).items() if not name.startswith("_") and _may_be_run(value)]


def _may_be_run(value: Any) -> bool:
    if not callable(value) or isinstance(value, type | TaskDefinition):
        return False
    return not str(getattr(value, "__module__", "")).startswith("tidemill.")


def _hint(name: str, known: list[str]) -> str:
    hint = near(name, known)
    return f"; {hint}" if hint else ""
