"""Take system calls away from a child: a seccomp filter, made and loaded by libseccomp.

The filter names what is refused (EPERM) and lets the rest pass: a list of what is allowed would break with
the next libc, and one that refuses what a parser never needs stops the same attacks. It comes on top of the
lost user, groups, capabilities and limits of the jail; where libseccomp or the kernel's support is
missing, those remain. libseccomp is reached through ctypes, as systemd (whose dependency it is) has it on
every machine, and its Python binding on few.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

from csagent.errors import JailError

LIBRARY = "libseccomp.so.2"

# seccomp.h
ALLOW = 0x7FFF0000
REFUSE = 0x00050000
NOT_EQUAL, GREATER, MASKED_EQUAL = 1, 6, 7
TSYNC = 4

EPERM = 1
ENOSYS = 38
INT = 0xFFFFFFFF  # a filter compares 64 bits, where the kernel takes an int for what they are

CLONE_THREAD = 0x00010000
NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
AF_UNIX, AF_NETLINK = 1, 16
WRITING = (0o1, 0o2, 0o100, 0o1000)  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
MSG_FASTOPEN = 0x20000000
PRCTLS = (1, 4)  # PR_SET_PDEATHSIG, PR_SET_DUMPABLE
# F_SETOWN, F_SETSIG, F_SETOWN_EX: a signal to anybody of this user; F_SETLEASE, F_NOTIFY
FCNTLS = (8, 10, 15, 1024, 1026)
IOCTLS = (
    # FIOSETOWN, SIOCSPGRP as above; TIOCSTI, TIOCLINUX; BLKRRPART; SG_IO
    *(0x8901, 0x8902, 0x5412, 0x541C, 0x125F, 0x2285),
    # linux/cdrom.h: STOP, START, EJECT, EJECT_SW, RESET, CLOSETRAY, SET_OPTIONS, CLEAR_OPTIONS, SELECT_SPEED,
    # SELECT_DISC, LOCKDOOR: a config drive has to stay where it is, and to go when CloudStack takes it away
    *(0x5307, 0x5308, 0x5309, 0x530F, 0x5312, 0x5319, 0x5320, 0x5321, 0x5322, 0x5323, 0x5329),
)

NEVER = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd pidfd_send_signal
    tkill rt_sigqueueinfo rt_tgsigqueueinfo setsid setpgid unshare setns mount umount umount2 move_mount
    fsopen fsconfig fsmount fspick open_tree mount_setattr pivot_root chroot creat mkdir mkdirat rmdir
    unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod mknodat chmod fchmod
    fchmodat fchmodat2 chown lchown fchown fchownat chown32 lchown32 fchown32 utime utimes futimesat
    utimensat utimensat_time64 truncate truncate64 ftruncate ftruncate64 fallocate setxattr lsetxattr
    fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat name_to_handle_at
    open_by_handle_at memfd_secret shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl semget
    semop semctl semtimedop mq_open mq_unlink setpriority ioprio_set sched_setaffinity sched_setscheduler
    sched_setattr sched_setparam move_pages migrate_pages listen accept accept4 socketcall io_uring_setup
    io_uring_enter io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key
    fanotify_init modify_ldt personality quotactl acct syslog
    """
"""Nothing that finds or reads needs these; a 32-bit socketcall would be a way around the rules on socket."""

NO_PROCESSES = "kill tgkill execve execveat fork vfork memfd_create inotify_init inotify_init1"
NO_CONNECTIONS = "bind socket socketpair connect sendmsg sendmmsg"

Comparisons = Sequence[Tuple[int, int, int, int]]
Rule = Tuple[str, int, Comparisons]  # call, errno, comparisons (argument, how, a, b)


def _plain(name: str) -> Rule:
    return (name, EPERM, ())


def _int(name: str, argument: int, value: int) -> Rule:
    """Refuse a call for one value of an argument that the kernel takes for an int."""
    return (name, EPERM, [(argument, MASKED_EQUAL, INT, value)])


def _flag(name: str, argument: int, flag: int, set_: bool = True) -> Rule:
    """Refuse a call that has a flag set, or not set."""
    return (name, EPERM, [(argument, MASKED_EQUAL, flag, flag if set_ else 0)])


def _clone_flags(machine: str) -> int:
    return 1 if machine.startswith("s390") else 0  # clone(2): the first two arguments are swapped there


