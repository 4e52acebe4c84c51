"""Guests to be sealed, by situation: what has gathered on them, and what they are configured to be."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, List, Tuple

from csagent.apply.authorized_keys import merge
from csagent.apply.hostname import with_our_line
from csagent.seal import engine
from csagent.seal.context import Choice
from csagent.settings import Settings
from csagent.system.seams import System
from support.samples import make_key, make_tree

HASH = "$6$EXAMPLE$marker"
MAC = "02:00:4c:9f:00:05"
WANTED = "etc/systemd/system/multi-user.target.wants/csagent.service"
# csagent as its packages install it; who makes host keys is the tests' to say.
INSTALLED = {
    "usr/lib/systemd/system/csagent.service": "[Service]\n",
    "usr/lib/systemd/system/csagent-host-keys.service": "[Service]\n",
    WANTED: "",
}
UNIT = "etc/systemd/system/multi-user.target.wants/csagent-host-keys.service"
PLAIN = Choice()
CLOUDSTACKS = merge("", [make_key(1)])
Stamp = Tuple[int, bytes]

HOST_KEYS = {
    f"etc/ssh/ssh_host_{kind}_key{end}": "EXAMPLE\n" for kind in ("rsa", "ed25519") for end in ("", ".pub")
}
RUN_ANYWHERE = {
    **HOST_KEYS,
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n",
    "var/lib/systemd/random-seed": "seed",
    "var/lib/systemd/credential.secret": "EXAMPLE",
    "var/lib/csagent/latest-instance": "i-2-3-VM\n",
    "var/lib/csagent/instances/i-2-3-VM.json": "{}",
    "var/vmpasswordmd5sum": "d41d8cd98f00b204e9800998ecf8427e\n",
    "root/.password.md5": "d41d8cd98f00b204e9800998ecf8427e\n",
    "root/.bash_history": "mysql -pEXAMPLE\n",
    "root/.ssh/known_hosts": "example.org ssh-ed25519 AAAA\n",
    "root/.ssh/authorized_keys": CLOUDSTACKS,
    "home/alice/.zsh_history": "ls\n",
    "home/alice/.local/share/fish/fish_history": "- cmd: ls\n",
    "home/gone/.viminfo": "x",
    "etc/hosts": with_our_line("127.0.0.1\tlocalhost\n10.0.0.1\tother\n", "web01", None),
    "etc/shadow": f"root:{HASH}:19000:0:99999:7:::\nalice:!:19000:0:99999:7:::\n",
    "etc/shadow-": f"root:{HASH}old:19000:0:99999:7:::\n",
    "tmp/build/script.sh": "x",
    "var/tmp/.hidden": "x",
    "var/mail/root": "From: EXAMPLE\n",
    "var/crash/core.1": "x",
    "var/log/wtmp": "x",
    "var/log/lastlog": "x",
    "var/log/audit/audit.log": "x",
    "var/log/audit/audit.log.1": "x",
    "var/log/journal/0123456789abcdef0123456789abcdef/system.journal": "x",
    "var/log/installer/syslog": "x",
    UNIT: "",
    "usr/sbin/sshd": "",
}
DEBIAN = {
    **RUN_ANYWHERE,
    "var/lib/dhcp/dhclient.eth0.leases": "lease {}",
    "var/lib/dhcp/dhclient6.eth0.leases": "default-duid",
    "var/lib/dhcpcd/eth0.lease": "x",
    "var/lib/dhcpcd/duid": "x",
    "var/log/syslog": "x",
    "var/log/syslog.1": "x",
    "var/log/dpkg.log.2.gz": "x",
    "var/log/sysstat/sa21": "x",
    "etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM",
    "var/cache/apt/archives/a_1_all.deb": "x",
    "var/cache/apt/pkgcache.bin": "x",
}
EL = {
    **RUN_ANYWHERE,
    "usr/lib/systemd/system/sshd-keygen@.service": "",
    "etc/sysconfig/network-scripts/ifcfg-eth0": f"DEVICE=eth0\nHWADDR={MAC}\nUUID=1-2\nBOOTPROTO=dhcp\n",
    "etc/NetworkManager/system-connections/eth0.nmconnection": f"[ethernet]\nmac-address={MAC}\n[ipv4]\n",
    "var/lib/NetworkManager/internal-1-eth0.lease": "ADDRESS=10.1.1.5\n",
    "var/lib/NetworkManager/secret_key": "x",
    "var/lib/NetworkManager/seen-bssids": "x",
    "var/lib/dhclient/dhclient--eth0.lease": "lease {}",
    "var/log/messages-20260101": "x",
    "var/log/messages": "x",
    "var/log/anaconda/anaconda.log": "x",
    "var/cache/dnf/baseos/repomd.xml": "x",
    "var/lib/wicked/lease-eth0-dhcp-ipv4.xml": "x",
}
CLOUD_INIT = {
    **RUN_ANYWHERE,
    "usr/bin/cloud-init": "",
    "etc/cloud/cloud.cfg": "cloud_init_modules:\n - ssh\n",
    "var/lib/cloud/instance/boot-finished": "x",
    "var/lib/cloud/data/instance-id": "i-2-3-VM\n",
    "var/log/cloud-init.log": "x",
    "var/log/cloud-init-output.log": "x",
    "etc/netplan/50-cloud-init.yaml": f"macaddress: {MAC}\n",
}
# Nothing of this is a leftover, however much it looks like one.
CONFIGURATION = {
    "etc/ssh/sshd_config": "HostKey /etc/ssh/ssh_host_rsa_key\n",
    "etc/ssh/moduli": "x",
    "etc/hosts.allow": "x",
    "var/lib/cloud/seed/nocloud/meta-data": "x",
    "var/lib/cloud/scripts/per-boot/mine": "x",
    "var/lib/dhcp/dhcpd.leases": "a server's",
    "var/lib/NetworkManager/NetworkManager-intern.conf": "x",
    "etc/udev/rules.d/70-my-disks.rules": "x",
    "etc/udev/rules.d/75-persistent-net-generator.rules": "",
    "etc/csagent/csagent.yaml": "# nothing\n",
    "home/alice/.bashrc": "x",
    "home/alice/.ssh/id_ed25519": "EXAMPLE",
    "var/lib/dpkg/status": "x",
    "srv/tmp/file": "x",
}
SITUATIONS = {"debian": DEBIAN, "el": EL, "cloud-init": CLOUD_INIT}


def plant(root: Path, files: Dict[str, str]) -> System:
    """A guest's tree with csagent and these files in it."""
    if not (root / "etc").exists():
        make_tree(root)
        files = {**INSTALLED, **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for ssh in (root / "root/.ssh", root / "home/alice/.ssh"):
        if ssh.exists():
            ssh.chmod(0o700)
    return System.at(str(root))


def snapshot(root: Path) -> Dict[str, Stamp]:
    """Every path below a directory with its mode and content."""
    found: Dict[str, Stamp] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            found[f"/{path.relative_to(root)}"] = (mode, content)
    return found


def look(system: System, choice: Choice = PLAIN, mode: str = "check") -> engine.SealReport:
    return engine.look(system, Settings(), choice, mode)


def seal(system: System, choice: Choice = PLAIN, **options: Any) -> engine.SealReport:
    return engine.seal(system, Settings(), choice, **options)


def paths(report: engine.SealReport, *families: str) -> List[str]:
    return [
        step.leftover.path
        for family in report.families
        for step in family.steps
        if not families or family.thing.name in families
    ]


def changed(before: Dict[str, Stamp], after: Dict[str, Stamp]) -> List[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
