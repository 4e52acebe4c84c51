"""Run a command, note every step of it that the system can see, and kill it at one of them.

    python tracer.py --log FILE [--kill ROLE:NUMBER --whom self|main|all] -- COMMAND...

A step is a system call that another process, or the next boot, can notice: a write, rename, unlink, fsync,
chmod, new process, connection, signal. A seccomp filter stops the command (and all that it starts) at these
and at no others; this process holds it there by ptrace(2). Steps are numbered within each process, and
processes are named by their place in the family: "0" is the command, "0.2" its second child. So a step has
the same name in each run, however the processes take turns. The kill happens on entry: the system call
itself does not take place any more.

The log has one JSON object a line. Besides the steps it holds what is durable: the content of a file and
the entries of a directory at each fsync(2). Standard library only; Linux 5.3 or newer (ptrace's
PTRACE_GET_SYSCALL_INFO), x86-64 or aarch64.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import json
import os
import platform
import signal
import stat
import struct
import sys
import time

X86_64 = {
    "write": 1, "pwrite64": 18, "writev": 20, "connect": 42, "sendto": 44, "sendmsg": 46, "clone": 56,
    "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "flock": 73, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "sethostname": 170,
    "exit_group": 231, "openat": 257, "mkdirat": 258, "fchownat": 260, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "symlinkat": 266, "fchmodat": 268, "renameat2": 316, "clone3": 435, "prctl": 157,
}  # fmt: skip
AARCH64 = {
    "ftruncate": 46, "truncate": 45, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
    "renameat": 38, "flock": 32, "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56,
    "write": 64, "writev": 66, "pwrite64": 68, "fsync": 82, "fdatasync": 83, "exit_group": 94, "kill": 129,
    "sethostname": 161, "connect": 203, "sendto": 206, "sendmsg": 211, "clone": 220, "execve": 221,
    "renameat2": 276, "clone3": 435, "prctl": 167,
}  # fmt: skip
NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine(), {})
NAMES = {number: name for name, number in NUMBERS.items()}

# linux/ptrace.h
PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SEIZE, PTRACE_LISTEN, PTRACE_GET_SYSCALL_INFO = (
    7,
    24,
    0x4206,
    0x4208,
    0x420E,
)
OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x100000  # SYSGOOD FORK VFORK CLONE EXEC SECCOMP EXITKILL
EVENT_EXEC, EVENT_SECCOMP, EVENT_STOP = 4, 7, 128
WALL = 0x40000000  # __WALL of waitpid(2): threads too

# linux/seccomp.h, linux/filter.h, linux/prctl.h
RET_TRACE, RET_ALLOW, RET_ERRNO_0 = 0x7FF00000, 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
ARGUMENT = 16  # offset of the first argument in struct seccomp_data

ORPHANS_PATIENCE = 1.5  # seconds until children that outlive their parent are looked at
LOOKS = 2  # in a row at which all of them sleep
PATIENCE = 600.0
SLEEPING = "SD"  # of /proc/PID/stat: waits for something else than a processor, or for this tracer

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class TooLate(Exception):
    """The alarm rang."""


def ptrace(request, pid, address=0, data=0):
    result = libc.ptrace(request, pid, address, data)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def install_filter():
    """Stop at the steps. Of openat only what creates or truncates: reading is seen by nobody."""
    plain = [number for name, number in NUMBERS.items() if name not in ("openat", "prctl")]
    special = [
        (RETURN, 0, 0, RET_ALLOW),
        (LOAD, 0, 0, ARGUMENT + 16),  # openat's flags
        (JUMP_SET, 0, 1, os.O_CREAT | os.O_TRUNC),
        (RETURN, 0, 0, RET_TRACE),
        (RETURN, 0, 0, RET_ALLOW),
        # Without root a process that is not dumpable could not be looked into: it stays dumpable then.
        (LOAD, 0, 0, ARGUMENT),
        (JUMP_EQUAL, 0, 1, PR_SET_DUMPABLE if os.geteuid() != 0 else 0xFFFFFFFF),
        (RETURN, 0, 0, RET_ERRNO_0),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    program = [(LOAD, 0, 0, 0)]
    size = 1 + 2 * len(plain) + 2
    for number in plain:
        program += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, RET_TRACE)]
    program.append((JUMP_EQUAL, size + 1 - (len(program) + 1), 0, NUMBERS["openat"]))
    program.append((JUMP_EQUAL, size + 5 - (len(program) + 1), 0, NUMBERS["prctl"]))
    program += special
    raw = b"".join(struct.pack("HBBI", *one) for one in program)
    code = ctypes.create_string_buffer(raw, len(raw))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    if os.geteuid() != 0 and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    fprog = ctypes.create_string_buffer(header, len(header))
    if libc.prctl(PR_SET_SECCOMP, 2, fprog, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


class Tracer:
    """One run of the command."""

    def __init__(self, log, kill, whom):
        self.log = log
        self.kill = kill
        self.whom = whom
        self.main = 0
        self.status = None
        self.started = False
        self.reached = None
        self.tasks = {}  # thread id -> process id
        self.roles = {}  # process id -> role, of all that ever lived
        self.children = {}  # role -> number of children so far
        self.steps = {}  # role -> number of steps so far
        self.pending = {}  # thread id -> the step whose system call is under way
        self.held = []  # stopped until the main process is gone
        self.began = time.monotonic()
        self.asleep = 0  # looks in a row

    def say(self, **document):
        self.log.write(json.dumps(document) + "\n")

    def run(self, command):
        reading, writing = os.pipe()
        self.main = os.fork()
        if self.main == 0:
            os.read(reading, 1)
            os.close(reading)
            os.close(writing)
            install_filter()
            os.execvp(command[0], command)
        self.roles[self.main] = "0"
        self.tasks[self.main] = self.main
        ptrace(PTRACE_SEIZE, self.main, 0, OPTIONS)
        os.write(writing, b"x")
        os.close(reading)
        os.close(writing)
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        survivors = []
        try:
            while self.tasks:
                self.one(*os.waitpid(-1, WALL))
        except ChildProcessError:
            pass
        except TooLate:
            survivors = sorted({self.roles[pid] for pid in self.tasks.values()})
            for pid in set(self.tasks.values()):
                kill(pid)
        self.say(end=True, status=self.status, survivors=survivors, reached=self.reached)

    def _ring(self, *_):
        """Whose time is over: not who is about to end, and waits for a processor."""
        if self.status is not None and time.monotonic() < self.began + PATIENCE:
            self.asleep = 0 if any(state(task) not in SLEEPING for task in self.tasks) else self.asleep + 1
            if self.asleep < LOOKS:
                signal.setitimer(signal.ITIMER_REAL, ORPHANS_PATIENCE)
                return
        raise TooLate

    def learn(self, task):
        """Find out whose a new thread or process is."""
        if task in self.tasks:
            return
        fields = {}
        try:
            with open(f"/proc/{task}/status") as stream:
                fields = dict(line.split(":\t", 1) for line in stream if ":\t" in line)
        except OSError:
            pass
        process = int(fields.get("Tgid", task))
        self.tasks[task] = process
        if process not in self.roles:
            parent = self.roles.get(int(fields.get("PPid", self.main)), "0")
            self.children[parent] = self.children.get(parent, 0) + 1
            self.roles[process] = f"{parent}.{self.children[parent]}"

    def one(self, task, status):
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.tasks.pop(task, None)
            if task == self.main:
                self.status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                if self.tasks:
                    signal.setitimer(signal.ITIMER_REAL, ORPHANS_PATIENCE)
                for held in self.held:
                    self.resume(held, PTRACE_SYSCALL)
                self.held = []
            return
        self.learn(task)
        event, number = status >> 16, os.WSTOPSIG(status)
        if event == EVENT_SECCOMP:
            self.entry(task)
        elif number == signal.SIGTRAP | 0x80:
            self.leave(task)
        elif event == EVENT_STOP:
            stopped = number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
            self.resume(task, PTRACE_LISTEN if stopped else PTRACE_CONT)
        elif event:
            self.started = self.started or event == EVENT_EXEC
            # A system call with an event in its middle goes on to its end, where it is looked at.
            self.resume(task, PTRACE_SYSCALL if task in self.pending else PTRACE_CONT)
        else:
            self.resume(task, PTRACE_SYSCALL if task in self.pending else PTRACE_CONT, number)

    def resume(self, task, how, number=0):
        try:
            ptrace(how, task, 0, number)
        except OSError:
            pass  # it was killed meanwhile: waitpid tells

    def info(self, task):
        """(operation, the numbers behind it) of struct ptrace_syscall_info."""
        buffer = ctypes.create_string_buffer(88)
        ptrace(PTRACE_GET_SYSCALL_INFO, task, 88, ctypes.addressof(buffer))
        return struct.unpack_from("=8Q", buffer.raw, 24)

    def entry(self, task):
        try:
            number, *arguments = self.info(task)
        except OSError:
            return
        name = NAMES.get(number, str(number))
        if not self.started:
            self.resume(task, PTRACE_CONT)
            return
        role = self.roles[self.tasks[task]]
        count = self.steps[role] = self.steps.get(role, 0) + 1
        step = {"role": role, "n": count, "call": name, "what": describe(task, name, arguments)}
        self.say(**step)
        # O_CREAT of a file that is there makes nothing: a record is opened so each time a line is added.
        there = name == "openat" and os.path.lexists(step["what"])
        self.pending[task] = ("" if there else name, arguments, step["what"])
        if self.kill == f"{role}:{count}":
            self.reached = step
            self.strike(task)
        else:
            self.resume(task, PTRACE_SYSCALL)

    def strike(self, task):
        """Kill whom we were told to kill. SIGKILL wakes from a ptrace stop and skips the system call."""
        process = self.tasks[task]
        if self.whom == "all":
            for one in sorted(set(self.tasks.values()), key=lambda pid: pid != self.main):
                kill(one)
        elif self.whom == "self" or process == self.main:
            kill(process)
        else:
            self.held.append(task)
            kill(self.main)

    def leave(self, task):
        name, arguments, what = self.pending.pop(task, ("", [], ""))
        try:
            result = ctypes.c_int64(self.info(task)[0]).value
        except OSError:
            return
        if name and result >= 0:
            self.remember(task, name, arguments, what, result)
        self.resume(task, PTRACE_CONT)

    def remember(self, task, name, arguments, what, result):
        """What this has made new, or durable."""
        try:
            if name in ("fsync", "fdatasync"):
                self.durable(f"/proc/{task}/fd/{arguments[0]}", what)
            elif name == "openat":
                self.say(created=os.stat(f"/proc/{task}/fd/{result}").st_ino, what=what, directory=False)
            elif name in ("mkdirat", "mkdir"):
                self.say(created=os.stat(what).st_ino, what=what, directory=True)
        except OSError as error:
            self.say(problem=f"{name} {what}: {error}")

    def durable(self, path, what):
        status = os.stat(path)
        about = {
            "durable": status.st_ino,
            "what": what,
            "mode": stat.S_IMODE(status.st_mode),
            "owner": [status.st_uid, status.st_gid],
        }
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                self.say(**about, entries={entry.name: entry.inode() for entry in entries})
        else:
            with open(path, "rb") as stream:
                self.say(**about, content=base64.b64encode(stream.read()).decode())


def state(task):
    try:
        with open(f"/proc/{task}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "gone"


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def describe(task, name, arguments):
    """What a system call is about: a path, or where a connection goes."""
    if name in ("openat", "mkdirat", "unlinkat", "fchmodat", "fchownat"):
        return at(task, arguments[0], arguments[1])
    if name in ("renameat", "renameat2"):
        return at(task, arguments[2], arguments[3])
    if name == "rename":
        return text(task, arguments[1])
    if name in ("mkdir", "unlink", "chmod", "rmdir"):
        return text(task, arguments[0])
    if name == "connect":
        raw = peek(task, arguments[1], 16)
        return f"port {int.from_bytes(raw[2:4], 'big')}" if raw[:2] == b"\x02\x00" else "socket"
    if name in ("sendto", "write"):
        word = b"saved_password" in peek(task, arguments[1], min(arguments[2], 512))
        return f"{link(task, arguments[0])}{' saved_password' if word else ''}"
    if name in ("fsync", "fdatasync", "fchmod", "fchown", "flock", "ftruncate", "writev", "pwrite64"):
        return link(task, arguments[0])
    if name == "kill":
        return f"signal {arguments[1]}"
    return ""


def link(task, descriptor):
    try:
        return os.readlink(f"/proc/{task}/fd/{ctypes.c_int(descriptor & 0xFFFFFFFF).value}")
    except OSError:
        return "?"


def peek(task, address, size):
    try:
        with open(f"/proc/{task}/mem", "rb", 0) as stream:
            stream.seek(address)
            return stream.read(size)
    except (OSError, ValueError, OverflowError):
        return b""


def text(task, address):
    raw = peek(task, address, 4096 - address % 4096)
    if b"\0" not in raw:
        raw += peek(task, address + len(raw), 4096)
    return os.fsdecode(raw.split(b"\0")[0])


def at(task, directory, address):
    name = text(task, address)
    base = ctypes.c_int(directory & 0xFFFFFFFF).value
    if name.startswith("/"):
        return name
    return os.path.join(link(task, base) if base >= 0 else os.readlink(f"/proc/{task}/cwd"), name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--kill", default="")
    parser.add_argument("--whom", choices=("self", "main", "all"), default="self")
    parser.add_argument("command", nargs="+")
    words = parser.parse_args()
    if not NUMBERS:
        sys.exit(f"no system call numbers for {platform.machine()}")
    begun = time.monotonic()
    with open(words.log, "w") as log:
        tracer = Tracer(log, words.kill, words.whom)
        tracer.run(words.command)
        tracer.say(seconds=round(time.monotonic() - begun, 3))


if __name__ == "__main__":
    main()
