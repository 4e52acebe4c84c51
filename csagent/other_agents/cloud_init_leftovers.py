"""What cloud-init leaves on a machine that is moved to csagent, and the command that removes each of it.

Some of it stays in use after the package has gone: a network configuration for the template's MAC address, an
option of sshd's, a line in fstab that wants cloud-init's unit. The names are those of 20.4 to 25.1.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent.other_agents import cloud_init
from csagent.plan import HOSTS, OUR_MARK
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
HOSTNAME = "/etc/hostname"
USER_DATA_RAN = "/var/lib/csagent/user-data"  # csagent's own: it writes some files by cloud-init's names
TEXT_LIMIT = 1 << 20

_UNIT = "|".join(map(re.escape, cloud_init.ALL_UNITS))
_WANTS_UNIT = re.compile(rf"^[^#\n]*x-systemd\.requires=({_UNIT})(?![\w.@-])", re.MULTILINE)
_OWN_NAME = re.compile(rf"^127\.0\.1\.1[ \t](?!.*{OUR_MARK}[ \t]*$)(.*)", re.MULTILINE)
_LOGIN_AS = re.compile(r"^[^#\n]*command=\"echo 'Please login as the user ", re.MULTILINE)


class CloudInitLeftover(NamedTuple):
    """Files of cloud-init's. `harm` says that something does not work as long as they are there.

    `remove` is for the builder of a template. On an instance it may cost a login, the network or what tells
    which user-data has run: then `here` is what its owner is told to do, "" for nothing.
    """

    paths: Tuple[str, ...]
    means: str
    remove: str
    harm: bool = False
    here: Optional[str] = None

    @property
    def on_an_instance(self) -> str:
        """The advice for a machine that goes on running."""
        return self.remove if self.here is None else self.here

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
    # Ubuntu's purge takes sshd's drop-in along (Launchpad 1968873).
    gently = "apt-get remove cloud-init" if debian else purge
    if installed:
        means = "csagent does without it; it may stay beside csagent, see docs/from-cloud-init.md"
        yield CloudInitLeftover((cloud_init.PROGRAM,), means, purge, here=gently)
    elif system.tree.exists(cloud_init.ETC):
        first = f"{purge}; " if debian else ""
        means = "nothing reads it any more"
        remove = f"rm -rf {cloud_init.ETC}"
        yield CloudInitLeftover((cloud_init.ETC,), means, f"{first}{remove}", here=remove)


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
            "it stays in force, mostly for one MAC address, which no other instance has: on an instance it"
            " may be all there is; in a template put a configuration for any NIC in its place, see"
            " docs/from-cloud-init.md"
        )
        yield CloudInitLeftover((path,), means, f"rm {path}", here="")


def _logins(system: "System") -> Iterator[CloudInitLeftover]:
    """What decides who gets in. Where csagent has run user-data, files of these names may be its own."""
    if "# Created by cloud-init" in _text(system, SUDOERS):
        means = "its accounts become root without a password; keep it for those that shall"
        lines = f"take out the lines of others: grep -n '^[^#]' {SUDOERS}"
        yield CloudInitLeftover((SUDOERS,), means, lines)
    if system.tree.exists(USER_DATA_RAN):
        return
    if system.tree.exists(SSHD):
        said = " ".join(_text(system, SSHD).split())[:80]
        means = f"sshd goes on with what it says, which may be what lets somebody in: {said}"
        look = (
            "sshd -T | grep passwordauthentication; let another file say what is to stay before this one goes"
        )
        yield CloudInitLeftover((SSHD,), means, f"rm {SSHD}", here=look)
    if cloud_init.is_installed(system):
        return  # a pass replaces these lines
    near = without_servers(system)  # of a home on a server, that is gone, nobody would be told
    homes = {account.home for account in accounts.passwd(system) if account.uid == 0}
    for home in sorted(homes):
        path = f"{home.rstrip('/')}/.ssh/authorized_keys"
        if _LOGIN_AS.search(_text(near, path)):
            means = "sshd takes a key's first line, and this one only says to log in as somebody else"
            remove = f"sed -i '/Please login as the user/d' {shlex.quote(path)}"
            yield CloudInitLeftover((path,), means, remove, harm=True)


def _hosts(system: "System") -> Iterator[CloudInitLeftover]:
    """csagent's own line stays, and one that names this machine as it is called now."""
    text = _text(system, HOSTS)
    if "manage_etc_hosts" not in text:
        return
    means, comments = "its comments say that cloud-init writes it anew", f"sed -i '/^#/d' {HOSTS}"
    named = [names.split() for names in _OWN_NAME.findall(text)]
    if not named or any(_text(system, HOSTNAME).strip() in names for names in named):
        yield CloudInitLeftover((HOSTS,), means, comments)
        return
    means = f"{means}, and 127.0.1.1 names an earlier machine"
    remove = f"sed -i '/^#/d; /^127\\.0\\.1\\.1[[:blank:]]/{{/{OUR_MARK}[[:blank:]]*$/!d}}' {HOSTS}"
    yield CloudInitLeftover((HOSTS,), means, remove)


def _state(system: "System") -> Iterator[CloudInitLeftover]:
    tree = system.tree
    names = [name for name in tree.names(STATE) if name != "instance"]
    names += [f"instance/{name}" for name in tree.names(f"{STATE}/instance")]
    if [name for name in names if name not in OF_COMPAT]:
        means = (
            "csagent knows by it which user-data cloud-init has run on this disk: an instance without it runs"
            " that again; in a template csagent seal removes it"
        )
        yield CloudInitLeftover((STATE,), means, f"rm -rf {STATE}", here="")


def _units(system: "System") -> List[str]:
    """Drop-ins, and links that may lead nowhere any more; while the package is there, they are in use."""
    if cloud_init.is_installed(system):
        return []
    drop_ins = [f"{unit}.d" for unit in cloud_init.ALL_UNITS]
    wants = [(directory, cloud_init.ALL_UNITS) for directory in system.tree.glob(f"{UNITS}/*.wants")]
    return [
        f"{directory}/{name}"
        for directory, known in ((UNITS, drop_ins), *wants)
        for name in system.tree.names(directory)
        if name in known
    ]


def _plain(paths: Sequence[str], means: str) -> Iterator[CloudInitLeftover]:
    if paths:
        yield CloudInitLeftover(tuple(paths), means, f"rm -r {' '.join(paths)}")


def _all(system: "System", patterns: Sequence[str]) -> List[str]:
    return [path for pattern in patterns for path in sorted(system.tree.glob(pattern))]


def _text(system: "System", path: str) -> str:
    return system.tree.read_text(path, TEXT_LIMIT) or ""
