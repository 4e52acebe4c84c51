"""The machine's name: /etc/hostname, the running kernel, and our line in /etc/hosts."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, List, Optional, Tuple

from csagent.errors import ApplyError
from csagent.system.selinux import relabel

if TYPE_CHECKING:
    from csagent.system.seams import System

HOSTNAME = "/etc/hostname"
HOSTS = "/etc/hosts"
HOSTS_LIMIT = 16 << 20
KERNEL = "/proc/sys/kernel/hostname"
NO_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
OUR_MARK = "# csagent"
OUR_ADDRESS = "127.0.1.1"  # Debian's address for the host's own name; any 127/8 works everywhere


def current(system: "System") -> str:
    """The name that /etc/hostname gives, "" where there is none."""
    return _first_line(system.tree.read_text(HOSTNAME) or "")


def set_hostname(system: "System", name: str, domain: Optional[str]) -> None:
    """Make `name` the machine's name, now and at the next boot.

    Raises:
        ApplyError: a file could not be written or the kernel refused.
    """
    try:
        system.tree.write(HOSTNAME, name.encode() + b"\n", 0o644, keep=True)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise ApplyError(f"cannot write {system.tree.shown(HOSTNAME)}: {error.strerror}") from None
        _write_in_place(system, name)
    if system.live and socket.gethostname() != name:
        try:
            _tell_kernel(name)
        except OSError as error:
            raise ApplyError(f"the kernel refused the host name {name}: {error.strerror}") from None

    def change(content: bytes) -> bytes:
        text = content.decode("utf-8", "surrogateescape") or NO_HOSTS
        return with_our_line(text, name, domain).encode("utf-8", "surrogateescape")

    try:
        system.tree.change(HOSTS, change, 0o644, HOSTS_LIMIT)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise ApplyError(f"cannot write {system.tree.shown(HOSTS)}: {error.strerror}") from None
    relabel(system, HOSTNAME, HOSTS)


def add_domain(system: "System", name: str, domain: str) -> bool:
    """Complete our line in /etc/hosts; False where the owner has changed it, or the machine's name.

    Raises:
        ApplyError: the file could not be written.
    """
    before, after = preview_domain(system, name, domain)
    if before == after:
        return False
    hosts = system.tree.read_text(HOSTS, HOSTS_LIMIT) or ""
    text = with_our_line(hosts, name, domain).encode("utf-8", "surrogateescape")
    try:
        system.tree.write(HOSTS, text, 0o644, keep=True)
    except OSError as error:
        raise ApplyError(f"cannot write {system.tree.shown(HOSTS)}: {error.strerror}") from None
    relabel(system, HOSTS)
    return True


def preview_domain(system: "System", name: str, domain: str) -> Tuple[str, str]:
    """Our line in /etc/hosts, now and with the domain; the same twice where it is not as we have left it."""
    ours = _our_line(name, None)
    hosts = system.tree.read_text(HOSTS, HOSTS_LIMIT) or ""
    if current(system) != name or ours not in hosts.split("\n") or len(hosts) >= HOSTS_LIMIT:
        return ours, ours
    return ours, _our_line(name, domain)


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
        if line.rstrip().endswith(OUR_MARK):
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
