"""What of an instance's user-data has run: each step durably begun before it starts, and ended after.

`/var/lib/csagent/user-data/ID/record`: one JSON object a line, appended and synced. A last line that a power
cut has torn is passed over: what it would have said has not happened, or not ended. Lines are read back in
their order, the later one counts.

    {"schema": 1, "document": SHA256, "at": SECONDS}                 this document runs from here on
    {"step": ID, "state": "begun", "boot": BOOT, "at": SECONDS}
    {"step": ID, "state": "done" | "failed" | "shown", "boot": BOOT, "at": SECONDS, "exit": 3 | null,
     "reason": "...", "warnings": ["..."], "count": [1, 3] | null}

`/run/csagent/user-data.json` is what everybody may read of it: the states, nothing of the document.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import contextmanager, suppress

from csagent.errors import ApplyError, CsagentError, Distrusted
from csagent.state.status_files import USER_DATA as PUBLISHED
from csagent.system import json_limits
from csagent.system.files import sign, write_all

TYPE_CHECKING = False  # status reads this, and does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, Optional, Tuple

    from csagent.system.seams import System

METRICS = "/run/csagent/csagent-user-data.prom"
STATE = "/var/lib/csagent"
FOLDER = f"{STATE}/user-data"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
LOCK = f"{FOLDER}/lock"
MACHINE = "machine"  # the folder of what is done once per machine, whatever the instance
BY_HAND = "by-hand"
SCHEMA = 1
SIZE_LIMIT = 16 << 20
COMPACT_FROM = 256 << 10  # bytes: some hundred boots of a document that runs something at each
REASON_LIMIT = 500

BEGUN, DONE, FAILED, SHOWN = "begun", "done", "failed", "shown"
INTERRUPTED = "interrupted"


class StepState:
    """What is known of one step."""

    __slots__ = ("at", "boot", "count", "exit", "reason", "state", "warnings")

    def __init__(
        self,
        state: str,
        boot: str = "",
        at: float = 0.0,
        exit: Optional[int] = None,
        reason: str = "",
        warnings: Tuple[str, ...] = (),
        count: Optional[Tuple[int, int]] = None,
    ) -> None:
        self.state = state
        self.boot = boot
        self.at = at
        self.exit = exit
        self.reason = reason
        self.warnings = warnings
        self.count = count


class Record:
    """The record of one instance. `document` is the sha256 of the document that it is about, "" for none.

    Args:
        system: whose state directory.
        folder: of the instance (`folder_of`).
    """

    def __init__(self, system: "System", folder: str) -> None:
        self._system = system
        self.folder = folder
        self._path = f"{folder}/record"
        self.boot = (system.tree.read_text(BOOT_ID, 64) or "").strip() if system.live else "tree"
        self.document = ""
        self.steps: Dict[str, StepState] = {}
        self.note = ""
        self._read()

    def _read(self) -> None:
        from csagent.system import trusted_path

        try:
            raw = trusted_path.read_own(self._system, STATE, self._path, SIZE_LIMIT)
        except FileNotFoundError:
            return
        except Distrusted as error:
            raise ApplyError(str(error)) from None
        except OSError as error:
            raise ApplyError(f"cannot read {self._system.tree.shown(self._path)}: {error.strerror}") from None
        for line in raw.split(b"\n"):
            try:
                entry = json_limits.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                self._take(entry)

    def _take(self, entry: Dict[str, Any]) -> None:
        if isinstance(entry.get("document"), str):
            self.document = entry["document"]
            self.steps = {}
        elif isinstance(entry.get("step"), str) and entry.get("state") in (BEGUN, DONE, FAILED, SHOWN):
            at, exit_code, count = entry.get("at"), entry.get("exit"), entry.get("count")
            warnings = entry.get("warnings")
            self.steps[entry["step"]] = StepState(
                entry["state"],
                str(entry.get("boot", "")),
                float(at) if isinstance(at, (int, float)) else 0.0,
                exit_code if isinstance(exit_code, int) else None,
                str(entry.get("reason") or "")[:REASON_LIMIT],
                tuple(str(one)[:REASON_LIMIT] for one in warnings) if isinstance(warnings, list) else (),
                (count[0], count[1]) if isinstance(count, list) and len(count) == 2 else None,
            )

    def start(self, document: str) -> None:
        """From here on the record is about this document. Raises: ApplyError."""
        self.document, self.steps = document, {}
        self._append({"schema": SCHEMA, "document": document, "at": self._now()})

    def compact(self) -> None:
        """Where earlier boots have left many lines, write what counts of them anew. Raises: ApplyError."""
        tree = self._system.tree
        status = tree.stat(self._path)
        if status is None or status.st_size <= COMPACT_FROM:
            return
        lines = [{"schema": SCHEMA, "document": self.document, "at": self._now()}]
        lines += [_entry(step, state) for step, state in self.steps.items()]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        if 2 * len(text) > status.st_size:
            return
        try:
            tree.write(self._path, text.encode(), 0o600)
        except OSError as error:
            raise ApplyError(f"cannot write {tree.shown(self._path)}: {error.strerror}") from None

    def begin(self, step: str) -> None:
        """The step is about to start. Raises: ApplyError; it must not start then."""
        self.steps[step] = StepState(BEGUN, self.boot, self._now())
        self._append(_entry(step, self.steps[step]))

    def end(self, step: str, state: StepState) -> None:
        """The step has ended. Raises: ApplyError."""
        state.boot, state.at = self.boot, self._now()
        state.reason = state.reason[:REASON_LIMIT]
        self.steps[step] = state
        self._append(_entry(step, state))

    def _now(self) -> float:
        return round(self._system.clock.now(), 3)

    def _append(self, entry: Dict[str, Any]) -> None:
        tree = self._system.tree
        try:
            is_new = not tree.exists(self._path)
            make_folder(self._system, self.folder)
            descriptor = tree.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A torn line before it must not take this one with it.
                write_all(descriptor, b"\n" + json.dumps(entry).encode() + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                tree.sync(self._path)
        except OSError as error:
            raise ApplyError(f"cannot write {tree.shown(self._path)}: {error.strerror}") from None


def _entry(step: str, state: StepState) -> Dict[str, Any]:
    """A step as a line of the record has it."""
    entry: Dict[str, Any] = {"step": step, "state": state.state, "boot": state.boot, "at": state.at}
    if state.state == BEGUN:
        return entry
    count = list(state.count) if state.count else None
    return {
        **entry,
        "exit": state.exit,
        "reason": state.reason,
        "warnings": list(state.warnings),
        "count": count,
    }


def folder_of(instance_id: str, *, by_hand: bool = False) -> str:
    """Where an instance's record, scripts and includes are kept; those of documents run by hand apart."""
    name = "".join(char if char.isalnum() or char in "-_" else "_" for char in instance_id)[:128]
    return f"{FOLDER}/{BY_HAND}/{name}" if by_hand else f"{FOLDER}/{name}"


