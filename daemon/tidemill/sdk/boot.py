"""How a Python that may not be tidemill's own comes to run a module of tidemill: this file is its first script.

    /srv/etl/.venv/bin/python …/tidemill/sdk/boot.py MODULE ARGUMENT…

Imports this very tidemill, wherever it lies, and nothing that lies beside it; then calls ``MODULE.main(arguments)``.
The one thing that the interpreter has to have is msgspec, which is compiled for it. Older Pythons understand this file,
too, so that it can say so.
"""

import sys

REFUSED = 72  # exit status: this Python cannot run flows; standard error says why


def arrive() -> None:
    """Make tidemill importable in this interpreter."""
    import importlib.util
    import os

    if "tidemill" in sys.modules:
        return
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is 10 ms
    spec = importlib.util.spec_from_file_location(
        "tidemill",
        os.path.join(package, "__init__.py"),  # noqa: PTH118
        submodule_search_locations=[package],
    )
    if spec is None or spec.loader is None:
        refuse("tidemill cannot be imported from " + package)
    else:
        module = importlib.util.module_from_spec(spec)
        sys.modules["tidemill"] = module
        spec.loader.exec_module(module)


def look_at_interpreter() -> None:
    """Refuse a Python that is too old, or lacks what tidemill cannot bring along."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file meets other Pythons than the rest
        refuse("it is Python {}.{}, and flows need 3.11 or later".format(*sys.version_info[:2]))
    remedy = f"{sys.executable} -m pip install -U msgspec"
    try:
        import msgspec
    except ImportError as error:
        refuse(f"it has no msgspec that it can import ({error}); install it there: {remedy}")
    else:
        version = str(getattr(msgspec, "__version__", "0"))
        if tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2]) < (0, 20):
            refuse(f"its msgspec is {version}, and 0.20 is needed; update it there: {remedy}")


def refuse(why: str) -> None:
    """End this interpreter with the reason."""
    sys.stderr.write(why + "\n")
    sys.stderr.flush()
    sys.exit(REFUSED)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # this file's own folder: its neighbours must not pass for the standard library's modules
    look_at_interpreter()
    arrive()
    from importlib import import_module

    import_module(sys.argv[1]).main(sys.argv[2:])
elif __name__ == "__mp_main__":
    arrive()  # multiprocessing has spawned a helper for flow code, which imports tidemill again
