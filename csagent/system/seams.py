"""The four seams through which csagent touches the world: files, clock, processes, sockets.

They are passed in, never patched. `System.at(root)` is the running system for ``/`` and a tree
(a mounted image, a test, a support bundle) for anything else; where such a tree holds
``recorded.json``, the clock and the output of commands come from it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional, Sequence, Tuple

from csagent.errors import UsageError
from csagent.system.tree import READ_LIMIT, Tree

if TYPE_CHECKING:
    import subprocess

    from csagent.model import Endpoint
    from csagent.system.sockets import DeadlineSocket

RECORDED_LIMIT = 1 << 20
LATEST = 1e11  # seconds since 1970, the year 5138
ERROR_LIMIT = 4096  # bytes kept of what a command says on its standard error
PIECE = 65536
LOOK = 0.5  # seconds between two looks whether a silent command has ended
REAP_SECONDS = 2.0  # for one that was killed
# The distribution's own first: in /usr/local others than root may write (Debian's group staff does).
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


class Clock:
    """Wall clock for what is written down, monotonic clock for every wait."""

    slowness = 1.0  # times that things take here as long as elsewhere; a child that asks others measures it

    def stretched(self, seconds: float) -> float:
        """Seconds to wait for another, who would be waited for `seconds` on a machine that is not starved."""
        return seconds * self.slowness

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, never going back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for that many seconds."""
        time.sleep(max(0.0, seconds))