def make_folder(system: "System", path: str) -> None:
    """A directory below `STATE`, it and all between them for root only. Raises: OSError."""
    from csagent.system import trusted_path

    names = path[len(STATE) :].split("/")
    for depth in range(1, len(names) + 1):
        system.tree.mkdir(STATE + "/".join(names[:depth]), 0o700)
    try:
        os.close(trusted_path.open_own(system, STATE, path))
    except Distrusted as error:
        raise OSError(errno.EPERM, str(error)) from None


@contextmanager
def locked(system: "System", say: Callable[[str], None]) -> Iterator[None]:
    """One run at a time; another one is waited for, however long it takes, and `say` is told so.

    Raises:
        CsagentError: the lock cannot be made, or the other run waits for this one's end.
    """
    from csagent.system import trusted_path

    trusted_path.close_own(system, STATE)
    try:
        descriptor = _open_lock(system)
    except OSError as error:
        hint = "; this needs root" if os.geteuid() != 0 else ""
        raise CsagentError(f"cannot open {system.tree.shown(LOCK)}: {error.strerror}{hint}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_ancestor(os.pread(descriptor, 20, 0)):
                raise CsagentError(
                    "this was started by a run of user-data, which waits for its end and runs the rest itself"
                ) from None
            say("another run of user-data is under way: waiting for its end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        sign(descriptor, b"%d\n" % os.getpid())
        try:
            yield
        finally:
            sign(descriptor, b"")
    finally:
        os.close(descriptor)


def _open_lock(system: "System") -> int:
    make_folder(system, FOLDER)
    return system.tree.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)


def _is_ancestor(holder: bytes) -> bool:
    """Whether the process that holds the lock, by what it has written there, has started this one."""
    pid = os.getpid()
    while pid > 1:
        if holder.strip() == b"%d" % pid:
            return True
        try:
            with open(f"/proc/{pid}/stat", "rb") as stream:
                pid = int(stream.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError):
            return False
    return False


@contextmanager
def kept_off(system: "System") -> Iterator[None]:
    """Nobody begins a run meanwhile; one that is under way goes on (`running`)."""
    try:
        descriptor = _open_lock(system)
    except OSError:  # nor can a run make it
        yield
        return
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def running(system: "System") -> bool:
    """Whether a run holds the lock now."""
    try:
        descriptor = system.tree.open(LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def publish(system: "System", document: Dict[str, Any]) -> None:
    """Replace what everybody may read; a /run that is full or read-only does not stop user-data."""
    try:
        system.tree.mkdir(os.path.dirname(PUBLISHED), 0o755, durable=False)
        system.tree.write(PUBLISHED, json.dumps(document, indent=1).encode() + b"\n", 0o644, durable=False)
        if document.get("by_hand") is not True:
            from csagent.state import metrics

            text = metrics.user_data_as_text(document, round(system.clock.now(), 3))
            system.tree.write(METRICS, text, 0o644, durable=False)
    except OSError:
        pass


def published(system: "System") -> Optional[Dict[str, Any]]:
    """What a run has published since the machine was started; None where there is nothing to read."""
    try:
        document = json_limits.loads(system.tree.read(PUBLISHED, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
