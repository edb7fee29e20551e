"""A machine with a systemd of its own, booted for a test and gone with it: ``from nspawn import boot, missing``.

The root is an overlay over this machine's, in memory; nothing outside sees its mounts or is changed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("systemd", "systemd-container", "dbus")
PROGRAMS = ("systemd-nspawn", "systemd-analyze", "systemctl", "dbus-daemon", "unshare", "mount")
# What the machine does not need, and what might hold it up.
MASKED = (
    "timers.target",
    "systemd-networkd-wait-online.service",
    "NetworkManager-wait-online.service",
    "systemd-timesyncd.service",
)
TARGET = """\
[Unit]
Requires=basic.target dbus.service test.service
After=basic.target
AllowIsolate=yes
"""
SERVICE = """\
[Unit]
After=basic.target dbus.service
[Service]
Type=oneshot
ExecStart={python} {script} {out}
StandardOutput=file:{out}/stdout
StandardError=file:{out}/stderr
TimeoutStartSec={deadline_s}
ExecStopPost=/bin/systemctl poweroff --force
"""
PREPARE = """\
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay overlay -o lowerdir=/,upperdir={place}/upper,workdir={place}/work {place}/root
cp {files}/test.* {place}/root/etc/systemd/system/
for unit in {masked}; do ln -sfn /dev/null {place}/root/etc/systemd/system/$unit; done
exec {nspawn}
"""


def missing() -> str | None:
    """Say why no machine can be booted here; None: one can be, as far as can be seen before."""
    if os.geteuid() != 0:
        return "booting a systemd (systemd-nspawn) needs root"
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"booting a systemd needs {', '.join(absent)}: apt-get install {' '.join(PACKAGES)}"
    return None


class BootError(Exception):
    """The machine did not come up: it is not allowed here, or the script never began. The text is what it said."""


def boot(folder: Path, script: Path, *, deadline_s: float) -> Path:
    """Boot a machine that runs ``script`` as root and powers off; return the folder that it has written to.

    The script is run by this very Python, with that folder as its one argument. Raises BootError.
    """
    place, files, out = folder / "machine", folder / "files", folder / "out"
    for each in (place, files, out):
        each.mkdir()
    (files / "test.target").write_text(TARGET)
    inside = "/out"
    (files / "test.service").write_text(
        SERVICE.format(python=sys.executable, script=script, out=inside, deadline_s=deadline_s)
    )
    nspawn = ["systemd-nspawn", f"--directory={place}/root", "--boot", "--private-network", "--register=no"]
    nspawn += ["--keep-unit", "--settings=no", f"--machine=tidemill-{os.getpid()}", f"--bind={out}:{inside}"]
    # These may lie on other file systems, which the overlay does not show.
    shown = dict.fromkeys(map(str, (ROOT, Path(sys.prefix), Path(sys.base_prefix))))
    nspawn += [f"--bind-ro={path}" for path in shown if path != "/usr"]
    nspawn += ["--", "systemd.unit=test.target", "systemd.show_status=yes", "systemd.log_target=journal"]
    prepare = PREPARE.format(place=place, files=files, masked=" ".join(MASKED), nspawn=shlex.join(nspawn))
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=deadline_s + 30,
    )
    if not (out / "stdout").exists():
        raise BootError(f"exit {done.returncode}: {(done.stderr + done.stdout).strip()[-1500:]}")
    return out
