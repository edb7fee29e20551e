"""What inside_systemd.py finds on its machine: configurations, flows, and what their jobs try."""

from __future__ import annotations

import sys

SECRET = "correct-horse-battery"

GOOD = """
[daemon]
grace_period = "10s"
[api]
listen = []

[deployments.tick]
command = "true"
interval = "1s"

[deployments.secret]
command = "printf '%s' \\"$TOKEN\\" | sha256sum; echo leak: $TOKEN"
env = { TOKEN = { credential = "api-token" } }

[deployments.sandbox]
command = "sh /etc/tidemill/sandbox.sh"

[deployments.child]
flow = "machine.py:child"
work_pool = "process"
memory_limit = "512MiB"

[deployments.freeze]
flow = "machine.py:freeze"

[deployments.long]
command = "sleep 7654"

[deployments.slow]
command = "sleep 2; echo it is done"
"""
FLOWS = '''
import ctypes, mmap, os, time
from tidemill import flow

@flow
def child():
    """What a process run may do in the sandbox."""
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        jit = True
    except OSError:
        jit = False
    print(f"jit {jit}")
    print(open("/proc/self/cgroup").read())

@flow
async def freeze():
    time.sleep(3600)  # never comes to an await
'''
# Where the service's user may make a file, other than in places that only it sees.
SANDBOX = """
echo "user $(id -un) $(id -Gn)"
grep -E '^(NoNewPrivs|CapEff|Seccomp|Umask):' /proc/self/status
for each in / /etc/tidemill /usr/local/bin /var/log /var/lib /var/lib/tidemill /var/cache /var/tmp /tmp /srv /opt \\
    /root /home /run /run/tidemill /dev /dev/shm /sys/fs/cgroup /proc/sys/kernel; do
    if touch "$each/.probe" 2>/dev/null; then echo "wrote $each"; fi
done
echo "processes $(ls /proc | grep -c '^[0-9]')"
echo "of root $(find /proc -maxdepth 1 -user root -name '[0-9]*' 2>/dev/null | wc -l)"
"""


JOBS = """
[api]
listen = []
[deployments.can]
command = "sh /etc/tidemill/can.sh"
[deployments.contained]
flow = "machine.py:child"
work_pool = "process"
"""
# What a job of a user's crontab could do.
CAN = f"""
echo "user $(id -un)"
echo "folder $(pwd)"
echo "umask $(umask)"
grep NoNewPrivs: /proc/self/status
echo "group of a setgid program: $(/usr/local/bin/setgid-id -gn)"
echo "mounts $(readlink /proc/self/ns/mnt)"
touch "$HOME/made" && echo "made $(stat -c %a "$HOME/made")"
{sys.executable} -c 'import mmap; mmap.mmap(-1, 4096, prot=7); print("made code")'
"""
