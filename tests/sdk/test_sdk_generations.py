"""A reload imports everything under the flows folder anew; who runs keeps what they have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.core.deployments import FlowKind, FlowRef
from tidemill.sdk.entrypoints import Generation
from tidemill.sdk.serving import configuration, serve, to_deployment

REF = FlowRef(kind=FlowKind.FILE, entrypoint="main.py:run", name="run")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("tidemill_flows") or name in ("helper_of_flows", "flows_package"):
            del sys.modules[name]


def write(folder: Path, text: str) -> None:
    (folder / "helper_of_flows.py").write_text(f"VALUE = {text!r}\n")
    (folder / "main.py").write_text(
        f"from helper_of_flows import VALUE\nHERE = {text!r}\ndef run(): return (HERE, VALUE)\n"
    )


def test_a_new_generation_has_new_code_and_the_old_one_keeps_its_own(tmp_path: Path) -> None:
    write(tmp_path, "first")
    first = Generation(tmp_path)
    old = first.load(REF)
    write(tmp_path, "later, and of another length")
    assert first.load(REF) is old  # the same generation is one
    second = Generation(tmp_path)
    new = second.load(REF)
    assert new() == ("later, and of another length",) * 2
    assert old() == ("first", "first")
    assert second.number > first.number


def test_modules_by_name_in_the_folder_are_new_too_and_installed_ones_stay(tmp_path: Path) -> None:
    package = tmp_path / "flows_package"
    package.mkdir()
    (package / "__init__.py").write_text("def run(): return 1\n")
    ref = FlowRef(kind=FlowKind.MODULE, entrypoint="flows_package:run", name="run")
    old = Generation(tmp_path).load(ref)
    (package / "__init__.py").write_text("def run(): return 'two'\n")
    installed = sys.modules["json"]
    assert Generation(tmp_path).load(ref)() == "two"
    assert old() == 1
    assert sys.modules["json"] is installed


def test_classes_of_two_generations_can_both_be_pickled(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "main.py").write_text("class Made: ...\ndef run(): return Made()\n")
    one = Generation(tmp_path).load(REF)()
    two = Generation(tmp_path).load(REF)()
    assert type(pickle.loads(pickle.dumps(one))) is type(one)
    assert type(pickle.loads(pickle.dumps(two))) is type(two)
    assert type(one) is not type(two)


# Serving


def test_a_served_flow_s_configuration_is_one_the_daemon_takes(tmp_path: Path) -> None:
    from tidemill.config import load

    (tmp_path / "served_flows.py").write_text(
        "from tidemill import flow\n@flow(name='daily report')\ndef report(region: str = 'fi'): ...\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from served_flows import report  # type: ignore[import-not-found]
    finally:
        del sys.modules["served_flows"]
    served = to_deployment(
        report,
        "Every Morning",
        cron="0 9 * * *",
        timezone="Europe/Helsinki",
        parameters={"region": 'se "north"', "deep": {"a": [1, 2.5, True]}},
        tags=["a"],
        concurrency_limit=1,
    )
    config = tmp_path / "served.toml"
    config.write_text(configuration([served], served.folder, ["127.0.0.1:4200"]))
    settings = load(config, environ={}).settings
    deployment = settings.deployments["every-morning"]
    assert deployment.flow.entrypoint == "served_flows.py:report"
    assert deployment.parameters == {"region": 'se "north"', "deep": {"a": [1, 2.5, True]}}
    assert (deployment.schedules[0].cron, deployment.work_pool, deployment.tags) == ("0 9 * * *", "process", ("a",))
    assert settings.daemon.flows == tmp_path


def test_a_file_that_a_daemon_loads_serves_nothing(tmp_path: Path) -> None:
    """Without a guard the script would begin a daemon in the daemon."""
    (tmp_path / "main.py").write_text(
        "from tidemill import flow\n@flow\ndef run(): return 1\nrun.serve(cron='* * * * *')\n"
    )
    assert Generation(tmp_path).load(REF).fn() == 1  # type: ignore[attr-defined]


def test_a_flow_is_served_by_the_real_daemon_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("tidemill.sdk.serving._become", became.append)
    (tmp_path / "main.py").write_text("from tidemill import flow\n@flow\ndef run(): return 1\n")
    made = Generation(tmp_path).load(REF)
    made.serve(interval=60, state_dir=tmp_path / "state")  # type: ignore[attr-defined]
    (argv,) = became
    assert argv[0] == sys.executable
    assert argv[-4:] == ["start", str(tmp_path / "state" / "served.toml"), "--state-dir", str(tmp_path / "state")]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"cron": "* * * * *", "interval": 3}, "give one of"), ({"parameters": {"a": None}}, "no null")],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, options: dict[str, object], says: str) -> None:
    (tmp_path / "main.py").write_text("from tidemill import flow\n@flow\ndef run(a=1): return 1\n")
    made = Generation(tmp_path).load(REF)
    with pytest.raises(ValueError, match=says):
        made.serve(state_dir=tmp_path / "state", **options)  # type: ignore[attr-defined]


def test_a_flow_inside_a_function_or_nothing_at_all_cannot_be_served() -> None:
    from tidemill import flow

    @flow
    def inner() -> None: ...

    with pytest.raises(ValueError, match="top of a file"):
        inner.serve()
    with pytest.raises(ValueError, match="nothing to serve"):
        serve()
