"""What root does without the capabilities that the unit takes away (systemd/csagent.service)."""

from __future__ import annotations

import ctypes
import os
import socket
import time
import traceback
from pathlib import Path
from typing import Callable

import pytest

from csagent.apply import hostname
from csagent.sandbox import jail
from csagent.sandbox.jail import MIB, Limits
from csagent.system.files import in_group
from csagent.system.seams import System

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose"),
]

# linux/capability.h, linux/sched.h
CAP_CHOWN, CAP_KILL, CAP_SYS_ADMIN = 0, 5, 21
CLONE_NEWUTS = 0x04000000
SMALL = Limits(cpu=2, memory=96 * MIB, descriptors=16, processes=64, answer=64 * 1024)


def holds_without(capability: int, check: Callable[[], None]) -> None:
    """Call it in a process that has a host name of its own and lacks the capability."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            libc = ctypes.CDLL(None)
            assert libc.unshare(CLONE_NEWUTS) == 0
            header = (ctypes.c_uint32 * 2)(jail.LINUX_CAPABILITY_VERSION_3, 0)
            sets = (ctypes.c_uint32 * 6)()
            assert libc.capget(ctypes.byref(header), ctypes.byref(sets)) == 0
            for index in range(3):
                sets[index] &= ~(1 << capability)
            assert libc.capset(ctypes.byref(header), ctypes.byref(sets)) == 0
            check()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_child_of_another_user_is_ended() -> None:
    """Without CAP_KILL root ends a child that has become somebody else, and is root again."""

    def check() -> None:
        somebody = jail.unprivileged()
        assert somebody is not None
        child = jail.start(
            jail.Job("test", System(), lambda: None, lambda _p, _say: time.sleep(3600), SMALL, somebody)
        )
        while f"Uid:\t{somebody.uid}\t" not in Path(f"/proc/{child.pid}/status").read_text():
            time.sleep(0.01)
        with pytest.raises(PermissionError):
            os.kill(child.pid, 0)
        start = time.monotonic()
        child.kill()
        assert time.monotonic() - start < 300 and os.getresuid() == (0, 0, 0)

    holds_without(CAP_KILL, check)


def test_a_file_keeps_its_group(tree: Path) -> None:
    """Without CAP_CHOWN a file of root's that is replaced stays in its group, and root in its own groups."""
    hosts = tree / "etc/hosts"
    os.chown(hosts, 0, 4242)
    groups = os.getgroups()

    def check() -> None:
        with pytest.raises(PermissionError):
            os.chown(hosts, 0, 4243)
        System.at(str(tree)).tree.write("/etc/hosts", b"new\n", keep=True)
        assert hosts.read_text() == "new\n" and hosts.stat().st_gid == 4242
        assert os.getgroups() == groups

    holds_without(CAP_CHOWN, check)


def test_a_file_of_somebody_else_is_left_alone(tree: Path) -> None:
    """Without CAP_CHOWN a file that belongs to another user is not replaced by one of root's."""
    hosts = tree / "etc/hosts"
    before = hosts.read_bytes()
    os.chown(hosts, 4242, 0)

    def check() -> None:
        with pytest.raises(OSError, match="belongs to the user 4242"):
            System.at(str(tree)).tree.write("/etc/hosts", b"new\n", keep=True)

    holds_without(CAP_CHOWN, check)
    assert hosts.read_bytes() == before and hosts.stat().st_uid == 4242
    assert sorted(path.name for path in hosts.parent.glob(".hosts*")) == []


def test_a_command_is_in_the_group() -> None:
    """What is started meanwhile, as chpasswd is, may give its files to that group too."""
    with in_group(4242):
        done = System().runner.run(["id", "-G"])
    assert "4242" in done.output.decode().split() and 4242 not in os.getgroups()


def test_the_kernel_is_told_the_name() -> None:
    """Without CAP_SYS_ADMIN the running kernel takes a new host name."""

    def check() -> None:
        with pytest.raises(PermissionError):
            socket.sethostname("refused")
        hostname._tell_kernel("few-capabilities")
        assert socket.gethostname() == "few-capabilities"

    holds_without(CAP_SYS_ADMIN, check)
