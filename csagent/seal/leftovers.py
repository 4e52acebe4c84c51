"""The leftovers of a machine that has run, family by family, in the order in which they go.

The order is the safety: a power cut on the way must leave a machine that boots and lets its owner in. What
nobody needs goes first; authorized_keys, the password and the SSH host keys go last. Sources: CloudStack's
guide "Creating a Linux template"; for what it is silent on, what the program that wrote it says.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterator, NamedTuple, Tuple

from csagent.discovery.leases import connman
from csagent.discovery.leases.belief import CLIENTS
from csagent.seal import identity, login
from csagent.seal.context import Leftover, Scene, emptying, removal
from csagent.state import applied, lock

HISTORIES = (
    *(".bash_history", ".bash_history-*", ".sh_history", ".ash_history", ".ksh_history", ".zsh_history"),
    *(".zhistory", ".histfile", ".history", ".tcsh_history", ".local/share/fish/fish_history"),
    *(".python_history", ".local/state/python_history", ".sqlite_history", ".mysql_history", ".psql_history"),
    *(".mariadb_history", ".rediscli_history", ".node_repl_history", ".irb_history", ".dbshell"),
    *(".lesshst", ".local/state/lesshst", ".viminfo", ".vim/.netrwhist", ".local/share/nano/search_history"),
    *(".nano/search_history", ".local/share/nvim/shada/*", ".local/state/nvim/shada/*", ".wget-hsts"),
    *(".local/share/mc/history", ".sudo_as_admin_successful", ".cache/motd.legal-displayed"),
)

# A log file that is written no more: logrotate's names, sysstat's and PostgreSQL's days.
_ROTATED = re.compile(
    r".*(?:\.\d{1,4}|[-.]\d{8}(?:[-_.]?\d+)*|\.old|\.gz|\.xz|\.bz2|\.zst|\.lz4)|sar?\d{2}(?:\d{6})?",
    re.ASCII,
)
_INSTALLERS = ("installer/", "anaconda/", "cloud-init/")
_JOURNAL = re.compile(r"journal/(?:[0-9a-f]{32}(?:\.[\w-]+)?|remote)(?:/.*)?", re.ASCII)

# /tmp keeps what belongs to programs that are running; systemd-tmpfiles clears these at each boot.
_OF_PROGRAMS = re.compile(
    r"(?:systemd-private-[^/]*|snap-private-tmp|\.(?:X11|ICE|XIM|font|Test)-unix)(?:/tmp)?"
)

# One lease file that is a server's: without it dhcpd does not start.
_OF_DHCPD = re.compile(r"/dhcpd6?\.leases~?\Z")

LEASES: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("/var/lib/dhcp", ("*.leases", "*.lease", "*.leases~", "dhclient*")),
    ("/var/lib/dhcp3", ("*.leases", "dhclient*")),
    ("/var/lib/dhclient", ("*",)),
    ("/var/lib/dhcpcd", ("*.lease", "*.lease6", "duid", "secret", "*.rdm_monotonic", "rdm_monotonic")),
    ("/var/lib/dhcpcd5", ("*.lease", "*.lease6", "duid", "secret")),
    ("/var/db/dhcpcd", ("*.lease", "*.lease6", "duid", "secret")),
    ("/etc", ("dhcpcd.duid", "dhcpcd.secret")),
    ("/var/lib/wicked", ("lease-*.xml", "duid.xml", "iaid.xml")),
    ("/var/lib/connman", ("ethernet_*_cable/*",)),
    ("/var/lib/dhcpv6", ("dhcp6c_duid",)),
)


class Thing(NamedTuple):
    """A family of leftovers."""

    name: str  # for --keep, and in JSON
    title: str
    why: str
    find: Callable[[Scene], Iterator[Leftover]]


def _caches(scene: Scene) -> Iterator[Leftover]:
    yield from scene.remove("/var/cache/apt", "archives/*.deb", "archives/partial/*", "*pkgcache.bin")
    for base in ("/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5", "/var/cache/PackageKit"):
        yield from scene.remove(base, "**")
    yield from scene.remove("/var/cache/zypp", "packages/**")


def _temporary(scene: Scene) -> Iterator[Leftover]:
    for base in ("/tmp", "/var/tmp"):  # noqa: S108 (the guest's, to be emptied)
        ground = scene.ground(base)
        for entry in ground.find("**"):
            if _OF_PROGRAMS.fullmatch(entry.name) or entry.name == "lost+found":
                continue
            yield removal(ground, entry)


def _mail(scene: Scene) -> Iterator[Leftover]:
    for base in ("/var/mail", "/var/spool/mail"):
        yield from scene.empty(base, "*")
    for home in scene.homes:
        yield from scene.remove(home, "mbox", "dead.letter")


def _cores(scene: Scene) -> Iterator[Leftover]:
    for base in ("/var/lib/systemd/coredump", "/var/crash", "/var/lib/apport/coredump", "/var/spool/abrt"):
        yield from scene.remove(base, "**")
    yield from scene.remove("/", "core", "core.[0-9]*")


def _histories(scene: Scene) -> Iterator[Leftover]:
    for home in scene.homes:
        yield from scene.remove(home, *HISTORIES)


def _known_hosts(scene: Scene) -> Iterator[Leftover]:
    for home in scene.homes:
        yield from scene.remove(home, ".ssh/known_hosts", ".ssh/known_hosts.old")


def _cloud_init(scene: Scene) -> Iterator[Leftover]:
    ground = scene.ground("/var/lib/cloud")
    for entry in ground.find("**"):
        # What a builder may have put there for cloud-init to use is configuration.
        if entry.name.split("/", 1)[0] not in ("seed", "scripts"):
            yield removal(ground, entry)
    yield from scene.remove("/var/log", "cloud-init.log*", "cloud-init-output.log*")
    if identity.makes_network_files(scene):
        yield from scene.remove("/etc/netplan", "50-cloud-init.yaml")
        yield from scene.remove("/etc/network/interfaces.d", "50-cloud-init", "50-cloud-init.cfg")
        yield from scene.remove("/etc/systemd/network", "10-cloud-init-*.network", "50-cloud-init-*.link")
        yield from scene.remove("/etc/NetworkManager/system-connections", "cloud-init-*.nmconnection")


def _logs(scene: Scene) -> Iterator[Leftover]:
    for base in ("/var/log", "/var/log/audit", "/var/log/journal"):  # often partitions of their own
        ground = scene.ground(base)
        below = base[len("/var/log/") :] + "/" if base != "/var/log" else ""
        for entry in ground.find("**"):
            name = below + entry.name
            rotated = entry.regular and _ROTATED.fullmatch(name.rsplit("/", 1)[-1])
            if rotated or _JOURNAL.fullmatch(name) or name.startswith(_INSTALLERS):
                yield removal(ground, entry)
            elif entry.regular and entry.status.st_size:
                yield emptying(ground, entry)
    yield from scene.remove("/var/lib/wtmpdb", "wtmp.db*")
    yield from scene.remove("/var/lib/lastlog", "lastlog2.db*")


def _script_markers(scene: Scene) -> Iterator[Leftover]:
    for path in applied.SCRIPT_MARKERS:
        base, _, name = path.rpartition("/")
        yield from scene.remove(base, name)
    for home in scene.homes:
        yield from scene.remove(home, applied.SCRIPT_MARKER_IN_HOME)


def _random_seed(scene: Scene) -> Iterator[Leftover]:
    yield from scene.remove("/var/lib/systemd", "random-seed")
    yield from scene.remove("/var/lib/urandom", "random-seed")
    yield from scene.remove("/var/lib", "random-seed")
    for base in ("/boot", "/boot/efi", "/efi"):
        yield from scene.remove(base, "loader/random-seed")


def _credential_secret(scene: Scene) -> Iterator[Leftover]:
    yield from scene.remove("/var/lib/systemd", "credential.secret")


def _udev_rules(scene: Scene) -> Iterator[Leftover]:
    # An empty one, a link to /dev/null or a directory of that name keeps udev from writing it: that stays.
    for leftover in scene.remove("/etc/udev/rules.d", "70-persistent-*.rules", "z25_persistent-*.rules"):
        if leftover.size:
            yield leftover


def _leases(scene: Scene) -> Iterator[Leftover]:
    said: Dict[str, Tuple[str, ...]] = {}
    for client in CLIENTS:
        for pattern in () if client is connman else client.FILES:
            base, _, name = pattern.rpartition("/")
            if not base.startswith("/run"):
                said[base] = (*said.get(base, ()), name)
    for base, names in (*said.items(), *LEASES):
        for leftover in scene.remove(base, *names):
            if not _OF_DHCPD.search(leftover.path):
                yield leftover


def _csagent(scene: Scene) -> Iterator[Leftover]:
    yield from scene.remove(applied.STATE, "**")
    for leftover in scene.remove(lock.RUN, "**"):
        if leftover.path != lock.LOCK:  # empty, and held while this is being done
            yield leftover


THINGS: Tuple[Thing, ...] = (
    Thing("package-caches", "package caches", "space, and what was installed when", _caches),
    Thing("temporary", "temporary files", "contents of /tmp and /var/tmp", _temporary),
    Thing("mail", "mail", "mail to the template's users", _mail),
    Thing("core-dumps", "core dumps", "memory of programs, with all that was in it", _cores),
    Thing("cloud-init", "cloud-init's state", "cloud-init would take an instance for this one", _cloud_init),
    Thing("logs", "logs", "what happened here happened to no instance", _logs),
    Thing("known-hosts", "known hosts", "where the template's users logged in to", _known_hosts),
    Thing("udev-rules", "udev's persistent names", "a new MAC address would become eth1", _udev_rules),
    Thing(
        "network-identity",
        "network identity",
        "a configuration with this machine's MAC address or UUID fits no other",
        identity.network,
    ),
    Thing(
        "leases", "DHCP leases and DUIDs", "an instance would ask for this address, as this client", _leases
    ),
    Thing("random-seed", "random seeds", "all instances would start from the same one", _random_seed),
    Thing(
        "credential-secret",
        "systemd's credential secret",
        "all instances could read each other's encrypted credentials",
        _credential_secret,
    ),
    Thing("hostname", "host name", "the name of the template is no instance's", identity.hostname),
    Thing("machine-id", "machine id", "must be every machine's own (journal, DHCP, D-Bus)", identity.machine),
    Thing(
        "script-markers",
        "markers of older guest scripts",
        "a password that equals the template's would be passed over",
        _script_markers,
    ),
    Thing("csagent", "csagent's state", "what was applied to this instance", _csagent),
    Thing("histories", "histories", "commands, and secrets typed into them", _histories),
    Thing(
        "authorized-keys",
        "authorized_keys",
        "keys from CloudStack belong to the instance that got them",
        login.keys,
    ),
    Thing("password", "passwords", "one password would open all instances", login.password),
    Thing("host-keys", "SSH host keys", "all instances would answer with the same ones", login.host_keys),
)
NAMES: Tuple[str, ...] = tuple(thing.name for thing in THINGS)
