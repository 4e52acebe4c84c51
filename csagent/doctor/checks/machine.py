"""Disk, SELinux, clock: what keeps a right value from being written, or from being believed."""

from __future__ import annotations

import os
import re
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from csagent.apply import ssh_keys
from csagent.discovery.leases.belief import duration, is_over
from csagent.doctor.checks import renewal
from csagent.doctor.checks.last_pass import SET_CLOCK, SLACK, is_to_come
from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.model import Lease
from csagent.state.instances import STATE
from csagent.state.status_files import STATUS
from csagent.system.accounts import PASSWD, SHADOW
from csagent.system.files import lines_of
from csagent.system.mounts import without_servers
from csagent.system.selinux import ENFORCE
from csagent.system.tree import Step

NEEDED = 1 << 10  # KiB: what a pass writes is a few kilobytes, and a file system needs room to turn round
LITTLE = 16 << 10
FULL_SHARE, FILLING_SHARE = 8, 4  # of a small file system (a /run of 2 MiB) this part
FEW_INODES = 100
RUN = os.path.dirname(STATUS)
HOLDERS = {"/etc": "accounts", STATE: "csagent's memory", RUN: "the record of the pass"}
DENIALS_SHOWN = 3
DENIAL = re.compile(
    r'avc:\s+denied\s+\{ ([^}]{1,80})\}.*?comm="([^"]{1,32})"(?:.*?(?:path|name)="([^"]{1,120})")?'
)
WRITERS = ("csagent", "chpasswd", "restorecon")
EPOCH = 1_700_000_000  # November 2023: csagent is younger than that
CLOCK_FILE = "/usr/lib/clock-epoch"


class Space(NamedTuple):
    """One line of df: what the mount point has, and how much of it is left."""

    total: int
    left: int
    mount: str


# --- disk ---


def disk(situation: Situation) -> Iterator[Finding]:
    """Whether there is room, and the right to write, where csagent writes."""
    if situation.tree:
        yield Finding("disk", NOTE, "not seen: this is a tree")
        return
    home = situation.account.home if situation.account is not None else "/root"
    holders = {_that_is_there(situation, path): what for path, what in HOLDERS.items()}
    paths = [*holders, _without_links(situation, home or "/")]
    space = parse_df(situation.ask("df", "-P", "-k", *paths) or "")
    inodes = parse_df(situation.ask("df", "-P", "-i", *paths) or "")
    mounts = parse_mounts(situation.read("/proc/mounts") or "")
    good = True
    for mount, held in _by_mount(paths, mounts).items():
        what = ", ".join(holders.get(path, "keys") for path in held)
        for finding in _mount(mount, what, mounts.get(mount, ()), space.get(mount), inodes.get(mount)):
            good = False
            yield finding
    if not space and not mounts:
        yield Finding("disk", NOTE, "not seen: df and /proc/mounts say nothing")
    elif not space:
        saw = f"not seen: how much room there is in {', '.join(paths)}, as df says nothing"
        yield Finding("disk", NOTE, saw)
    elif good:
        yield Finding("disk", OK, f"room and the right to write in {', '.join(paths)}")


def _that_is_there(situation: Situation, path: str) -> str:
    """A directory, or before the first pass the one that it will be made in; without links on the way."""
    path = _without_links(situation, path)
    while path != "/" and not situation.system.tree.exists(path):
        path = os.path.dirname(path)
    return path


def _without_links(situation: Situation, path: str) -> str:
    """The way to it without links; as it is where there is none, or it lies on a server."""
    steps: List[Step] = []
    try:
        directory, name = without_servers(situation.system).tree.resolve(path, visit=steps.append)
    except OSError:
        return path
    os.close(directory)
    above = next(step.path for step in reversed(steps) if step.descriptor is not None)
    return os.path.normpath(os.path.join(above, name))


