"""What is done on the machine that test_e2e_systemd.py boots: each step's facts, as one JSON document.

It runs as root under that machine's systemd, with nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine_files import CAN, FLOWS, GOOD, JOBS, SANDBOX, SECRET

TIDEMILL = str(Path(sys.executable).parent / "tidemill")
CONFIG = Path("/etc/tidemill/tidemill.toml")
STATE = Path("/var/lib/tidemill")
DEADLINE_S = 60.0


def run(*words: str, check: bool = False, deadline_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would."""
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        errors="replace",
        check=check,
        timeout=deadline_s,
        stdin=subprocess.DEVNULL,
    )


def tidemill(*words: str, state: Path = STATE) -> Any:
    """Ask the daemon, or its database where it is down, and return its answer as JSON."""
    done = run(TIDEMILL, *words, "--state-dir", str(state), "--output", "json")
    if not done.stdout.strip():
        raise AssertionError(f"{words}: {done.returncode} {done.stderr}")
    return json.loads(done.stdout)


def show(unit: str = "tidemill") -> dict[str, str]:
    """What systemd knows of a unit."""
    names = "ActiveState SubState StatusText MainPID NRestarts Result ExecMainStatus ExecMainCode UMask"
    lines = run("systemctl", "show", unit, *(f"--property={name}" for name in names.split())).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def journal(*matches: str) -> list[dict[str, Any]]:
    """Entries of the journal, oldest first."""
    lines = run("journalctl", "--output=json", "--no-pager", "--all", *matches).stdout.splitlines()
    return [json.loads(line) for line in lines]


