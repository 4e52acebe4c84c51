"""What cloud-init leaves on a machine that is moved to csagent, and the command that removes each of it.

Some of it stays in use after the package has gone: a network configuration for the template's MAC address, an
option of sshd's, a line in fstab that wants cloud-init's unit. The names are those of 20.4 to 25.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Sequence, Tuple

from csagent.other_agents import cloud_init
from csagent.system import accounts
from csagent.system.mounts import without_servers

if TYPE_CHECKING:
    from csagent.system.seams import System

STATE = "/var/lib/cloud"
OF_COMPAT = ("instance/boot-finished",)  # csagent-cloud-init-compat's file there
LOGS = ("/var/log/cloud-init.log*", "/var/log/cloud-init-output.log*")
NETWORK = (
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/systemd/network/10-cloud-init-*.network",
    "/etc/systemd/network/50-cloud-init-*.link",
    "/etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
    "/etc/NetworkManager/conf.d/*cloud-init*.conf",
)
APT = ("/etc/apt/apt.conf.d/*cloud-init*",)
UNITS = "/etc/systemd/system"
SSHD = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
SUDOERS = "/etc/sudoers.d/90-cloud-init-users"
FSTAB = "/etc/fstab"
HOSTS = "/etc/hosts"
USER_DATA_RAN = "/var/lib/csagent/user-data"  # csagent's own: it writes some files by cloud-init's names
TEXT_LIMIT = 1 << 20

_WANTS_UNIT = re.compile(r"^[^#\n]*x-systemd\.requires=(cloud-[\w.-]+)", re.MULTILINE)
_LOGIN_AS = re.compile(r"^[^#\n]*command=\"echo 'Please login as the user ", re.MULTILINE)


class CloudInitLeftover(NamedTuple):
    """Files of cloud-init's. `harm` says that something does not work as long as they are there."""

    paths: Tuple[str, ...]
    means: str
    remove: str
    harm: bool = False

    @property
    def saw(self) -> str:
        """Which they are, for a sentence."""
        if self.paths == (cloud_init.PROGRAM,):
            return "cloud-init is still installed"
        if len(self.paths) > 1:
            return f"{self.paths[0]} and {len(self.paths) - 1} more are left of cloud-init"
        return f"{self.paths[0]} is left of cloud-init"


def find(system: "System") -> Tuple[CloudInitLeftover, ...]:
    """All of them, what does harm first; none on a machine that has never had cloud-init."""
    found = [
        *_configuration(system),
        *_fstab(system),
        *_network(system),
        *_logins(system),
        *_hosts(system),
        *_plain(_units(system), "drop-ins and links of units that go with the package"),
        *_plain(_all(system, APT), "apt goes on with these options"),
        *_state(system),
        *_plain(_all(system, LOGS), "what happened here happened to no instance; csagent seal removes it"),
    ]
    return tuple(sorted(found, key=lambda one: not one.harm))


def _configuration(system: "System") -> Iterator[CloudInitLeftover]:
    installed = cloud_init.is_installed(system)
    debian = system.tree.exists("/usr/bin/dpkg")
    purge = "apt-get purge cloud-init" if debian else "dnf remove cloud-init"
    if installed:
        means = "csagent does without it; it may stay beside csagent, see docs/from-cloud-init.md"
        yield CloudInitLeftover((cloud_init.PROGRAM,), means, purge)
    elif system.tree.exists(cloud_init.ETC):
        first = f"{purge}; " if debian else ""
        means = "nothing reads it any more"
        yield CloudInitLeftover((cloud_init.ETC,), means, f"{first}rm -rf {cloud_init.ETC}")