def _mount(
    mount: str, what: str, options: Tuple[str, ...], space: Optional[Space], inodes: Optional[Space]
) -> Iterator[Finding]:
    means = f"csagent cannot write there: {what}"
    if "ro" in options:
        # The second is for a bind mount: an overlay refuses the first since util-linux 2.41.
        again = f"mount -o remount,rw {mount} || mount -o remount,bind,rw {mount}"
        advice = f"dmesg | grep -i -e remount -e error; then: {again}"
        yield Finding("disk", PROBLEM, f"{mount} is read-only", means, advice)
    filling = f"it is filling up: {what}"
    advice = f"du -xh {mount} | sort -h | tail"
    if space is not None and space.total and space.left < min(LITTLE, space.total // FILLING_SHARE):
        state = PROBLEM if space.left < max(1, min(NEEDED, space.total // FULL_SHARE)) else WARNING
        saw = f"{mount} has {space.left} KiB left"
        yield Finding("disk", state, saw, means if state == PROBLEM else filling, advice)
    if inodes is not None and inodes.total and inodes.left < FEW_INODES:
        state = PROBLEM if inodes.left == 0 else WARNING
        advice = f"du --inodes -x {mount} | sort -n | tail"
        saw = f"{mount} has {inodes.left} inodes left"
        yield Finding("disk", state, saw, means if state == PROBLEM else filling, advice)


def _by_mount(paths: List[str], mounts: Dict[str, Tuple[str, ...]]) -> Dict[str, List[str]]:
    """The paths by the mount point that holds them."""
    found: Dict[str, List[str]] = {}
    for path in paths:
        holders = [one for one in mounts if path == one or path.startswith(one.rstrip("/") + "/")]
        found.setdefault(max(holders, key=len, default="/"), []).append(path)
    return found


def parse_df(text: str) -> Dict[str, Space]:
    """``df -P``: by mount point; a file system that does not count (btrfs and its inodes) says 0 or -."""
    found: Dict[str, Space] = {}
    for line in lines_of(text)[1:]:
        words = line.split(None, 5)
        if len(words) == 6 and words[1].isdigit() and words[3].lstrip("-").isdigit():
            found[words[5]] = Space(int(words[1]), max(0, int(words[3])), words[5])
    return found


def parse_mounts(text: str) -> Dict[str, Tuple[str, ...]]:
    """/proc/mounts: options by mount point, the last of several on one; \\040 is a blank (fstab(5))."""
    found: Dict[str, Tuple[str, ...]] = {}
    for line in lines_of(text):
        words = line.split()
        if len(words) >= 4:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), words[1])
            found[point] = tuple(words[3].split(","))
    return found


# --- SELinux ---


def selinux(situation: Situation) -> Iterator[Finding]:
    """Whether it is enforcing, has denied csagent anything, and whether labels are as the policy wants."""
    if situation.tree:
        yield Finding("selinux", NOTE, "not seen: this is a tree")
        return
    enforce = (situation.read(ENFORCE) or "").strip()
    if enforce not in ("0", "1"):
        yield Finding("selinux", OK, "none")
        return
    enforcing = enforce == "1"
    yield Finding("selinux", OK, "enforcing" if enforcing else "permissive: it denies nothing")
    labelled = [PASSWD, SHADOW]
    if situation.account is not None:
        keys = ssh_keys.path(situation.account)
        labelled += [os.path.dirname(keys), keys]
    for path, now, wanted in parse_labels(situation.ask("matchpathcon", "-V", *labelled) or ""):
        means = (
            f"the policy wants {wanted}; sshd and the login programs are denied what is labelled otherwise"
        )
        state = PROBLEM if enforcing else WARNING
        yield Finding("selinux", state, f"{path} is labelled {now}", means, f"restorecon -RFv {path}")
    if not situation.root:
        yield Finding("selinux", NOTE, "not seen: denials (this needs root)")
        return
    said = situation.ask("ausearch", "-m", "AVC", "-ts", "boot")
    if said is None:
        yield Finding("selinux", NOTE, "no denials on record", "or ausearch (audit) is not installed")
        return
    denials = parse_denials(said)
    for text in denials[:DENIALS_SHOWN]:
        advice = "restorecon -RFv /etc/csagent /var/lib/csagent /run/csagent /usr/bin/csagent"
        yield Finding("selinux", PROBLEM if enforcing else WARNING, text, "csagent was kept from it", advice)
    if not denials:
        yield Finding("selinux", OK, "has denied csagent nothing since boot")


def parse_labels(text: str) -> List[Tuple[str, str, str]]:
    """``matchpathcon -V``: (path, context, context it should have), of those that are wrong."""
    return re.findall(r"^(\S+) has context (\S+), should be (\S+)$", text, re.MULTILINE)


def parse_denials(text: str) -> List[str]:
    """What csagent, or what it starts, was denied: one line each, no repeats."""
    found: List[str] = []
    for line in lines_of(text):
        match = DENIAL.search(line)
        if match is None:
            continue
        what, who, path = match.groups()
        if who in WRITERS or "csagent" in (path or ""):
            found.append(f"denied {who}: {what.strip()} {path or ''}".strip())
    return list(dict.fromkeys(found))


# --- clock ---


def clock(situation: Situation) -> Iterator[Finding]:
    """A clock that is far off makes every lease expired and every account old."""
    if situation.tree:
        return
    now = situation.system.clock.now()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    epoch = float(EPOCH)
    if situation.system.live:
        status = situation.system.tree.stat(CLOCK_FILE)
        epoch = max(epoch, status.st_mtime if status is not None else 0.0, os.stat(__file__).st_mtime)
    if now < epoch - SLACK:
        means = (
            "that is before csagent itself was made: leases, passwords' ages and certificates are misjudged"
        )
        yield Finding("clock", PROBLEM, f"{shown} by the clock", means, SET_CLOCK)
        return
    expired = _expired_with_address(situation)
    if expired is not None:
        ago = duration(now - (expired.expires or 0.0))
        means = (
            f"{expired.interface} still has its address, and its lease expired {ago} ago: either its client "
            "has died, or this clock is ahead"
        )
        renew = f"where the clock is right: {renewal.command(expired)}"
        yield Finding("clock", WARNING, f"{shown} by the clock", means, f"{SET_CLOCK}; {renew}")
        return
    if is_to_come(situation):
        means = "it does not say which of the two is wrong: see the area last pass above"
        yield Finding("clock", NOTE, f"{shown} by the clock, and the last pass ended later", means)
        return
    yield Finding("clock", OK, f"{shown[:10]} by the clock, and no lease or pass speaks against it")


def _expired_with_address(situation: Situation) -> Optional[Lease]:
    """The lease of an address that a NIC still has, and that is over by the clock."""
    now = situation.system.clock.now()
    return next((lease for lease in situation.found.leases if is_over(lease, now)), None)
