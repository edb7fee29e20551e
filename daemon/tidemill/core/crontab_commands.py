"""What people write into crontabs because cron cannot do it: locks, time limits, random sleeps. Here they are found."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta

import msgspec

from tidemill.durations import MAX_DURATION

# A word of the shell with its quotes. Substitutions with blanks in them are no word: what has them is left alone.
_WORD = re.compile(r"""(?:[^\s'"\\;&|<>()`$]|\\.|'[^']*'|"(?:[^"\\`$]|\\.)*"|\$\w+|\$\{\w+\})+""")
_OPENERS = {"(": ")", "{": "}"}
# May stand before a command that a lock or a time limit is about, without being much of it.
_PREPARATIONS = frozenset({"cd", "test", "[", "export", "umask", ".", "source", "set"})
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

_SLEEPS = (
    re.compile(r"sleep\s+\$\(\(\s*\$?RANDOM\s*%\s*(?P<n>\d+)\s*\)\)(?P<unit>[smh]?)"),
    re.compile(r"sleep\s+\$\[\s*\$?RANDOM\s*%\s*(?P<n>\d+)\s*\](?P<unit>[smh]?)"),
    re.compile(r"sleep\s+(?:\$\(|`)\s*shuf\s+-i\s*[01]-(?P<n>\d+)\s+-n\s*1\s*(?:\)|`)(?P<unit>[smh]?)"),
    re.compile(r"perl\s+-e\s+(['\"])sleep\s+int\(?\s*rand\(?\s*(?P<n>\d+)\s*\)*;?\1(?P<unit>)"),
    re.compile(
        r"python3?\s+-c\s+(['\"])import random; ?import time; ?"
        r"time\.sleep\(random\.random\(\) ?\* ?(?P<n>\d+)\)\1(?P<unit>)"
    ),
)


class Clause(msgspec.Struct, frozen=True):
    """One command of a list, and what stands behind it: ``&&``, ``||``, ``;``, ``&``, ``|``, a newline or nothing."""

    text: str
    operator: str


class Found(msgspec.Struct, kw_only=True):
    """A command without what tidemill does itself, and what that was."""

    command: str
    lock: str | None = None  # the file of flock
    lock_waits: bool = False  # False: flock -n, so who finds it taken leaves
    timeout: timedelta | None = None
    jitter: timedelta | None = None
    uses_random: bool = False  # $RANDOM, which only bash and the like know
    remarks: list[str] = msgspec.field(default_factory=list)

    @property
    def is_list(self) -> bool:
        """Whether it is more than one command, so that ending at the first failure would change it."""
        return any(clause.operator in (";", "&", "\n") for clause in clauses(self.command))


def look(command: str) -> Found:
    """Take a command apart as far as that is safe: what is not understood stays as it is, and works as it did."""
    found = Found(command=command)
    _take_sleep(found)
    while _take_lock(found) or _take_timeout(found):
        pass
    return found


def clauses(command: str) -> list[Clause]:
    """Cut a command at the operators that stand outside of quotes and brackets."""
    found: list[Clause] = []
    depth: list[str] = []
    begin = at = 0
    while at < len(command):
        sign = command[at]
        if sign == "\\":
            at += 2
            continue
        if sign == "'" or (sign in '"`' and sign not in depth):
            end = _end_of_quote(command, at)
            at = end + 1
            continue
        if sign in _OPENERS and (sign == "(" or command[at - 1 : at] == "$"):
            depth.append(_OPENERS[sign])
        elif depth and sign == depth[-1]:
            depth.pop()
        elif not depth:
            operator = next((each for each in ("&&", "||", ";", "|", "\n") if command.startswith(each, at)), "")
            if (
                not operator
                and sign == "&"
                and command[at - 1 : at] not in (">", "<")
                and command[at + 1 : at + 2] != ">"
            ):
                operator = "&"
            if operator:
                found.append(Clause(command[begin:at].strip(), operator))
                at += len(operator)
                begin = at
                continue
        at += 1
    if command[begin:].strip():
        found.append(Clause(command[begin:].strip(), ""))
    return found


def _end_of_quote(text: str, at: int) -> int:
    quote = text[at]
    end = at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" and quote != "'" else 1
    return end


def joined(parts: list[Clause]) -> str:
    """Return a list of commands as text."""
    text = ""
    for number, clause in enumerate(parts):
        text += clause.text
        if clause.operator and (number < len(parts) - 1 or clause.operator == "&"):
            text += f"{clause.operator} " if clause.operator == ";" else f" {clause.operator} "
    return text.strip()


def _take_sleep(found: Found) -> None:
    parts = clauses(found.command)
    for number, clause in enumerate(parts[:-1]):
        before = parts[number - 1].operator if number else ";"
        match = next((match for each in _SLEEPS if (match := each.fullmatch(clause.text))), None)
        if match is None or clause.operator not in ("&&", ";") or before not in ("&&", ";"):
            continue
        lasts = timedelta(seconds=int(match["n"]) * _SECONDS[match["unit"]])
        if not timedelta(0) < lasts <= MAX_DURATION:
            continue
        found.jitter = lasts
        found.uses_random = "RANDOM" in clause.text
        found.command = joined(parts[:number] + parts[number + 1 :])
        return


def _only_command(found: Found, program: str) -> tuple[list[Clause], str] | None:
    """Return what stands before a call of ``program``, and its arguments, where nothing else is done."""
    parts = clauses(found.command)
    if not parts or parts[-1].operator:
        return None
    *before, last = parts
    for clause in before:
        first = clause.text.split(None, 1)[0] if clause.text else ""
        if first not in _PREPARATIONS or clause.operator not in ("&&", ";"):
            return None
    words = last.text.split(None, 1)
    if len(words) < 2 or words[0].rpartition("/")[2] != program:
        return None
    return before, words[1]


def _take_lock(found: Found) -> bool:
    taken = _only_command(found, "flock") if found.lock is None else None
    if taken is None:
        return False
    before, text = taken
    waits, at = True, 0
    while (word := _word(text, at)) is not None:
        plain, at = word
        if plain in ("-n", "--nb", "--nonblock", "--nonblocking", "-xn", "-nx", "-en", "-ne"):
            waits = False
        elif plain in ("-E", "--conflict-exit-code"):
            skipped = _word(text, at)
            if skipped is None:
                return False
            at = skipped[1]
        elif plain.startswith("-") and plain not in (
            "-x",
            "-e",
            "--exclusive",
            "-o",
            "--close",
            "-F",
            "--no-fork",
            "--verbose",
        ):
            return False  # shared locks, waiting for a while: those only flock itself can do
        elif not plain.startswith("-"):
            command = _command_behind(text[at:].strip())
            if command is None or plain.isdigit():  # an open file's number
                return False
            found.lock, found.lock_waits = plain, waits
            found.command = joined([*before, Clause(command, "")])
            return True
    return False


def _command_behind(text: str) -> str | None:
    """Return the command behind flock's file: the rest of the line, or the text after ``-c``."""
    if not text:
        return None
    option = _word(text, 0)
    if option is not None and option[0] in ("-c", "--command"):
        word = _word(text, option[1])
        return None if word is None else " ".join([word[0], text[word[1] :].strip()]).strip()
    return None if text.startswith("-") else text


def _take_timeout(found: Found) -> bool:
    taken = _only_command(found, "timeout") if found.timeout is None else None
    if taken is None:
        return False
    before, text = taken
    at = 0
    while (word := _word(text, at)) is not None:
        plain, at = word
        if plain in ("-k", "--kill-after", "-s", "--signal"):
            argument = _word(text, at)
            if argument is None or (plain in ("-s", "--signal") and not _is_term(argument[0])):
                return False
            at = argument[1]
        elif plain.startswith("--signal=") and not _is_term(plain.partition("=")[2]):
            return False
        elif not plain.startswith("-"):
            lasts = _lasts(plain)
            command = text[at:].strip()
            if lasts is None or not command:
                return False
            found.timeout = lasts
            found.command = joined([*before, Clause(command, "")])
            return True
        elif not plain.startswith(("--kill-after=", "-k", "--signal=", "--foreground", "--preserve-status", "-v")):
            return False
    return False


def _is_term(signal: str) -> bool:
    return signal.upper().removeprefix("SIG") in ("TERM", "15")


def _lasts(text: str) -> timedelta | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        return None
    seconds = float(match[1]) * _SECONDS[match[2]]
    return timedelta(seconds=seconds) if 0 < seconds <= MAX_DURATION.total_seconds() else None


def _word(text: str, at: int) -> tuple[str, int] | None:
    """Return the shell's next word, without its quotes, and where it ends; None: there is none that is plain."""
    while at < len(text) and text[at].isspace():
        at += 1
    match = _WORD.match(text, at)
    if match is None:
        return None
    try:
        (plain,) = shlex.split(match[0])
    except ValueError:
        return None
    return plain, match.end()


_INTERPRETERS = frozenset("sh bash dash zsh ksh python python2 python3 perl php ruby node nodejs java".split())
_WRAPPERS = frozenset(
    "nice ionice chronic cronic env sudo setsid nohup time exec command stdbuf taskset chrt run-parts".split()
)
_BEFORE_COMMANDS = frozenset("then do else { ( !".split())
_NO_COMMANDS = _PREPARATIONS | frozenset("if elif [[ while until for case fi done esac } ) :".split())


def name_of(command: str) -> str:
    """Return a name for what a command runs: that of its main program or script, as a deployment may be called."""
    lists = [words for clause in clauses(command) if (words := _of_program(clause.text))]
    plain, name = "", ""
    for word in lists[0] if lists else ():
        plain, before = word.strip("\"'`()"), plain
        if before == "-u" or plain.startswith("-") or "=" in plain.split("/")[0] or plain.isdigit():  # sudo -u USER
            continue
        base = plain.rpartition("/")[2]
        if base in _WRAPPERS or base in _INTERPRETERS:
            name = name or base
            continue
        if plain[:1] not in tuple("<>|&$"):
            name = base or name
        break
    name = re.sub(r"\.(sh|py|pl|php|rb|js|jar|bash)$", "", name).lower()
    return re.sub(r"[^a-z0-9_-]+", "-", name).strip("-_")[:48].strip("-_") or "job"


def _of_program(clause: str) -> list[str]:
    """Return the words of a command, those of the shell's own grammar left out; nothing where it only prepares."""
    words = clause.split()
    while words and words[0] in _BEFORE_COMMANDS:
        del words[0]
    looks_for = words[:2] in (["command", "-v"], ["command", "-V"])
    return [] if not words or words[0] in _NO_COMMANDS or looks_for else words


def depends_on_test(command: str) -> bool:
    """Say whether a command ends with 1 where there is nothing to do: ``[ -x /x ] && /x``."""
    parts = clauses(command)
    first = parts[0].text.split()[:2] if parts else []
    tests = first[:1] in (["["], ["[["], ["test"]) or first in (["command", "-v"], ["which"])
    return tests and all(clause.operator in ("&&", "") for clause in parts) and len(parts) > 1
