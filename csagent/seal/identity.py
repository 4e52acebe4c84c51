"""Who a machine is to others: its host name, its machine id, what its network configuration is bound to."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Tuple

from csagent.apply.hostname import HOSTNAME, HOSTS, HOSTS_LIMIT, current, is_our_line
from csagent.apply.network import resolver
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager
from csagent.other_agents import cloud_config, cloud_init
from csagent.seal import running
from csagent.seal.context import TEMPLATE_NAME, Leftover, Scene
from csagent.seal.rewrite import rewriting
from csagent.system.tree import Step, Tree

if TYPE_CHECKING:
    from csagent.other_agents.cloud_init import CloudInit
    from csagent.system.seams import System

MACHINE_ID = "/etc/machine-id"
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
IFCFG = ("/etc/sysconfig/network-scripts", "ifcfg-*")
KEYFILES = ("/etc/NetworkManager/system-connections", "*.nmconnection")
NM_STATE = "/var/lib/NetworkManager"

_NETWORK_OFF_AT_BOOT = "network-config=disabled"
_IFCFG_IDENTITY = re.compile(r"^[ \t]*(?:HWADDR|UUID)[ \t]*=.*\n?", re.MULTILINE)
_KEYFILE_IDENTITY = re.compile(r"^[ \t]*mac-address[ \t]*=.*\n?", re.MULTILINE)


class AtRest(Tree):
    """A file system without what only a running machine has: /proc and /run are its builder's."""

    def resolve(
        self, path: str, *, follow: bool = True, visit: Optional[Callable[[Step], None]] = None
    ) -> Tuple[int, str]:
        """As `Tree.resolve`; nothing is in these two."""
        if path.split("/")[1:2] in (["proc"], ["run"]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return super().resolve(path, follow=follow, visit=visit)


def cloud_init_at_boot(system: "System") -> Optional["CloudInit"]:
    """The cloud-init that will work at the next boot; None where there is none, or something turns it off."""
    if not running.booted(system):
        system = system._replace(tree=AtRest(system.tree.root))
    found = cloud_init.cloud_init(system)
    return found if found is not None and found.enabled else None


def makes_network_files(scene: Scene) -> bool:
    """Whether cloud-init writes its network files anew: "Disabling Network Configuration" in its manual."""
    system = scene.system
    paths = (cloud_init.ETC + "/cloud.cfg", *system.tree.glob(cloud_init.ETC + "/cloud.cfg.d/*.cfg"))
    for path in paths:
        network = cloud_config.load(scene.text(path)).get("network")
        off = isinstance(network, dict) and network.get("config") == "disabled"
        if path in scene.overlooked.unseen or off:
            return False
    if (
        running.booted(system)
        and _NETWORK_OFF_AT_BOOT in (system.tree.read_text("/proc/cmdline") or "").split()
    ):
        return False
    return cloud_init_at_boot(system) is not None


def hostname(scene: Scene) -> Iterator[Leftover]:
    """Our line in /etc/hosts, and /etc/hostname where it says something else than it shall."""
    yield from rewriting(scene, HOSTS, without_our_line, "csagent's line", limit=HOSTS_LIMIT)
    name, wanted = current(scene.system), scene.choice.hostname
    if name == wanted or (not name and wanted == TEMPLATE_NAME):
        return
    detail = f"{name} becomes {wanted}" if name else f"becomes {wanted}"
    yield from rewriting(scene, HOSTNAME, lambda _text: wanted + "\n", detail, create=True)


def without_our_line(hosts: str) -> str:
    """The text of /etc/hosts without the line that csagent wrote."""
    return "".join(line for line in io.StringIO(hosts) if not is_our_line(line))


def machine(scene: Scene) -> Iterator[Leftover]:
    """/etc/machine-id becomes an empty file; D-Bus's own copy goes, since systemd would take it from there.

    Empty and neither missing nor "uninitialized" (machine-id(5), "First boot semantics"): either of those
    makes the next boot a first one, which presets all units anew, so that one that a builder has turned off
    may come back, and may let systemd-firstboot ask for a locale on a console that nobody watches.
    """
    tree = scene.system.tree
    yield from scene.remove("/var/lib/dbus", "machine-id")
    status = tree.stat(MACHINE_ID)
    if status is not None:
        yield from scene.empty("/etc", "machine-id")
    elif any(tree.exists(path) for path in SYSTEMD):

        def create() -> None:
            tree.write(MACHINE_ID, b"", 0o444)

        yield Leftover(MACHINE_ID, "create", create, 0, "missing, which makes systemd ask questions")


def network(scene: Scene) -> Iterator[Leftover]:
    """What NetworkManager keeps by machine, and the lines that bind a configuration to one NIC.

    CloudStack's guide: "it is mandatory to take unique identification out of the interface configuration".
    """
    yield from _ours(scene)
    ground = scene.remove(NM_STATE, "*")
    yield from (leftover for leftover in ground if not leftover.path.endswith("/NetworkManager-intern.conf"))
    for path in _files(scene, *IFCFG):
        if not path.endswith("/ifcfg-lo"):
            yield from rewriting(scene, path, _without(_IFCFG_IDENTITY), "HWADDR and UUID lines")
    for path in _files(scene, *KEYFILES):
        if fnmatch.fnmatchcase(path, networkmanager.PATTERN):
            continue
        yield from rewriting(scene, path, _without(_KEYFILE_IDENTITY), "mac-address lines")


def _ours(scene: Scene) -> Iterator[Leftover]:
    """What csagent wrote for the NICs of this machine; what it remembers of it goes with its state."""
    for pattern in (networkd.PATTERN, networkmanager.PATTERN, ifupdown.PATH, ifupdown.SCRIPT):
        base, _, name = pattern.rpartition("/")
        yield from scene.remove(base, name)
    yield from rewriting(scene, resolver.PATH, resolver.without_block, "csagent's name servers")


def _files(scene: Scene, base: str, pattern: str) -> Iterator[str]:
    ground = scene.ground(base)
    yield from (ground.path(one.name) for one in ground.find(pattern) if not one.name.startswith("."))


def _without(lines: "re.Pattern[str]") -> Callable[[str], str]:
    return lambda text: lines.sub("", text)