class RecordedClock(Clock):
    """The wall clock of a recorded tree; waiting is real."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now


class Completed(NamedTuple):
    """How a command ended. `code` is None where it is not installed or did not end in time."""

    code: Optional[int]
    output: bytes
    error: bytes

    @property
    def said(self) -> str:
        """What it said on its standard error, or why it did not end."""
        return self.error.decode("utf-8", "replace").strip()


NOT_INSTALLED = Completed(None, b"", b"not installed")


class Runner:
    """Runs the system's own commands: fixed search path, C locale, bounded output, a deadline.

    A command gets a session of its own, so that Ctrl-C on the console does not stop chpasswd half-way;
    inside a jail (`grouped`) it stays in the child's process group, so that both are killed together.
    """

    grouped = False

    def available(self, program: str) -> bool:
        """Whether the command is installed."""
        return any(
            os.access(os.path.join(directory, program), os.X_OK) for directory in SEARCH_PATH.split(":")
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 10.0,
        limit: int = READ_LIMIT,
    ) -> Completed:
        """Run a command to its end; `Completed` says how, nothing is raised.

        Its time-out is doubled as long as it is starved of processor time (`csagent.system.slowness`). A
        daemon that it leaves behind, and that keeps its output open (ifup's dhclient), is not waited for.
        Secrets go in through `stdin`, never through `argv`, and never come back in `error`.
        """
        import subprocess

        environment = {"PATH": SEARCH_PATH, "LC_ALL": "C", "LANG": "C"}
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                close_fds=True,
                start_new_session=not self.grouped,
                cwd="/",
            )
        except OSError as error:
            return Completed(None, b"", os.strerror(error.errno or 0).encode())
        try:
            output, problem = _converse(child, stdin, limit, timeout)
        except subprocess.TimeoutExpired:
            child.kill() if self.grouped else _kill_group(child.pid)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()  # not read to its end: something that left the group may hold it open
            try:
                child.wait(REAP_SECONDS)
            except subprocess.TimeoutExpired:
                pass  # it hangs in the kernel, on a dead disk say, and ends when that does
            return Completed(None, b"", f"no end after {timeout:g} s".encode())
        return Completed(child.returncode, output, problem)


def _converse(
    child: "subprocess.Popen[bytes]", stdin: bytes, limit: int, timeout: float
) -> Tuple[bytes, bytes]:
    """Feed a command and hear it to its end. What goes beyond the limits is thrown away, not kept.

    Raises:
        subprocess.TimeoutExpired: it has not ended by then.
    """
    import select
    import subprocess

    from csagent.system.slowness import Patience

    patience = Patience(child.pid, timeout, time.monotonic())
    unsaid = memoryview(stdin)
    streams = [stream for stream in (child.stdin, child.stdout, child.stderr) if stream is not None]
    talking, hearing = streams[:1], streams[1:]
    heard = {stream: bytearray() for stream in hearing}
    limits = dict(zip(hearing, (limit, ERROR_LIMIT)))
    os.set_blocking(talking[0].fileno(), False)
    while talking or hearing:
        if patience.over(time.monotonic()):
            raise subprocess.TimeoutExpired(child.args, timeout)
        left = max(0.0, patience.ends - time.monotonic())
        readable, writable, _ = select.select(hearing, talking, [], min(left, LOOK))
        if not readable and not writable and child.poll() is not None:
            readable = select.select(hearing, [], [], 0.0)[0]  # what it said last
            if not readable:
                break
        for stream in writable:
            try:
                unsaid = unsaid[os.write(stream.fileno(), unsaid[:PIECE]) :]
            except BrokenPipeError:
                unsaid = unsaid[:0]  # it does not want to hear more
            if not unsaid:
                talking.remove(stream)
                stream.close()
        for stream in readable:
            piece = os.read(stream.fileno(), PIECE)
            if not piece:
                hearing.remove(stream)
                stream.close()
            heard[stream] += piece[: limits[stream] - len(heard[stream])]
    for stream in (*talking, *hearing):
        stream.close()
    child.wait(max(0.0, patience.ends - time.monotonic()))
    output, problem = heard.values()
    return bytes(output), bytes(problem)


def _kill_group(pid: int) -> None:
    import signal

    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class RecordedRunner(Runner):
    """Answers from a recorded tree; a command that it does not list is not installed."""

    def __init__(self, tree: Tree, commands: Mapping[str, str]) -> None:
        self._tree = tree
        self.commands = commands  # a command line, and the file below the root with what it printed

    def available(self, program: str) -> bool:
        return any(line.split(" ", 1)[0] == program for line in self.commands)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 10.0,
        limit: int = READ_LIMIT,
    ) -> Completed:
        recorded = self.commands.get(" ".join(argv))
        if recorded is None:
            return NOT_INSTALLED
        try:
            return Completed(0, self._tree.read("/" + recorded, limit), b"")
        except OSError as error:
            return Completed(None, b"", str(error.strerror).encode())


class NoCommands(Runner):
    """A tree has no running services to ask: every command is "not installed"."""

    def available(self, program: str) -> bool:
        return False

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 10.0,
        limit: int = READ_LIMIT,
    ) -> Completed:
        return NOT_INSTALLED


class Dialer:
    """Opens TCP connections, each bound to its source address and NIC, under a monotonic deadline."""

    def connect(self, endpoint: "Endpoint", deadline: float) -> "DeadlineSocket":
        """Return a connected `DeadlineSocket`.

        Args:
            endpoint: its address is an IPv4 address; names are somebody else's business.
            deadline: moment on `time.monotonic()` after which every operation on it raises TimeoutError.

        Raises:
            OSError: as connect(2) says it; TimeoutError at the deadline.
        """
        from csagent.system.sockets import DeadlineSocket

        return DeadlineSocket.dial(endpoint, deadline)


class System(NamedTuple):
    """Everything outside of this process: files below a root, clock, commands and sockets."""

    tree: Tree = Tree()
    clock: Clock = Clock()
    runner: Runner = Runner()
    dialer: Dialer = Dialer()
    recorded: bool = False

    @property
    def live(self) -> bool:
        """Whether this is the running system, not a tree."""
        return self.tree.live

    @classmethod
    def at(cls, root: str = "/") -> "System":
        """The running system for ``/``, else the tree below `root`.

        Raises:
            UsageError: `root` is not a directory, or its recorded.json is malformed.
        """
        if not os.path.isdir(root):
            what = "is not a directory" if os.path.exists(root) else "no such directory"
            raise UsageError(f"--root {root or repr(root)}: {what}")
        tree = Tree(root)
        if tree.live:
            return cls(tree=tree)
        try:
            raw = tree.read("/recorded.json", RECORDED_LIMIT + 1)
        except FileNotFoundError:
            return cls(tree=tree, runner=NoCommands())
        except OSError as error:
            raise UsageError(f"{tree.shown('/recorded.json')}: {error.strerror}") from None
        now, commands = _parse_recorded(raw, tree.shown("/recorded.json"))
        return cls(
            tree=tree,
            clock=RecordedClock(now),
            runner=RecordedRunner(tree, commands),
            recorded=True,
        )


def _parse_recorded(raw: bytes, shown: str) -> Tuple[float, Mapping[str, str]]:
    if len(raw) > RECORDED_LIMIT:
        raise UsageError(f"{shown}: larger than {RECORDED_LIMIT} bytes, not a recording of ours")
    from csagent.system import json_limits

    try:
        document = json_limits.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown}: not JSON ({type(error).__name__})") from None
    now = document.get("now") if isinstance(document, dict) else None
    commands = document.get("commands", {}) if isinstance(document, dict) else None
    if isinstance(now, bool) or not isinstance(now, (int, float)) or not isinstance(commands, dict):
        raise UsageError(f'{shown}: needs "now" (a number) and "commands" (an object)')
    if not 0 <= now < LATEST:
        raise UsageError(f'{shown}: "now" is not a time in seconds since 1970')
    if not all(isinstance(name, str) for name in commands.values()):
        raise UsageError(f'{shown}: "commands" maps a command line to the file with its output')
    return float(now), commands