def _fstab(system: "System") -> Iterator[CloudInitLeftover]:
    """cloud-init up to 23 wrote x-systemd.requires=cloud-init.service into each line of its own."""
    wanted = sorted(set(_WANTS_UNIT.findall(_text(system, FSTAB))))
    for unit in wanted:
        directories = (*cloud_init.UNIT_DIRECTORIES, *cloud_init.UNIT_FILES)
        there = any(system.tree.exists(f"{directory}/{unit}") for directory in directories)
        means = f"a line wants {unit}: without cloud-init its file system is not mounted"
        remove = f"sed -i 's/,\\?x-systemd.requires={unit}//' {FSTAB}"
        yield CloudInitLeftover((FSTAB,), means, remove, harm=not there)


def _network(system: "System") -> Iterator[CloudInitLeftover]:
    for path in _all(system, NETWORK):
        means = (
            "it stays in force, mostly for one MAC address, which no other instance has: put a configuration"
            " for any NIC in its place, see docs/from-cloud-init.md"
        )
        yield CloudInitLeftover((path,), means, f"rm {path}")


def _logins(system: "System") -> Iterator[CloudInitLeftover]:
    """What decides who gets in. Where csagent has run user-data, files of these names may be its own."""
    if "# Created by cloud-init" in _text(system, SUDOERS):
        means = "its accounts become root without a password; keep it for those that shall"
        yield CloudInitLeftover((SUDOERS,), means, f"rm {SUDOERS}")
    if system.tree.exists(USER_DATA_RAN):
        return
    if system.tree.exists(SSHD):
        said = " ".join(_text(system, SSHD).split())[:80]
        means = f"sshd goes on with what it says: {said}"
        yield CloudInitLeftover((SSHD,), means, f"rm {SSHD}")
    if cloud_init.is_installed(system):
        return  # a pass replaces these lines
    near = without_servers(system)  # of a home on a server, that is gone, nobody would be told
    homes = {account.home for account in accounts.passwd(system) if account.uid == 0}
    for home in sorted(homes):
        path = f"{home.rstrip('/')}/.ssh/authorized_keys"
        if _LOGIN_AS.search(_text(near, path)):
            means = "sshd takes a key's first line, and this one only says to log in as somebody else"
            yield CloudInitLeftover((path,), means, f"sed -i '/Please login as the user/d' {path}", harm=True)


def _hosts(system: "System") -> Iterator[CloudInitLeftover]:
    if "manage_etc_hosts" in _text(system, HOSTS):
        means = "its comments say that cloud-init writes it anew, and 127.0.1.1 names an earlier machine"
        remove = f"sed -i '/^#/d; /^127\\.0\\.1\\.1[[:blank:]]/d' {HOSTS}"
        yield CloudInitLeftover((HOSTS,), means, remove)


def _state(system: "System") -> Iterator[CloudInitLeftover]:
    tree = system.tree
    names = [name for name in tree.names(STATE) if name != "instance"]
    names += [f"instance/{name}" for name in tree.names(f"{STATE}/instance")]
    if [name for name in names if name not in OF_COMPAT]:
        means = (
            "csagent knows by it which user-data cloud-init has run on this disk: remove it in a template,"
            " where csagent seal does, not on an instance"
        )
        yield CloudInitLeftover((STATE,), means, f"rm -rf {STATE}")


def _units(system: "System") -> List[str]:
    """Drop-ins, and links that may lead nowhere any more."""
    wants = () if cloud_init.is_installed(system) else system.tree.glob(f"{UNITS}/*.wants")
    directories = [UNITS, *wants]
    return [
        f"{directory}/{name}"
        for directory in directories
        for name in system.tree.names(directory)
        if name.startswith("cloud-") and (directory != UNITS or name.endswith(".d"))
    ]


def _plain(paths: Sequence[str], means: str) -> Iterator[CloudInitLeftover]:
    if paths:
        yield CloudInitLeftover(tuple(paths), means, f"rm -r {' '.join(paths)}")


def _all(system: "System", patterns: Sequence[str]) -> List[str]:
    return [path for pattern in patterns for path in sorted(system.tree.glob(pattern))]


def _text(system: "System", path: str) -> str:
    return system.tree.read_text(path, TEXT_LIMIT) or ""
