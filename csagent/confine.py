"""Take system calls away from a child: a seccomp filter, made and loaded by libseccomp.

The filter names what is refused (EPERM) and lets the rest pass: a list of what is allowed would break with
the next libc, and one that refuses what a parser never needs stops the same attacks. It comes on top of the
lost user, groups, capabilities and limits of `csagent.jail`; where libseccomp or the kernel's support is
missing, those remain. libseccomp is reached through ctypes, as systemd (whose dependency it is) has it on
every machine, and its Python binding on few.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

LIBRARY = "libseccomp.so.2"

# seccomp.h
ALLOW = 0x7FFF0000
REFUSE = 0x00050000
NOT_EQUAL, EQUAL, GREATER, MASKED_EQUAL = 1, 4, 6, 7

EPERM = 1
ENOSYS = 38

CLONE_THREAD = 0x00010000
NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
AF_UNIX, AF_NETLINK = 1, 16
WRITING = (0o1, 0o2, 0o100, 0o1000)  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
IOCTLS = (0x5309, 0x5312, 0x5319, 0x531A, 0x5412)  # CDROMEJECT, RESET, EJECT_SW, MEDIA_CHANGED, TIOCSTI

NEVER = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd
    pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo setsid setpgid unshare setns mount umount
    umount2 move_mount fsopen fsconfig fsmount fspick open_tree mount_setattr pivot_root chroot creat
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mknod
    mknodat chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat chown32 lchown32 fchown32 utime
    utimes futimesat utimensat utimensat_time64 truncate truncate64 ftruncate ftruncate64 fallocate
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    name_to_handle_at open_by_handle_at memfd_create memfd_secret shmget shmat shmctl msgget msgsnd
    msgrcv semget mq_open mq_unlink listen accept accept4 socketcall io_uring_setup io_uring_enter
    io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key inotify_init1
    fanotify_init modify_ldt personality quotactl acct syslog
    """
"""Nothing that finds or reads needs these; a 32-bit socketcall would be a way around the rules on socket."""

READING_TOO = "bind kill tgkill execve execveat fork vfork socket connect"
"""Once the leases are read, no command is started (and stopped) any more and no connection opened."""

Comparisons = Sequence[Tuple[int, int, int, int]]
Rule = Tuple[str, int, Comparisons]  # call, errno, comparisons (argument, how, a, b)


def finding_rules(machine: str) -> Sequence[Rule]:
    """While leases and devices are looked at: no TCP, no file changed, no other process touched.

    The DHCP clients' own commands may be run, and stopped where they hang.
    """
    flags = 1 if machine.startswith("s390") else 0  # clone(2): the first two arguments are swapped there
    rules = [_plain(name) for name in NEVER.split()]
    rules += [("open", EPERM, [(1, MASKED_EQUAL, flag, flag)]) for flag in WRITING]
    rules += [("openat", EPERM, [(2, MASKED_EQUAL, flag, flag)]) for flag in WRITING]
    # Their flags lie behind a pointer, which a filter cannot follow; libc falls back to the older calls.
    rules += [("openat2", ENOSYS, ()), ("clone3", ENOSYS, ())]
    rules += [("clone", EPERM, [(flags, MASKED_EQUAL, flag, flag)]) for flag in NAMESPACES]
    rules += [("socket", EPERM, [(0, EQUAL, domain, 0)]) for domain in range(AF_UNIX + 1, AF_NETLINK)]
    rules += [("socket", EPERM, [(0, GREATER, AF_NETLINK, 0)])]
    rules += [("prctl", EPERM, [(0, EQUAL, option, 0)]) for option in (PR_SET_PDEATHSIG, PR_SET_DUMPABLE)]
    rules += [("prlimit64", EPERM, [(0, NOT_EQUAL, 0, 0)])]
    rules += [("ioctl", EPERM, [(1, EQUAL, request, 0)]) for request in IOCTLS]
    return rules


def reading_rules(machine: str) -> Sequence[Rule]:
    """On top of those, while what strangers sent is parsed: no process, no command, no new connection."""
    flags = 1 if machine.startswith("s390") else 0
    threads_only: Rule = ("clone", EPERM, [(flags, MASKED_EQUAL, CLONE_THREAD, 0)])
    return [*(_plain(name) for name in READING_TOO.split()), threads_only]


def _plain(name: str) -> Rule:
    return (name, EPERM, ())


class Filters:
    """libseccomp, loaded while its file can still be read."""

    def __init__(self, library: Any, machine: str) -> None:
        self._library = library
        self._machine = machine

    def finding(self) -> bool:
        """Refuse this process, for good, what `finding_rules` says; False where the kernel cannot."""
        return self._load(finding_rules(self._machine))

    def reading(self) -> bool:
        """Refuse what `reading_rules` says, too."""
        return self._load(reading_rules(self._machine))

    def _load(self, rules: Sequence[Rule]) -> bool:
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
            for name, code, comparisons in rules:
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
    except (OSError, AttributeError):
        return None
    return Filters(library, os.uname().machine)


def close(filters: Optional[Filters]) -> None:
    """All of it at once, for a child that reads and does nothing else."""
    if filters is not None and filters.finding():
        filters.reading()