def harmless(machine: str) -> Sequence[Rule]:
    """For every child: no file changed, no other process looked into, nobody's drive ejected."""
    rules = [_plain(name) for name in NEVER.split()]
    rules += [_flag("open", 1, flag) for flag in WRITING]
    rules += [_flag("openat", 2, flag) for flag in WRITING]
    # Their flags lie behind a pointer, which a filter cannot follow; libc falls back to the older calls.
    rules += [("openat2", ENOSYS, ()), ("clone3", ENOSYS, ())]
    rules += [_flag("clone", _clone_flags(machine), flag) for flag in NAMESPACES]
    rules += [_int("prctl", 0, option) for option in PRCTLS]
    rules += [("prlimit64", EPERM, [(0, NOT_EQUAL, 0, 0)])]
    rules += [_int("ioctl", 1, request) for request in IOCTLS]
    rules += [_int(name, 1, command) for name in ("fcntl", "fcntl64") for command in FCNTLS]
    return rules


def finding(machine: str) -> Sequence[Rule]:
    """While leases and devices are looked at: no TCP, no UDP. Commands may be run, and stopped."""
    inet = [_int("socket", 0, domain) for domain in range(AF_UNIX + 1, AF_NETLINK)]
    return [*harmless(machine), *inet, ("socket", EPERM, [(0, GREATER, AF_NETLINK, 0)])]


def brokering(machine: str) -> Sequence[Rule]:
    """For who opens the connections: no process, no command."""
    return [*harmless(machine), *_no_processes(machine)]


def reading(machine: str) -> Sequence[Rule]:
    """On top of `finding`, while what strangers sent is parsed: no process, no command, no new connection.

    A socket that was refused can be connected anew by what is sent, unless it may not name an address.
    """
    rules = [_plain(name) for name in NO_CONNECTIONS.split()]
    rules += [_flag("sendto", 3, MSG_FASTOPEN), ("sendto", EPERM, [(4, NOT_EQUAL, 0, 0)])]
    return [*rules, *_no_processes(machine)]


def _no_processes(machine: str) -> Sequence[Rule]:
    threads_only = _flag("clone", _clone_flags(machine), CLONE_THREAD, set_=False)
    return [*(_plain(name) for name in NO_PROCESSES.split()), threads_only]


class Filters:
    """libseccomp, loaded while its file can still be read."""

    def __init__(self, library: Any, machine: str) -> None:
        self._library = library
        self._machine = machine

    def load(self, rules: Callable[[str], Sequence[Rule]]) -> bool:
        """Refuse this process, for good, what `rules` says here; False where the kernel cannot."""
        import ctypes

        class Comparison(ctypes.Structure):
            """struct scmp_arg_cmp."""

            _fields_ = (
                ("argument", ctypes.c_uint),
                ("how", ctypes.c_int),
                ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64),
            )

        library = self._library
        context = library.seccomp_init(ALLOW)
        if not context:
            return False
        try:
            library.seccomp_attr_set(context, TSYNC, 1)
            for name, code, comparisons in rules(self._machine):
                number = library.seccomp_syscall_resolve_name(name.encode())
                if number < 0:
                    continue  # not a call of this architecture, or younger than this libseccomp
                count = len(comparisons)
                array = (Comparison * count)(*[Comparison(*one) for one in comparisons])
                if library.seccomp_rule_add_array(context, REFUSE | code, number, count, array):
                    return False
            return bool(library.seccomp_load(context) == 0)
        finally:
            library.seccomp_release(context)


def load() -> Optional[Filters]:
    """Find libseccomp; None where it is not installed."""
    import ctypes
    import os

    try:
        library = ctypes.CDLL(LIBRARY)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = [ctypes.c_uint32]
        library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
        library.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        ]
        library.seccomp_load.argtypes = library.seccomp_release.argtypes = [ctypes.c_void_p]
        library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    except (OSError, AttributeError):
        return None
    return Filters(library, os.uname().machine)


def close(filters: Optional[Filters]) -> None:
    """All of it at once, for a child that reads and does nothing else.

    Raises:
        JailError: half of it could be had.
    """
    if filters is not None and filters.load(finding):
        close_further(filters)


def close_further(filters: Filters) -> None:
    """From finding to reading.

    Raises:
        JailError: the kernel, which took the first filter, refuses the second.
    """
    if not filters.load(reading):
        raise JailError("the kernel refuses a system call filter")
