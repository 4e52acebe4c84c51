"""What sealing leaves alone because it may be wanted, and an operator should look at."""

from __future__ import annotations

import re
from typing import Iterator

from csagent.apply import ssh_keys
from csagent.apply.authorized_keys import merge
from csagent.other_agents import cloud_init_leftovers
from csagent.seal import identity, login, units
from csagent.seal.context import KEEP, LOCK, Scene, Warning_

NETWORK_FILES = (
    "/etc/netplan/*.yaml",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/etc/systemd/network/*",
    "/etc/sysconfig/network/ifcfg-*",
)
SSHD_FILES = ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*.conf")
INITIATOR = "/etc/iscsi/initiatorname.iscsi"
UNSEEN = "could not be looked at"
SERVICE = "csagent.service"
# What a builder has put there for cloud-init to use: sealing leaves it.
BUILDERS = ("/var/lib/cloud/seed/*/*", "/var/lib/cloud/scripts/*/*")

_MAC = re.compile(
    r"^[^#\n]*?(?<![0-9A-Fa-f:])((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})(?![0-9A-Fa-f:])", re.MULTILINE
)
_HOST_KEY = re.compile(r"^[ \t]*HostKey[ \t=]+\"?([^\s\"]+)", re.MULTILINE | re.IGNORECASE)


def warnings(scene: Scene) -> Iterator[Warning_]:
    """One by one. What could not be looked at keeps a template from being clean, the others do not."""
    found = list(_warnings(scene))
    for base, reason in sorted(scene.overlooked.spared.items()):
        if not reason.endswith("when the power is"):
            yield Warning_(base, f"not looked at: {reason}")
    for path, reason in sorted(scene.overlooked.unseen.items()):
        yield Warning_(path, f"{UNSEEN}: {reason}")
    yield from found


def _warnings(scene: Scene) -> Iterator[Warning_]:
    tree = scene.system.tree
    sealed = {"root", scene.settings.user} if scene.choice.password != KEEP else set()
    ways = []
    for name in login.with_password(scene):
        if name not in sealed:
            ways.append(Warning_("/etc/shadow", f"the password of {name} opens every instance"))
    if not scene.choice.all_keys:
        ways += _owners_keys(scene)
    yield from ways
    if scene.choice.password == LOCK and "password" not in scene.choice.keep and not ways:
        yield from _shut_out(scene)
    for pattern in NETWORK_FILES:
        for path in tree.glob(pattern):
            for found in sorted(set(_MAC.findall(scene.text(path) or ""))):
                yield Warning_(path, f"names the MAC address {found}: an instance has another one")
    for pattern in SSHD_FILES:
        for path in tree.glob(pattern):
            for key in _HOST_KEY.findall(scene.text(path) or ""):
                if not re.fullmatch(r"/etc/ssh/ssh_host_\w+_key", key) and tree.exists(key):
                    yield Warning_(key, f"a host key that {path} names: all instances would answer with it")
    if login.maker_of_host_keys(scene.system) is None:
        what = "nothing makes SSH host keys at the first boot, and sshd does not start without"
        yield Warning_(f"/etc/systemd/system/{login.UNIT}", f"{what}: systemctl enable {login.UNIT}")
    yield from _of_cloud_init(scene)
    text = scene.text(INITIATOR) or ""
    if any(line.startswith("InitiatorName=") for line in text.split("\n")):
        yield Warning_(INITIATOR, "this machine's name to iSCSI targets: instances would share it")


def _of_cloud_init(scene: Scene) -> Iterator[Warning_]:
    """What is left of one that does not work here any more, but for what sealing removes itself."""
    tree = scene.system.tree
    if identity.cloud_init_at_boot(scene.system) is not None:
        return
    builders = any(any(tree.glob(pattern)) for pattern in BUILDERS)
    for leftover in cloud_init_leftovers.find(scene.system):
        path = leftover.paths[0]
        if path.startswith("/var/log/") or (path == cloud_init_leftovers.STATE and not builders):
            continue
        remove = scene.system.tree.advised(leftover.remove)
        yield Warning_(path, f"left of cloud-init: {leftover.means}: {remove}")


def _shut_out(scene: Scene) -> Iterator[Warning_]:
    """Passwords are locked and no key stays: somebody has to bring new ones at the first boot."""
    system, settings = scene.system, scene.settings
    by_cloud_init = identity.cloud_init_at_boot(system)
    if by_cloud_init is not None and by_cloud_init.writes_keys:
        return
    told = "nobody could log in to an instance: passwords are locked, no key is left, and"
    path = f"/usr/lib/systemd/system/{SERVICE}"
    if not units.installed(system, SERVICE):
        yield Warning_(path, f"{told} csagent, which sets CloudStack's, is not installed there or masked")
    elif not units.enabled(system, SERVICE):
        yield Warning_(path, f"{told} csagent does not start at boot: systemctl enable {SERVICE}")
    elif not (settings.password or settings.ssh_keys):
        yield Warning_("/etc/csagent/csagent.yaml", f"{told} password and ssh_keys are both false")


def _owners_keys(scene: Scene) -> Iterator[Warning_]:
    for account in scene.people:
        text = merge(login.authorized(scene, account) or "", ())
        count = sum(1 for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#"))
        if count:
            keys = "1 key" if count == 1 else f"{count} keys"
            yield Warning_(
                ssh_keys.path(account), f"{keys} of its owner open every instance (--all-keys removes them)"
            )
