"""The guest scripts that csagent replaces (field/cloudstack#9), what starts them, other agents.

They were copied into templates by hand, under many names and in many places: into /etc/init.d as
CloudStack's documentation has it, as DHCP or ifup hooks, as units, from rc.local or cron. In the places of
hooks and init scripts a file counts by what is in it, elsewhere by its name.
"""

from __future__ import annotations

import re
import shlex
import stat
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple

from csagent.state.applied import SCRIPT_MARKER_IN_HOME, SCRIPT_MARKERS
from csagent.system.mounts import without_servers

if TYPE_CHECKING:
    from csagent.system.seams import System

NAMED = re.compile(r"cloud(stack)?-(set-guest|get-vm-data)|get_password_from_domr", re.IGNORECASE)
# The header that asks for a password, and a line that starts one of the scripts; for grep -E, too.
ASKS = "DomU_Request"
LINE = f"^[^#]*({ASKS}|cloud(stack)?-(set-guest|get-vm-data)|get_password_from_domr)"
CONTENT = re.compile(LINE.replace("#", "#\\n").encode(), re.MULTILINE)
RUNS = re.compile(rb"^[ \t]*Exec\w+[ \t]*=.*", re.MULTILINE)  # a line of a unit
SIZE_LIMIT = 128 * 1024  # the longest of them has 12 kB

INIT = ("/etc/init.d", "/etc/rc.d/init.d")
UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
HOOKS = (  # directory, what runs what is in it, whether without an x bit too
    ("/etc/dhcp/dhclient-exit-hooks.d", "dhclient", True),
    ("/etc/dhcp/dhclient-enter-hooks.d", "dhclient", True),
    ("/etc/dhcp/dhclient.d", "dhclient", False),
    ("/etc/dhcp3/dhclient-exit-hooks.d", "dhclient", True),
    ("/etc/network/if-up.d", "ifup", False),
    ("/etc/NetworkManager/dispatcher.d", "NetworkManager", False),
    ("/etc/networkd-dispatcher/routable.d", "networkd-dispatcher", False),
    ("/var/lib/cloud/scripts/per-boot", "cloud-init, at every boot", False),
    ("/var/lib/cloud/scripts/per-instance", "cloud-init, once per instance", False),
    ("/etc/local.d", "local, at every boot", False),
    ("/etc/cron.hourly", "cron", False),
    ("/etc/cron.daily", "cron", False),
)
PROGRAMS = (
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib/systemd/scripts",
    "/usr/lib/cloudstack",
    "/opt",
    "/opt/cloud/bin",
    "/opt/cloudstack",
    "/root",
)
LINES = (  # file, what runs it, whether only with an x bit
    ("/etc/rc.local", "rc.local", True),
    ("/etc/rc.d/rc.local", "rc.local", True),
    ("/etc/dhcp/dhclient-exit-hooks", "dhclient", False),
    ("/etc/dhclient-exit-hooks", "dhclient", False),
    ("/sbin/ifup-local", "ifup", True),
    ("/etc/crontab", "cron", False),
    ("/etc/cron.d/*", "cron", False),
    ("/var/spool/cron/root", "cron", False),
    ("/var/spool/cron/crontabs/root", "cron", False),
)


class Script(NamedTuple):
    """A guest script that csagent replaces, or a line that starts one."""

    path: str
    what: str  # "password", "SSH keys", "password and SSH keys", ...
    started_by: str = ""  # "" where nothing that we know starts it
    remove: Tuple[str, ...] = ()  # the commands that do


class Agent(NamedTuple):
    """Another guest agent. `active` is whether it does anything that csagent does."""

    name: str
    path: str
    active: bool = False
    what: str = ""


def scripts(system: "System") -> Tuple[Script, ...]:
    """The scripts and what starts them, those that are started first."""
    looker = _Looker(system)
    for directory in INIT:
        for name in system.tree.names(directory):
            looker.init_script(f"{directory}/{name}", name)
    for directory in UNITS:
        for name in system.tree.names(directory):
            if name.endswith(".service"):
                looker.unit(f"{directory}/{name}", name)
    for directory, runner, always in HOOKS:
        for name in system.tree.names(directory):
            looker.hook(f"{directory}/{name}", name, runner, always)
    for path, runner, executable in LINES:
        for each in system.tree.glob(path):
            looker.lines(each, runner, executable)
    for directory in PROGRAMS:
        for name in system.tree.names(directory):
            if NAMED.search(name):
                looker.program(f"{directory}/{name}", name)
    return tuple(sorted(looker.found, key=lambda script: not script.started_by))


