"""Run a function in a child that has lost its rights, with limits and a deadline.

The child starts as a fork, so nothing is imported or executed anew. It runs in two steps:

- `prepare()`, with the rights of the parent: open the few files and devices that need root, and import
  whatever will be needed (a checkout or a virtual environment may be unreadable afterwards);
  Then it says that it is ready, and knows how slow this machine is (`csagent.system.slowness`);
- `work(prepared, say)`, after everything is gone: user, groups, capabilities, the right to gain any
  (PR_SET_NO_NEW_PRIVS), core dumps, and most of CPU, memory, files and processes (setrlimit(2)).

It answers with JSON documents, one a line, of a bounded size in all; `say` sends one ahead of the end.
What comes back is only as trustworthy as an attacker's own text: `csagent.sandbox.codec` checks each field.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from csagent.errors import CsagentError, JailError, JailTimeout
from csagent.sandbox.child import READY, Child
from csagent.system import accounts, child_process
from csagent.system.child_process import fork
from csagent.system.process import PR_SET_DUMPABLE, die_with, open_nothing
from csagent.system.slowness import slowness
from csagent.system.systemd import SIGNALS

if TYPE_CHECKING:
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

Send = Callable[[Any], None]

MIB = 1 << 20
ACCOUNT = "csagent"
NOBODY = accounts.NOBODY
PROCESSES_LIMIT = 1 << 22  # the kernel's own, PID_MAX_LIMIT (linux/threads.h)

# linux/prctl.h and linux/capability.h
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522
M_ARENA_MAX = -8  # malloc.h


class Limits(NamedTuple):
    """What a child may use. There to stop the hostile, not the slow: emulated guests are 20 times slower."""

    cpu: int  # seconds
    memory: int  # bytes of address space
    descriptors: int
    processes: int  # that it may start, threads included; 0: none at all
    answer: int  # bytes of JSON
    file_size: int = 0  # bytes a file may grow to


READER = Limits(cpu=10, memory=512 * MIB, descriptors=64, processes=128, answer=16 * MIB)
DRIVE = Limits(cpu=3, memory=96 * MIB, descriptors=16, processes=0, answer=12 * MIB)
WRITER = Limits(cpu=10, memory=256 * MIB, descriptors=64, processes=0, answer=MIB, file_size=16 * MIB)


class Identity(NamedTuple):
    """The user and groups that a child becomes."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


class Job(NamedTuple):
    """One function to run in an unprivileged child, with its limits."""

    name: str  # in messages
    system: "System"  # the seams that `prepare` and `work` use
    prepare: Callable[[], Any]  # runs with our rights
    work: Callable[[Any, Send], Any]  # runs without, on what `prepare` returned; its result must be JSON
    limits: Limits
    identity: Optional[Identity] = None  # None keeps the user (only where we are not root)
    keep: Tuple[int, ...] = ()  # descriptors that it inherits


def unprivileged() -> Optional[Identity]:
    """The account that reading children run as: `csagent`, else `nobody`; None where we are not root."""
    if os.geteuid() != 0:
        return None
    account, reason = _readers_account()
    if account is not None and not reason:
        return Identity(account.uid, account.gid)
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(NOBODY, NOBODY)
    return Identity(entry.pw_uid or NOBODY, entry.pw_gid or NOBODY)


def note_on_account() -> str:
    """Why an account `csagent` that is there is not used; "" where it is, or there is none."""
    _, reason = _readers_account()
    return (
        f"the account {ACCOUNT} is not used, {reason}: the reading children run as nobody" if reason else ""
    )


def _readers_account() -> Tuple[Optional[accounts.Account], str]:
    """This machine's account `csagent`, also where a tree is worked on, and why it may not be used."""
    import pwd

    from csagent.system.seams import System

    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None, ""
    account = accounts.Account(ACCOUNT, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)
    return account, accounts.why_no_reader(System(), account)


def start(job: Job) -> Child:
    """Fork the child and return at once.

    Raises:
        JailError: there is no process for it.
    """
    pid, reading = fork(job.name, lambda writing, parent: live_and_die(job, writing, parent))
    user = job.identity.uid if job.identity is not None else None
    return Child(pid, reading, job.name, job.limits.answer, user)


