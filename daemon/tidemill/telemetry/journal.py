"""The journal's native protocol: each event is one entry, with fields that ``journalctl KEY=value`` finds.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL: a datagram of ``KEY=value`` lines, or of a key, a length and any bytes; what
is too large for a datagram goes as a sealed memory file.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from tidemill.systemd import priority
from tidemill.telemetry.entries import Entry
from tidemill.telemetry.formats import Format, one_line, rfc3339
from tidemill.telemetry.sink import LIMIT_BYTES, DescriptorSink

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "tidemill"
PREFIX = "TIDEMILL_"
# A name may have 64 characters: upper case, digits and underscores.
_LONGEST_NAME = 64 - len(PREFIX)
_NO_NAME = re.compile(r"[^A-Z0-9_]")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class JournalForm:
    """An entry as a line of JSON with the journal's fields: what :class:`JournalSink` takes.

    A line, so that secrets are looked for in it as in every other form. ``MESSAGE`` is the line of another form.
    """

    def __init__(self, message: Format) -> None:
        self._message = message
        self._encoder = msgspec.json.Encoder()
        self._names: dict[str, str] = {}

    def __call__(self, entry: Entry) -> str:
        fields: dict[str, str | list[str]] = {
            "MESSAGE": self._message(entry),
            "PRIORITY": str(priority(entry.level)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "TIDEMILL_SUBJECT": one_line(entry.subject),
        }
        for key, value in entry.fields.items():
            if value is not None:
                # A field may have several values; each is found.
                several = isinstance(value, list | tuple | set | frozenset)
                fields[self._name(key)] = [_text(each) for each in value] if several else _text(value)
        if entry.error is not None:
            fields["TIDEMILL_ERROR"] = one_line(entry.error)
        if entry.traceback is not None:
            fields["TIDEMILL_TRACEBACK"] = entry.traceback.encode(errors="backslashreplace").decode()
        return self._encoder.encode(fields).decode()

    def _name(self, key: str) -> str:
        name = self._names.get(key)
        if name is None:
            name = PREFIX + _NO_NAME.sub("_", key.upper())[:_LONGEST_NAME]
            if len(self._names) < 1000:  # keys are the program's own, but nothing here grows without bound
                self._names[key] = name
        return name


def _text(value: object) -> str:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return rfc3339(value)
    return one_line(str(value))


def datagram(fields: Mapping[str, str | list[str]]) -> bytes:
    """Return an entry's fields as the journal reads them."""
    parts: list[bytes] = []
    for name, value in fields.items():
        for each in [value] if isinstance(value, str) else value:
            data = each.encode(errors="backslashreplace")
            if b"\n" in data:
                parts += [name.encode(), b"\n", struct.pack("<Q", len(data)), data, b"\n"]
            else:
                parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


class JournalSink(DescriptorSink):
    """Sends lines of :class:`JournalForm` to the journal's socket, from a thread of its own.

    Where the journal does not take an entry (it is being restarted), its message goes to ``descriptor`` with its
    priority, which systemd keeps open over that.
    """

    def __init__(
        self, descriptor: int, *, notice: Callable[[int], str], path: Path = SOCKET, limit: int = 4 * LIMIT_BYTES
    ) -> None:
        super().__init__(descriptor, notice=notice, limit=limit)
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._decoder = msgspec.json.Decoder(dict[str, str | list[str]])

    def close(self, timeout_s: float = 2.0) -> None:
        super().close(timeout_s)
        self._socket.close()

    def _put(self, data: bytes) -> bool:
        well = True
        for line in filter(None, data.split(b"\n")):
            fields = self._decoder.decode(line)
            if not self._send(datagram(fields)):
                well &= super()._put(f"<{fields['PRIORITY']}>{fields['MESSAGE']}\n".encode(errors="backslashreplace"))
        return well

    def _send(self, entry: bytes) -> bool:
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno in {errno.EMSGSIZE, errno.ENOBUFS}:
                return self._send_file(entry)
            return False
        return True

    def _send_file(self, entry: bytes) -> bool:
        try:
            descriptor = os.memfd_create("tidemill-journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        try:
            with memoryview(entry) as left:
                done = 0
                while done < len(entry):
                    done += os.write(descriptor, left[done:])
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            self._socket.sendmsg([b""], [rights], 0, self._path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True