class _Looker:
    """Collects scripts, each file once however many paths lead to it."""

    def __init__(self, system: "System") -> None:
        self.system = system
        self.found: List[Script] = []
        self._seen: Set[Tuple[int, int]] = set()
        self._called: Dict[str, str] = {}  # what the lines and units name -> what starts it

    def init_script(self, path: str, name: str) -> None:
        """In /etc/init.d; it is started where a runlevel links to it."""
        content = self._content(path, name)
        if content is None:
            return
        links = [
            link
            for pattern in ("/etc/rc[2345].d/S*", "/etc/rc.d/rc[2345].d/S*")
            for link in self.system.tree.glob(pattern)
            if re.fullmatch(rf"S[0-9]*{re.escape(name)}", link.rsplit("/", 1)[1])
        ]
        debian = self.system.tree.exists("/usr/sbin/update-rc.d")
        off = f"update-rc.d -f {name} remove" if debian else f"chkconfig --del {name}"
        remove = (_rm(path), off) if debian else (off, _rm(path))
        whole = ASKS.encode() in content
        self._add(path, name, content, links[0] if links else "", remove, whole=whole)

    def unit(self, path: str, name: str) -> None:
        """A unit that starts one; it is started where another one wants it."""
        content = self._content(path, name)
        if content is None:
            return
        wants = self._wants(name)
        whole = all(CONTENT.search(line) for line in RUNS.findall(content))
        remove = (f"systemctl disable {name}", _rm(path))
        self._add(path, name, content, wants[0] if wants else "", remove, whole=whole)

    def _wants(self, name: str) -> List[str]:
        """The links of `systemctl enable`, whether or not their target can be seen from here."""
        tree = self.system.tree
        return [
            f"/etc/systemd/system/{directory}/{name}"
            for directory in tree.names("/etc/systemd/system")
            if directory.endswith((".wants", ".requires"))
            and tree.stat(f"/etc/systemd/system/{directory}/{name}", follow=False) is not None
        ]

    def hook(self, path: str, name: str, runner: str, always: bool) -> None:
        """A file in a directory whose files are all run."""
        content = self._content(path, name)
        if content is not None:
            started = runner if always or self._executable(path) else ""
            self._add(path, name, content, started, (_rm(path),), whole=ASKS.encode() in content)

    def lines(self, path: str, runner: str, executable: bool) -> None:
        """A file with a line that starts one, or that asks for a password itself."""
        content = self._read(path)
        if content is None or not CONTENT.search(content):
            return
        started = runner if not executable or self._executable(path) else ""
        self._add(path, path, content, started, (_rm(path),), whole=False)

    def program(self, path: str, name: str) -> None:
        """A file that is only there, unless one of the others names it."""
        content = self._read(path)
        if content is not None:
            self._add(path, name, content, self._called.get(name, ""), (_rm(path),), whole=True)

    def _add(
        self, path: str, name: str, content: bytes, started: str, remove: Tuple[str, ...], *, whole: bool
    ) -> None:
        """`whole` is whether all that is in the file is the script's; a file of its name is no other."""
        status = self.system.tree.stat(path)
        if status is None or (status.st_dev, status.st_ino) in self._seen:
            return
        self._seen.add((status.st_dev, status.st_ino))
        if started:
            for match in re.finditer(
                rb"[\w.-]*(?:cloud(?:stack)?-set-guest|get_password_from)[\w.-]*", content
            ):
                self._called.setdefault(match.group().decode("ascii", "replace"), path)
        if not whole and not NAMED.search(path.rsplit("/", 1)[1]):
            remove = (f"take out all that belongs to these lines: grep -nE '{LINE}' {shlex.quote(path)}",)
        self.found.append(Script(path, _what(name, content), started, remove))

    def _content(self, path: str, name: str) -> Optional[bytes]:
        """The content of what is one of the scripts by its name or by what is in it."""
        content = self._read(path)
        return content if content is not None and (NAMED.search(name) or CONTENT.search(content)) else None

    def _read(self, path: str) -> Optional[bytes]:
        try:
            return self.system.tree.read(path, SIZE_LIMIT)
        except OSError:
            return None

    def _executable(self, path: str) -> bool:
        status = self.system.tree.stat(path)
        return status is not None and bool(status.st_mode & stat.S_IXUSR)


def _rm(path: str) -> str:
    return f"rm {shlex.quote(path)}"


def _what(name: str, content: bytes) -> str:
    """What it sets, by its name, else by what is in it."""
    named = bool(NAMED.search(name)) and "get-vm-data" not in name
    text = name.lower() if named else content.decode("utf-8", "replace").lower()
    password = "password" in text or "domu_request" in text
    keys = any(word in text for word in ("sshkey", "public-keys", "public_keys", "authorized_keys"))
    both = [what for what, does in (("password", password), ("SSH keys", keys)) if does]
    return " and ".join(both) or ("credentials" if named else "a copy of what CloudStack says")


def markers(system: "System") -> Tuple[str, ...]:
    """The files in which the scripts remember the MD5 of the last password (field/cloudstack#7)."""
    in_homes = (f"/root/{SCRIPT_MARKER_IN_HOME}", *_homes(system))
    tree = without_servers(system).tree
    return tuple(path for path in (*SCRIPT_MARKERS, *in_homes) if tree.stat(path, follow=False))


def _homes(system: "System") -> Tuple[str, ...]:
    return tuple(f"/home/{name}/{SCRIPT_MARKER_IN_HOME}" for name in system.tree.names("/home"))


def agents(system: "System") -> Tuple[Agent, ...]:
    """afterburn, which writes keys and host name where its units are enabled, and QEMU's, which does not."""
    found: List[Agent] = []
    wanted = [
        name
        for directory in system.tree.names("/etc/systemd/system")
        if directory.endswith((".wants", ".requires"))
        for name in system.tree.names(f"/etc/systemd/system/{directory}")
    ]
    for path in ("/usr/bin/afterburn", "/usr/libexec/afterburn"):
        if system.tree.exists(path):
            units = {"afterburn-sshkeys": "SSH keys", "afterburn-hostname": "host name"}
            does = [what for unit, what in units.items() if any(name.startswith(unit) for name in wanted)]
            found.append(Agent("afterburn", path, bool(does), " and ".join(does)))
            break
    for path in ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"):
        if system.tree.exists(path):
            found.append(Agent("qemu-guest-agent", path))
            break
    return tuple(found)
