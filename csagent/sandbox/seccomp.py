"""Take system calls away from a child: a seccomp filter, made and loaded by libseccomp.

Of the system calls the filter names those that are refused (EPERM) and lets the rest pass: a list of what is
allowed would break with the next libc, and one that refuses what a parser never needs stops the same attacks.
Of the commands of ioctl(2) and fcntl(2), which mean something else to each device, it names those that are
allowed. It comes on top of the
lost user, groups, capabilities and limits of the jail; where libseccomp or the kernel's support is
missing, those remain. libseccomp is reached through ctypes, as systemd (whose dependency it is) has it on
every machine, and its Python binding on few.
"""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

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
# linux/fcntl.h: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. Not F_SETOWN and F_SETSIG, by
# which anybody of this user is signalled, nor leases and locks, for which others would have to wait.
FCNTLS = (0, 1, 2, 3, 4, 1030)
# What C's and Python's libraries and the DHCP clients' commands ask of files, sockets and NICs; nothing of a
# device.
IOCTLS = (
    # asm-generic/ioctls.h: TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX; TCGETS2 of newer libcs
    *(0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A),
    # linux/sockios.h: SIOCGIFNAME, and SIOCGIF's CONF, FLAGS, ADDR, BRDADDR, NETMASK, MTU, HWADDR, INDEX
    *(0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933),
)
# The same of MIPS, PowerPC and Sparc, where those of files and terminals have numbers of their own: TCGETS,
# TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX with and without the direction in it.
IOCTLS_ELSEWHERE = (
    *(0x540D, 0x40087468, 0x467F, 0x667E, 0x6602, 0x6601),
    *(0x402C7413, 0x4004667F, 0x8004667E, 0x20006602, 0x20006601, 0x40245408),
)
ELSEWHERE = ("mips", "ppc", "sparc")

REFUSED_TO_ALL = """
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
    fanotify_init modify_ldt personality quotactl acct syslog flock file_setattr open_tree_attr
    lsm_set_self_attr process_mrelease
    """
"""Nothing that finds or reads needs these; a 32-bit socketcall would be a way around the rules on socket."""

# Numbers of calls that a libseccomp may not know by name (that of Debian 12 ends with Linux 5.17, whatever
# the kernel): include/uapi/asm-generic/unistd.h. A number above 423 is the same everywhere but on two.
NUMBERS = {
    **{"fchmodat2": 452, "lsm_set_self_attr": 460, "setxattrat": 463, "removexattrat": 466},
    **{"open_tree_attr": 467, "file_setattr": 469},
}
OTHER_NUMBERS = ("mips", "alpha")
YOUNGER = range(470, 500)  # what they will be nobody knows: to a child they are not there

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


def _all_but(name: str, argument: int, allowed: Sequence[int]) -> Sequence[Rule]:
    """Refuse a call but for these values of an argument that the kernel takes for an int.

    libseccomp compares an argument once a rule and has no "none of these", so the other values are cut into
    ranges of a common beginning in binary: at most 32 for each value that is allowed.
    """
    rules: List[Rule] = []
    ranges = [(0, 32)]  # the beginning, and how many bits may be anything
    while ranges:
        begin, free = ranges.pop()
        mask = INT << free & INT
        if not any(value & mask == begin for value in allowed):
            rules.append((name, EPERM, [(argument, MASKED_EQUAL, mask, begin)]))
        elif free:
            ranges += [(begin, free - 1), (begin | 1 << free - 1, free - 1)]
    return rules


def _clone_flags(machine: str) -> int:
    return 1 if machine.startswith("s390") else 0  # clone(2): the first two arguments are swapped there


def refused_to_all(machine: str) -> Sequence[Rule]:
    """For every child: no file changed, no other process looked into, nobody's drive ejected."""
    rules = [_plain(name) for name in REFUSED_TO_ALL.split()]
    rules += [_flag("open", 1, flag) for flag in WRITING]
    rules += [_flag("openat", 2, flag) for flag in WRITING]
    # Their flags lie behind a pointer, which a filter cannot follow; libc falls back to the older calls.
    rules += [("openat2", ENOSYS, ()), ("clone3", ENOSYS, ())]
    rules += [_flag("clone", _clone_flags(machine), flag) for flag in NAMESPACES]
    rules += [_int("prctl", 0, option) for option in PRCTLS]
    rules += [("prlimit64", EPERM, [(0, NOT_EQUAL, 0, 0)])]
    elsewhere = IOCTLS_ELSEWHERE if machine.startswith(ELSEWHERE) else ()
    rules += _all_but("ioctl", 1, (*IOCTLS, *elsewhere))
    if not machine.startswith(OTHER_NUMBERS):
        rules += [(str(number), ENOSYS, ()) for number in YOUNGER]
    return [*rules, *_all_but("fcntl", 1, FCNTLS), *_all_but("fcntl64", 1, FCNTLS)]


def refused_while_discovering(machine: str) -> Sequence[Rule]:
    """While leases and devices are looked at: no TCP, no UDP. Commands may be run, and stopped."""
    inet = [_int("socket", 0, domain) for domain in range(AF_UNIX + 1, AF_NETLINK)]
    return [*refused_to_all(machine), *inet, ("socket", EPERM, [(0, GREATER, AF_NETLINK, 0)])]


def refused_to_broker(machine: str) -> Sequence[Rule]:
    """For who opens the connections: no process, no command."""
    return [*refused_to_all(machine), *_no_processes(machine)]


def refused_while_parsing(machine: str) -> Sequence[Rule]:
    """On top of that, while what strangers sent is parsed: no process, no command, no new connection.

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
                number = self._number(name)
                if number < 0:
                    continue  # not a call of this architecture
                count = len(comparisons)
                array = (Comparison * count)(*[Comparison(*one) for one in comparisons])
                if library.seccomp_rule_add_array(context, REFUSE | code, number, count, array):
                    return False
            return bool(library.seccomp_load(context) == 0)
        finally:
            library.seccomp_release(context)

    def _number(self, name: str) -> int:
        """Of a call by its name, or by its number itself; negative where this architecture has none."""
        if name.isdigit():
            return int(name)
        number = int(self._library.seccomp_syscall_resolve_name(name.encode()))
        if number < 0 and not self._machine.startswith(OTHER_NUMBERS):
            return NUMBERS.get(name, number)
        return number


def load_library() -> Optional[Filters]:
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


def restrict_if_possible(filters: Optional[Filters]) -> None:
    """All of it at once, for a child that reads and does nothing else.

    Raises:
        JailError: half of it could be had.
    """
    if filters is not None and filters.load(refused_while_discovering):
        restrict_to_parsing(filters)


def restrict_to_parsing(filters: Filters) -> None:
    """Also take away what discovering needs and parsing does not.

    Raises:
        JailError: the kernel, which took the first filter, refuses the second.
    """
    if not filters.load(refused_while_parsing):
        raise JailError("the kernel refuses a system call filter")
