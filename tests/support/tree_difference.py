"""Two runs of one document in one tree, compared: what csagent left, and what real cloud-init left.

Left out is what says who has run (its own directories and logs), what differs from run to run (dates, salts,
caches, host keys), and what cloud-init does without having been asked.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

from support.user_data_state import is_installed, rows
from support.user_data_tree import Scratch

LEFT_OUT = (
    r"/(run|dev|proc|sys|tmp|opt/csagent|root/in)(/|$)",
    r"/var/lib/(cloud|csagent|systemd|apt|dpkg|ucf|pam|private)(/|$)",
    r"/var/(log|cache)(/|$)",
    r"/var/tmp/(apt|systemd)",
    r"/etc/(csagent|cloud|ld\.so\.cache|machine-id|\.pwd\.lock|netplan|udev)(/|$)",
    r"/etc/systemd/(system/[a-z-]+\.target\.wants|network)(/|$)",
    r"/etc/(passwd|shadow|group|gshadow|subuid|subgid)-?$",
    r"/etc/ssh/ssh_host_",
    r"/etc/network(/|$)",
    r"/etc/hosts$",  # compared line by line
    r"/etc/sudoers(\.d(/.*)?)?$",
    r"/etc/ssh/sshd_config",
    r"/etc/(hostname|mailname)$",
    r"/etc/alternatives(/|$)",
    r"/usr/(share/(doc|man|info)|lib/locale)(/|$)",
    r"/(lost\+found|srv/repo)(/|$)",
    r".*\.(pyc|dpkg-new|csagent-new)$",
)
LINES = (
    "/etc/ca-certificates.conf",
    "/etc/chrony/chrony.conf",
    "/etc/systemd/timesyncd.conf.d/cloud-init.conf",
)
"""Files that are compared by their lines, whatever their comments and their order."""

SOURCES = re.compile(r"/etc/apt/sources\.list(\.d/.*)?\Z")
"""Of these the comments are not compared: a suite that is not wanted is one."""

_LEFT_OUT = re.compile("|".join(f"(?:{pattern})" for pattern in LEFT_OUT))


def changed(scratch: Scratch) -> Iterator[str]:
    """Every path that was written, made or removed."""
    upper = scratch.directory / "upper"
    for base, directories, names in os.walk(upper):
        for name in [*directories, *names]:
            path = "/" + str((Path(base) / name).relative_to(upper))
            if not _LEFT_OUT.match(path):
                yield path


def seen(scratch: Scratch, path: str) -> Dict[str, Any]:
    """What a path is: kind, mode, owner by name, content."""
    found = scratch.path(path)
    if found is None:
        return {"kind": "absent"}
    status = found.lstat()
    users = {int(row[2]): name for name, row in rows(scratch, "/etc/passwd").items()}
    groups = {int(row[2]): name for name, row in rows(scratch, "/etc/group").items()}
    owner = f"{users.get(status.st_uid, status.st_uid)}:{groups.get(status.st_gid, status.st_gid)}"
    result: Dict[str, Any] = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": owner}
    if stat.S_ISLNK(status.st_mode):
        return {"kind": "link", "target": os.readlink(found)}
    if stat.S_ISDIR(status.st_mode):
        return {"kind": "directory", **result}
    if stat.S_ISREG(status.st_mode):
        content = found.read_bytes()
        if path.endswith("/authorized_keys"):
            content = b"\n".join(sorted(line for line in content.splitlines() if line.strip()))
        elif content[4086:4096] == b"SWAPSPACE2":
            content = b"swap of %d bytes" % len(content)  # it has a UUID of its own
        elif path == "/etc/fstab":
            content = content.replace(b"nobootwait", b"nofail")  # as cloud-init has it without systemd
            # Debian 13's marks what it mounts, and its swap no more: an option that says nothing.
            content = content.replace(b"\tsw,comment=cloudconfig\t", b"\tsw\t")
        elif SOURCES.match(path):
            content = b"\n".join(_lines(content))
        elif path in LINES:
            content = b"\n".join(sorted(_lines(content)))
        return {"kind": "file", "content": content, **result}
    return {"kind": "other", **result}


def _lines(content: bytes) -> List[bytes]:
    """Without comments, and with single blanks."""
    lines = (b" ".join(line.split()) for line in content.splitlines())
    return [line for line in lines if line and not line.startswith(b"#")]


def accounts(scratch: Scratch) -> Dict[str, Any]:
    """passwd, group and shadow by name: no dates, and of a hash only whether it is one."""
    found: Dict[str, Any] = {}
    groups = {int(row[2]): name for name, row in rows(scratch, "/etc/group").items()}
    for name, row in rows(scratch, "/etc/passwd").items():
        found[f"user {name}"] = [*row[2:3], groups.get(int(row[3])), *row[4:]]
    for name, row in rows(scratch, "/etc/group").items():
        found[f"group {name}"] = [row[2], sorted(one for one in row[3].split(",") if one)]
    for name, row in rows(scratch, "/etc/shadow").items():
        value = row[1]
        bare = value.lstrip("!")
        kind = ("locked " if value[:1] in "!*" else "") + ("hash" if bare.startswith("$") else "none")
        exact = bare if bare.startswith("$6$EXAMPLE") else ""
        found[f"shadow {name}"] = [kind, exact, row[2] == "0", *row[3:]]
    return found


def files_compared(scratch: Scratch) -> Dict[str, Any]:
    """Files that are compared by what they mean: no comments, no order of who wrote them."""
    found: Dict[str, Any] = {}
    for name in ("90-cloud-init-users",):
        text = scratch.text(f"/etc/sudoers.d/{name}")
        found["sudoers"] = sorted(line for line in text.splitlines() if line and not line.startswith("#"))
    found["hosts"] = [line.split() for line in _meant(scratch.text("/etc/hosts"))]
    options: Set[str] = set()
    for path in ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/50-cloud-init.conf"):
        options.update(_meant(scratch.text(path)))
    found["sshd"] = sorted(options)
    found["hostname file"] = _meant(scratch.text("/etc/hostname"))
    found["hostname"] = scratch.told("hostname.final").strip()
    # sgdisk and sfdisk align the ends of partitions otherwise: in MiB they are the same.
    found["disk"] = re.sub(
        r"\d{4,}", lambda match: f"{int(match[0]) // 2048} MiB", scratch.told("disk")
    ).splitlines()
    found["packages"] = [name for name in ("hello", "tree", "csdemo") if is_installed(scratch, name)]
    return found


def _meant(text: str) -> List[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def differences(ours: Scratch, theirs: Scratch) -> List[str]:
    """In what the two differ, a line each."""
    wrong: List[str] = []
    for path in sorted({*changed(ours), *changed(theirs)}):
        mine, other = seen(ours, path), seen(theirs, path)
        if mine != other and not _unasked(path, mine, other):
            keys = [key for key in {**mine, **other} if mine.get(key) != other.get(key)]
            told = [f"{key} {_short(mine.get(key))}, cloud-init {_short(other.get(key))}" for key in keys]
            wrong.append(f"{path}: {'; '.join(told)}")
    for look in (accounts, files_compared):
        mine, other = look(ours), look(theirs)
        for key in sorted({*mine, *other}):
            if mine.get(key) != other.get(key):
                wrong.append(f"{key}: {_short(mine.get(key))}, cloud-init {_short(other.get(key))}")
    return wrong


def _unasked(path: str, mine: Dict[str, Any], other: Dict[str, Any]) -> bool:
    """cloud-init makes an empty authorized_keys for root and the default user, asked or not."""
    if path.endswith("/.ssh/authorized_keys"):
        return not mine.get("content") and not other.get("content")
    return path.endswith("/.ssh") and mine["kind"] == "absent"


def _short(value: Any) -> str:
    return repr(value)[:160]
