"""The machine's name: /etc/hostname, the running kernel, and our line in /etc/hosts."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from csagent import plan
from csagent.errors import ApplyError
from csagent.model import NOTHING
from csagent.system.selinux import relabel

if TYPE_CHECKING:
    from csagent.system.seams import System

HOSTNAME = "/etc/hostname"
HOSTS = plan.HOSTS
HOSTS_LIMIT = 16 << 20
KERNEL = "/proc/sys/kernel/hostname"
NO_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
RUNNING_NAME = "the running name"
OUR_MARK = plan.OUR_MARK
OUR_ADDRESS = "127.0.1.1"  # Debian's address for the host's own name; any 127/8 works everywhere


def current(system: "System") -> str:
    """The name that /etc/hostname gives, "" where there is none."""
    return _first_line(system.tree.read_text(HOSTNAME) or "")


class Finished(NamedTuple):
    """What became of the parts beside the name: done now; left, with what was found there; why."""

    done: Tuple[str, ...] = ()
    left: Mapping[str, str] = NOTHING
    problems: Tuple[str, ...] = ()


def set_hostname(system: "System", name: str) -> Dict[str, str]:
    """Make `name` the machine's name: in /etc/hostname, else, where nobody can write that, for this boot.

    Returns:
        The parts that are still to be done (`finish`), with what was found there.

    Raises:
        ApplyError: neither could be done, and nothing has changed.
    """
    before = current(system)
    todo = {RUNNING_NAME: socket.gethostname()} if system.live else {}
    try:
        _write_name(system, name)
    except ApplyError:
        # A link into a read-only store, as NixOS has it.
        if not system.live or not _rename(name):
            raise
        todo = {HOSTNAME: before}
    return {**todo, HOSTS: ""}


def finish(system: "System", name: str, domain: Optional[str], todo: Mapping[str, str]) -> Finished:
    """Do what is left beside the name, each part by itself. Nothing is raised.

    A part where something else stands than when it failed, and a name that the machine no longer has, are
    its owner's doing, and stay. For /etc/hosts that is "" where our line was not written, and the name that
    stands alone on it where it lacks a domain that has come since.
    """
    done: List[str] = []
    left: Dict[str, str] = {}
    problems: List[str] = []

    def attempt(part: str, work: Callable[[], Optional[bool]]) -> None:
        try:
            if work() is not False:
                done.append(part)
        except (ApplyError, OSError) as error:
            left[part] = todo[part]
            problems.append(str(error) if isinstance(error, ApplyError) else f"{part}: {error.strerror}")

    if HOSTNAME in todo and current(system) == todo[HOSTNAME]:
        attempt(HOSTNAME, lambda: _write_name(system, name))
        booted = system.live and HOSTNAME in left and socket.gethostname() == todo[HOSTNAME] != name
        if booted and _rename(name):
            done.append(RUNNING_NAME)
    if current(system) == name or (HOSTNAME in left and system.live and socket.gethostname() == name):
        if RUNNING_NAME in todo and system.live and socket.gethostname() == todo[RUNNING_NAME] != name:
            attempt(RUNNING_NAME, lambda: _tell_kernel(name))
        if HOSTS in todo:
            attempt(HOSTS, lambda: _write_hosts(system, name, domain, todo[HOSTS]))
    relabel(system, HOSTNAME, HOSTS)
    return Finished(tuple(done), left, tuple(problems))


def _rename(name: str) -> bool:
    """Whether the running machine has this name now."""
    try:
        if socket.gethostname() != name:
            _tell_kernel(name)
    except OSError:
        return False
    return True


def _write_name(system: "System", name: str) -> None:
    try:
        system.tree.write(HOSTNAME, name.encode() + b"\n", 0o644, keep=True)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise ApplyError(f"cannot write {system.tree.shown(HOSTNAME)}: {error.strerror}") from None
        _write_in_place(system, name)


def _write_hosts(system: "System", name: str, domain: Optional[str], left: str) -> bool:
    """Our line; False where it stands already, or is not as it was left (`finish`)."""

    def change(content: bytes) -> bytes:
        text = content.decode("utf-8", "surrogateescape")
        if not _is_as_left(text, left):
            return content
        return with_our_line(text or NO_HOSTS, name, domain).encode("utf-8", "surrogateescape")

    try:
        return system.tree.change(HOSTS, change, 0o644, HOSTS_LIMIT)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise ApplyError(f"cannot write {system.tree.shown(HOSTS)}: {error.strerror}") from None
        return False


def is_our_line(line: str) -> bool:
    """Whether csagent wrote this line of /etc/hosts; an owner's note may end like it."""
    return line.rstrip().endswith(OUR_MARK) and line.split(None, 1)[0] == OUR_ADDRESS


def _is_as_left(hosts: str, left: str) -> bool:
    return not left or _our_line(left, None) in hosts.split("\n")


def preview_hosts(system: "System", name: str, domain: Optional[str], left: str) -> Tuple[str, str]:
    """(now, afterwards) of our line in /etc/hosts, for `plan`; `left` as in `finish`."""
    hosts = system.tree.read_text(HOSTS, HOSTS_LIMIT) or ""
    now = next((line for line in hosts.split("\n") if is_our_line(line)), "")
    stays = current(system) != name or not _is_as_left(hosts, left)
    return now, now if stays else _our_line(name, domain)


def _tell_kernel(name: str) -> None:
    """The file wants root and no capability, the call CAP_SYS_ADMIN, which our unit does without."""
    try:
        with open(KERNEL, "wb", buffering=0) as stream:
            stream.write(name.encode() + b"\n")
    except OSError:  # read-only in most containers
        socket.sethostname(name)


def _write_in_place(system: "System", name: str) -> None:
    """Container engines bind-mount /etc/hostname: it can be written and not replaced."""
    import os

    from csagent.system.files import write_all

    try:
        descriptor = system.tree.open(HOSTNAME, os.O_WRONLY | os.O_TRUNC)
        try:
            write_all(descriptor, name.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ApplyError(f"cannot write {system.tree.shown(HOSTNAME)}: {error.strerror}") from None


def with_our_line(hosts: str, name: str, domain: Optional[str]) -> str:
    """The text of /etc/hosts with our one line in it, all others as they were."""
    ours = _our_line(name, domain)
    lines = hosts.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    result: List[str] = []
    placed = False
    for line in lines:
        if is_our_line(line):
            if not placed:
                result.append(ours)
                placed = True
            continue
        result.append(line)
    if not placed:
        result.insert(_place_for(result), ours)
    return "\n".join(result) + "\n"


def _our_line(name: str, domain: Optional[str]) -> str:
    names = name
    if domain and "." not in name:
        names = f"{name}.{domain} {name}"
    elif "." in name:
        names = f"{name} {name.split('.', 1)[0]}"
    return f"{OUR_ADDRESS}\t{names}\t{OUR_MARK}"


def _place_for(lines: List[str]) -> int:
    """After the last line of 127.0.0.1, before another 127.0.1.1: the first match is what resolvers take."""
    position = 0
    for number, line in enumerate(lines):
        words = line.split()
        if words and words[0] == "127.0.0.1":
            position = number + 1
    return position


def _first_line(text: str) -> str:
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            return line.strip()
    return ""


def preview(system: "System", name: str) -> Tuple[str, str]:
    """(now, afterwards), for `plan`."""
    return current(system), name