def until(look: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Look again and again until something true is seen, and return it."""
    end = time.monotonic() + deadline_s
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.05)
    return seen


def systemctl(*words: str) -> dict[str, Any]:
    began = time.monotonic()
    done = run("systemctl", *words, deadline_s=60)
    return {"code": done.returncode, "err": done.stderr, "seconds": time.monotonic() - began}


def state_of(run_id: str, state: Path = STATE) -> dict[str, Any]:
    found = tidemill("flow-run", "inspect", run_id, state=state)
    return {"type": found["state"]["type"], "name": found["state"]["name"], "message": found["state"]["message"]}


def start_run(deployment: str, state: Path = STATE) -> str:
    """Start a run and wait until it runs."""
    run_id = str(tidemill("deployment", "run", deployment, state=state)["id"])
    until(lambda: state_of(run_id, state)["type"] == "RUNNING", f"{deployment} runs")
    return run_id


def finished(deployment: str, state: Path = STATE) -> dict[str, Any]:
    """Run a deployment to its end; return its state and what it printed."""
    run_id = str(tidemill("deployment", "run", deployment, state=state)["id"])
    final = until(
        lambda: (found := state_of(run_id, state))["type"] in ("COMPLETED", "FAILED", "CRASHED") and found,
        f"{deployment} ends",
    )
    logs = tidemill("flow-run", "logs", run_id, state=state)
    return {"id": run_id, "state": final, "lines": [line["message"] for line in logs]}


def ticks() -> int:
    return len(journal("TIDEMILL_DEPLOYMENT=tick", "TIDEMILL_STATE=Completed"))


def goes_on(what: str) -> None:
    """Wait until the schedule has fired once more."""
    before = ticks()
    until(lambda: ticks() > before, what)


# --- the steps --------------------------------------------------------------------------------------------------------


def installed() -> dict[str, Any]:
    (CONFIG.parent / "flows").mkdir(parents=True)
    CONFIG.write_text(GOOD)
    (CONFIG.parent / "flows" / "machine.py").write_text(FLOWS)
    (CONFIG.parent / "sandbox.sh").write_text(SANDBOX)
    credentials = CONFIG.parent / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "api-token").write_text(SECRET + "\n")
    (credentials / "api-token").chmod(0o600)
    first = run(TIDEMILL, "systemd", "install")
    again = run(TIDEMILL, "systemd", "install")
    unit = "/etc/systemd/system/tidemill.service"
    verified = run("systemd-analyze", "verify", "--man=no", unit)
    systemctl("daemon-reload")
    security = run("systemd-analyze", "security", "--no-pager", "tidemill.service").stdout
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", security)
    return {
        "code": first.returncode,
        "out": first.stdout,
        "err": first.stderr,
        "again": again.stdout,
        "verify": verified.stderr,
        "exposure": float(exposure[1]) if exposure else None,
    }


def started() -> dict[str, Any]:
    done = systemctl("enable", "--now", "tidemill")
    ready = show()
    until(lambda: ticks() >= 2, "the schedule has fired")
    return {
        **done,
        "ready": ready,
        "status_text": until(
            lambda: "tick" in (text := show()["StatusText"]) and text, "the status names what is next"
        ),
        "entries": journal("TIDEMILL_DEPLOYMENT=tick"),
        "unit": journal("--unit=tidemill"),
        "shown": run("journalctl", "--unit=tidemill", "--no-pager", "--output=cat").stdout.splitlines(),
        "due": {each["id"]: each["expected_start_time"] for each in tidemill("flow-run", "ls", "--deployment", "tick")},
    }


def told_secrets() -> dict[str, Any]:
    done = finished("secret")
    return {
        **done,
        "sha256": hashlib.sha256(SECRET.encode()).hexdigest(),
        "in_journal": SECRET in json.dumps(journal("--unit=tidemill")),
    }


def confined() -> dict[str, Any]:
    sandbox = finished("sandbox")
    wrote = [line.removeprefix("wrote ") for line in sandbox["lines"] if line.startswith("wrote ")]
    # What it wrote that is there for others, too.
    shared = [place for place in wrote if (Path(place) / ".probe").exists()]
    return {"sandbox": sandbox, "wrote": wrote, "shared": shared, "child": finished("child")}


def reloaded() -> dict[str, Any]:
    """An edit that is asked to be read, and one that is noticed."""
    added = GOOD + '\n[deployments.NAME]\ncommand = "true"\ninterval = "1s"\n'
    before = show()
    CONFIG.write_text(added.replace("NAME", "asked"))
    done = systemctl("reload", "tidemill")
    asked = until(lambda: journal("TIDEMILL_DEPLOYMENT=asked", "TIDEMILL_STATE=Completed"), "what was added runs")
    began = time.monotonic()
    CONFIG.write_text(added.replace("NAME", "noticed"))
    until(lambda: "noticed" in str(journal("TIDEMILL_EVENT=config-reloaded")), "the edit is noticed")
    noticed_s = time.monotonic() - began
    until(lambda: journal("TIDEMILL_DEPLOYMENT=noticed", "TIDEMILL_STATE=Completed"), "what was added runs")
    return {
        **done,
        "before": before,
        "after": until(
            lambda: "reloaded" in (found := show())["StatusText"] and found, "the status tells of the reload"
        ),
        "asked": len(asked),
        "noticed_s": noticed_s,
        "events": journal("TIDEMILL_EVENT=config-reloaded"),
    }


def broken_edit() -> dict[str, Any]:
    before = show()
    CONFIG.write_text(GOOD.replace('interval = "1s"', 'intervall = "1s"'))
    refused = until(lambda: journal("TIDEMILL_EVENT=config-refused"), "the edit is refused")
    goes_on("the schedule goes on")
    asked = systemctl("reload", "tidemill")
    goes_on("the schedule goes on")
    return {
        "before": before,
        "after": until(lambda: "refused" in (found := show())["StatusText"] and found, "the status tells of it"),
        "refused": refused,
        "asked": asked,
        "state": tidemill("status")["state"],
    }


def broken_at_boot() -> dict[str, Any]:
    """The file that was broken in the step before is broken still."""
    done = systemctl("restart", "tidemill")
    ready = show()
    goes_on("the last good schedule fires")
    state = tidemill("status")["state"]
    CONFIG.write_text(GOOD)
    until(lambda: tidemill("status")["state"] == "ok", "a mended file is taken over")
    return {**done, "ready": ready, "state": state, "after": show()}


def stopped() -> dict[str, Any]:
    run_id = start_run("slow")
    done = systemctl("stop", "tidemill")
    return {
        **done,
        "after": show(),
        "run": state_of(run_id),
    }


def drop_in(*lines: str) -> None:
    """Change the unit as a person would; what is not written goes back to what it was."""
    path = Path("/etc/systemd/system/tidemill.service.d/test.conf")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["[Service]", "RestartSec=200ms", *lines, ""]))
    systemctl("daemon-reload")


def killed() -> dict[str, Any]:
    drop_in()
    systemctl("start", "tidemill")
    run_id = start_run("long")
    before = show()
    run("kill", "-9", before["MainPID"], check=True)
    until(lambda: show()["ActiveState"] == "active" and show()["MainPID"] != before["MainPID"], "it is started again")
    left = run("pgrep", "-f", "sleep 7654").stdout.split()
    goes_on("the schedule goes on")
    return {"before": before, "after": show(), "run": state_of(run_id), "left": left}


def frozen() -> dict[str, Any]:
    drop_in("WatchdogSec=3s")
    systemctl("restart", "tidemill")
    before = show()
    time.sleep(4)  # longer than the watchdog's time: a daemon that is well is left alone
    well = show()
    run(TIDEMILL, "deployment", "run", "freeze")  # which may get no answer: nothing answers any more
    until(lambda: show()["NRestarts"] != well["NRestarts"] and show()["ActiveState"] == "active", "it is started again")
    goes_on("the schedule goes on")
    return {
        "before": before,
        "well": well,
        "after": show(),
        "run": state_of(tidemill("flow-run", "ls", "--deployment", "freeze")[0]["id"]),
        "shown": run("journalctl", "--unit=tidemill", "--no-pager", "--output=cat").stdout.splitlines(),
    }


def broken_from_the_start() -> dict[str, Any]:
    (CONFIG.parent / "broken.toml").write_text("[deployments.tick]\ncomand = 'true'\n")
    done = systemctl("start", "tidemill@broken")
    time.sleep(2.5)  # longer than RestartSec: were it started again, it would be seen
    return {**done, "after": show("tidemill@broken"), "entries": journal("--unit=tidemill@broken")}


def jobs_of_a_user() -> dict[str, Any]:
    run("useradd", "--create-home", "--shell", "/bin/sh", "worker", check=True)
    for folder in {*Path(sys.base_prefix).parents, *Path(sys.prefix).parents}:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)  # the user has to come as far as the program
    shutil.copy("/usr/bin/id", "/usr/local/bin/setgid-id")
    run("chgrp", "mail", "/usr/local/bin/setgid-id", check=True)
    Path("/usr/local/bin/setgid-id").chmod(0o2755)
    (CONFIG.parent / "jobs.toml").write_text(JOBS)
    (CONFIG.parent / "can.sh").write_text(CAN)
    out = run(TIDEMILL, "systemd", "install", "--jobs", "worker")
    verified = run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/tidemill-jobs.service")
    systemctl("daemon-reload")
    done = systemctl("start", "tidemill-jobs")
    state = Path("/var/lib/tidemill-jobs")
    seen = {
        **done,
        "install": [out.stdout, out.stderr],
        "verify": verified.stderr,
        "own_mounts": str(Path("/proc/self/ns/mnt").readlink()),
        "can": finished("can", state),
        "contained": finished("contained", state),
        "shown": run("journalctl", "--unit=tidemill-jobs", "--no-pager", "--output=cat").stdout.splitlines(),
    }
    seen["stop"] = systemctl("stop", "tidemill-jobs")
    return seen


def service_of_one_s_own() -> dict[str, Any]:
    """The user of the step before, with a systemd of the user's own."""
    uid = run("id", "-u", "worker").stdout.strip()
    systemctl("start", f"user@{uid}.service")
    environ = ["env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/worker"]

    def as_user(*words: str) -> dict[str, Any]:
        done = run("runuser", "-u", "worker", "--", *environ, *words)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    own = JOBS.split("[deployments.contained]", maxsplit=1)[0]
    config = "/home/worker/.config/tidemill/tidemill.toml"
    as_user("sh", "-c", f"mkdir -p $(dirname {config}); cat > {config} <<'END'\n{own}END")
    return {
        "install": as_user(TIDEMILL, "systemd", "install", "--user"),
        "load": as_user("systemctl", "--user", "daemon-reload"),
        "start": as_user("systemctl", "--user", "enable", "--now", "tidemill"),
        "run": as_user(TIDEMILL, "deployment", "run", "can", "--watch"),
        "status": as_user("systemctl", "--user", "show", "tidemill", "--property=ActiveState,StatusText"),
        "entries": journal("TIDEMILL_DEPLOYMENT=can", f"_UID={uid}", "_SYSTEMD_USER_UNIT=tidemill.service"),
        "stop": as_user("systemctl", "--user", "stop", "tidemill"),
    }


STEPS = (
    installed,
    started,
    told_secrets,
    confined,
    reloaded,
    broken_edit,
    broken_at_boot,
    stopped,
    killed,
    frozen,
    broken_from_the_start,
    jobs_of_a_user,
    service_of_one_s_own,
)


def main(out: Path) -> None:
    """Take every step; a step that fails is told, and the later ones are taken all the same."""
    seen: dict[str, Any] = {}
    for step in STEPS:
        began = time.monotonic()
        try:
            seen[step.__name__] = step()
        except BaseException:
            seen[step.__name__] = {"failed": traceback.format_exc()}
        seen[step.__name__]["took_s"] = round(time.monotonic() - began, 2)
        (out / "seen.json").write_text(json.dumps(seen, indent=1))
    (out / "journal").write_text(run("journalctl", "--no-pager", "--output=short-precise").stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