def run(job: Job, timeout: float = 10.0, cancel: Optional["CancelFd"] = None) -> Any:
    """Fork the child, wait for it, and return its answer.

    Args:
        job: what it does.
        timeout: seconds from when it is ready; more where it is starved of processor time.
        cancel: readable: it is broken off.

    Raises:
        JailTimeout: its time was over, and it was killed.
        JailError: it died, said nonsense, or was killed because `cancel` became readable.
    """
    child = start(job)
    patience, ready = child.time_to_prepare(), False
    try:
        while True:
            child.drain()
            if child.finished:
                return child.result()
            if child.ready and not ready:
                patience, ready = child.time_to_work(timeout), True
            if patience.over(time.monotonic()):
                raise JailTimeout(f"{job.name}: no answer within {timeout:g} s")
            waiting: List[Any] = [child] if cancel is None else [child, cancel]
            left = max(0.0, patience.ends - time.monotonic())
            if cancel in select.select(waiting, [], [], left)[0]:
                raise JailError(f"{job.name}: broken off, csagent was told to stop or to reload")
    finally:
        child.kill()


# --- inside the child -----------------------------------------------------------------------------


def live_and_die(job: Job, writing: int, parent: int) -> NoReturn:
    """Prepare a job with our rights and do it without; the rest of this process's life.

    Args:
        job: what to do.
        writing: where the answer goes.
        parent: without it there is nothing to do.
    """
    code = 1
    began = time.monotonic()
    try:
        os.setpgid(0, 0)
        _forget_the_parent((writing, *job.keep))

        def say(document: Any) -> None:
            child_process.say(writing, document)

        try:
            libc = _libc()
            _end_first()
            gc.disable()  # it would look again and again through what imports leave for good
            job.system.runner.grouped = True
            prepared = job.prepare()
            job.system.clock.slowness = slowness(time.monotonic() - began, time.process_time())
            gc.freeze()
            gc.enable()
            _limit(job.limits, libc)
            if job.identity is not None:
                _become(job.identity, libc)
                _limit_processes(job.limits.processes)
            _harden(libc, parent)
            say(READY)
            say({"done": job.work(prepared, say)})
            code = 0
        except CsagentError as error:
            say({"died": str(error)})
        except MemoryError:
            say({"died": "ran out of memory"})
        except Exception as error:
            # Its text may carry what was being read: the class is all that leaves.
            say({"died": f"failed ({type(error).__name__})"})
    except BaseException:  # noqa: S110  the pipe is gone or memory is: the exit status has to do
        pass
    finally:
        os._exit(code)


def _forget_the_parent(keep: Sequence[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    nothing = open_nothing()
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else map(str, range(256)):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                pass


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _end_first() -> None:
    """Where memory is short, this process ends, not the daemon."""
    try:
        with open("/proc/self/oom_score_adj", "wb") as stream:
            stream.write(b"1000")
    except OSError:
        pass


def _limit(limits: Limits, libc: Any) -> None:
    size = _address_space()
    memory = max(limits.memory, size + limits.memory // 2)  # a large parent must not starve its child
    libc.mallopt(M_ARENA_MAX, 2)  # an arena a thread would reserve 64 MiB each
    import threading

    threading.stack_size(512 * 1024)
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu + int(time.process_time())),  # beyond its imports
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_NOFILE, limits.descriptors),
    ]
    for kind, value in wanted:
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # SIGXCPU at the soft limit says why it ended; SIGKILL follows.
        hard = value + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else value
        resource.setrlimit(kind, (value, hard))


def _limit_processes(wanted: int) -> None:
    """Leave room for between `wanted` and three times as many processes and threads, or for none at all.

    The kernel's limit (setrlimit(2), RLIMIT_NPROC) counts every process with this user's number, those of
    containers with another name for it included, and tells nobody how many there are: so it is tried out.

    Raises:
        JailError: the limit that was inherited, which nothing here can raise, has no room for a single one.
    """
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    room = 2 * wanted
    while wanted and room < PROCESSES_LIMIT and (hard == resource.RLIM_INFINITY or room < hard):
        resource.setrlimit(resource.RLIMIT_NPROC, (room - wanted, hard))
        if _forks():
            break
        room *= 2
    room = room if hard == resource.RLIM_INFINITY else min(room, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (room, room))
    if wanted and room == hard and not _forks():
        raise JailError(
            f"csagent was started with room for {hard} processes of a user (ulimit -u, LimitNPROC=), and user"
            f" {os.getuid()} has as many: start it with more, or give it the account {ACCOUNT},"
            " as csagent install-units makes it"
        )


def _forks() -> bool:
    """Whether there is room for one more process."""
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _address_space() -> int:
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def _become(identity: Identity, libc: Any) -> None:
    os.setgroups(list(identity.groups))
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if identity.uid != 0:
        if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
            raise JailError("could not give up root")
        _drop_capabilities(libc)


def _drop_capabilities(libc: Any) -> None:
    import ctypes

    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise JailError("could not give up capabilities")


def _harden(libc: Any, parent: int) -> None:
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise JailError("PR_SET_NO_NEW_PRIVS is not available")
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    die_with(parent)
