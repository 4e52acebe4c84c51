"""A Debian 12 whose SELinux enforces: both sources, a document, and the labels of what was written."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from support.debian_image import SELINUX_LINE, Installed, build_package, installed
from support.replace_fields import replace
from support.requirements import require
from support.vm_cloud import describe, make_drive
from support.vm_machine import Control, Machine

from csagent.lab.router import LabRouter
from csagent.lab.vm.machine import Template, killed_at_end
from csagent.lab.vm.namespace import Namespace

pytestmark = [pytest.mark.vm, pytest.mark.root]

TOOLS = ("mmdebstrap", "dpkg-buildpackage", "qemu-system-x86_64", "genisoimage", "unshare", "nsenter", "ip")
SECONDS = 1200.0  # of the guest's clock, at most
DOCUMENT = b"""\
#cloud-config
users:
  - default
  - name: deploy
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys:
      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVYQU1QTEVFWEFNUExFRVhBTVBMRUVYQU1QTEVFWEFN deploy@example
write_files:
  - {path: /etc/motd, content: EXAMPLE}
  - {path: /home/deploy/.config/app/settings, owner: "deploy:deploy", defer: true, content: EXAMPLE}
  - {path: /etc/systemd/system/demo.service, content: "[Service]\\nExecStart=/usr/local/bin/demo\\n"}
  - {path: /usr/local/bin/demo, permissions: "0755", content: "#!/bin/sh\\nexit 0\\n"}
ssh_pwauth: false
timezone: Europe/Berlin
bootcmd: [echo bootcmd >> /var/tmp/order]
runcmd:
  - systemctl start demo.service && echo runcmd >> /var/tmp/order
"""
# Where any of it writes.
WRITTEN = "/etc /root /home /usr/local /var/lib /var/log/csagent-user-data.log"
# restorecon, which a unit with NoNewPrivileges= may not give a domain of its own: it goes on in csagent's.
KNOWN = {("nnp_transition", "setfiles_t")}


class Enforcing(Installed):
    """An image that is booted with SELinux."""

    def template(self, line: str) -> Template:
        """As the lab's machines take it."""
        return super().template(f"{line} {SELINUX_LINE}")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[Control, Machine]]:
    """A machine that has booted with a router and a config drive, and has run the document."""
    require(TOOLS, "boots virtual machines")
    directory = tmp_path_factory.mktemp("selinux")
    (directory / "deb").mkdir()
    image = Enforcing(*installed([build_package(directory / "deb")], selinux=True))
    cloud = replace(describe("vm-1", 1), user_data=DOCUMENT)
    with Namespace() as namespace:
        drive = make_drive(directory, cloud)
        machine = Machine(
            image, directory, namespace, uuid=cloud.instance_id, drive=drive, control=True, steadily=False
        )
        router = LabRouter(cloud, address="127.0.0.1", port=80, password_port=8080)
        namespace.call(router.start)
        try:
            with killed_at_end(machine):
                machine.start()
                with machine.shell() as shell:
                    shell.run(f"csagent --quiet status --wait {SECONDS:g} --user-data", SECONDS + 10)
                    yield shell, machine
        finally:
            router.stop()


def test_all_of_it_is_applied(guest: Tuple[Control, Machine]) -> None:
    """From both places, with the policy enforced, and the document has run to its end."""
    shell, _machine = guest
    assert shell.run("cat /sys/fs/selinux/enforce") == "1"
    status: Dict[str, Any] = json.loads(shell.run("csagent status --json"))
    states = {datum: entry["state"] for datum, entry in status["data"].items()}
    assert states.pop("network") == "absent"
    assert set(states.values()) <= {"applied", "unchanged"}, states  # the first pass's, or a later one's
    outcomes = {place["place"]: place["outcome"] for place in status["places"]}
    assert outcomes["router 10.1.1.1"] == outcomes["drive /dev/sr1"] == "ok"
    assert status["user_data"]["state"] == "done", status["user_data"]
    assert shell.run("cat /var/tmp/order").split() == ["bootcmd", "runcmd"]


def test_no_denial_is_csagents(guest: Tuple[Control, Machine]) -> None:
    """Of all that was refused since the machine started, but for restorecon's own domain."""
    shell, _machine = guest
    said = shell.run("journalctl -b --no-pager -o cat _TRANSPORT=audit + _TRANSPORT=kernel")
    (domain,) = set(re.findall(r"^\S+?:\S+?:(\w+)", shell.run("ps -o label= -C csagent"), re.MULTILINE))
    found: Set[Tuple[str, str]] = set()
    for line in said.splitlines():
        if "avc:  denied" in line and (
            'comm="csagent"' in line or f"scontext=system_u:system_r:{domain}:" in line
        ):
            found.update(re.findall(r"denied  \{ (\S+) \}.* tcontext=\w+:\w+:(\w+)", line))
    assert "avc:  denied" in said, "the journal has no record of the policy's"
    assert found <= KNOWN, found - KNOWN


def test_the_weight_is_whole_once_sshd_is_up(guest: Tuple[Control, Machine]) -> None:
    """The policy lets csagent-weight.service speak to systemd: its command ends well, nothing is refused."""
    shell, _machine = guest
    said = shell.run(
        "systemctl show -p ActiveState,ExecMainStatus,ExecMainExitTimestampMonotonic csagent-weight"
    )
    weight = dict(line.split("=", 1) for line in said.splitlines())
    listening = shell.run("systemctl show --value -p ActiveEnterTimestampMonotonic ssh.service")
    assert (weight["ActiveState"], weight["ExecMainStatus"]) == ("active", "0")
    assert int(weight["ExecMainExitTimestampMonotonic"]) > int(listening) > 0
    assert shell.run("systemctl show --value -p StartupCPUWeight csagent.service").strip() == "100"
    group = shell.run("systemctl show --value -p ControlGroup csagent.service").strip()
    assert shell.run(f"cat /sys/fs/cgroup{group}/cpu.weight").strip() == "100"
    said = shell.run("journalctl -b --no-pager -o cat _TRANSPORT=audit + _TRANSPORT=kernel")
    assert not [line for line in said.splitlines() if "avc:  denied" in line and "systemctl" in line]


def test_what_was_written_has_the_policys_labels(guest: Tuple[Control, Machine]) -> None:
    """`restorecon -n` finds nothing: accounts, keys, files, directories, links, units, sudo rules, state."""
    shell, _machine = guest
    assert shell.run(f"restorecon -nvR {WRITTEN}", 120.0) == ""
    label = shell.run("stat -c %C /home/deploy/.config/app/settings /root/.ssh/authorized_keys")
    assert re.findall(r":(\w+):s0", label) == ["xdg_config_t", "ssh_home_t"]


def test_the_console_has_its_lines(guest: Tuple[Control, Machine]) -> None:
    """csagent-console.service may write to the console, and user-data's stages."""
    shell, machine = guest
    result = shell.run("systemctl show -p Result,ActiveState csagent-console.service").split()
    assert sorted(result) == ["ActiveState=inactive", "Result=success"]
    text = machine.text("serial").replace("\r", "")
    assert re.search(r"^csagent: vm-1 \([\d.]+\): SSH keys set, password set$", text, re.MULTILINE)
    assert "\ncsagent: user-data, final stage over: all done\n" in text
    assert "\n-----BEGIN SSH HOST KEY KEYS-----\n" in text


def test_the_advice_mends_a_label(guest: Tuple[Control, Machine]) -> None:
    """The command that doctor gives for a file with another label, run as it stands."""
    shell, _machine = guest

    def wrong() -> List[str]:
        told = json.loads(shell.run("csagent doctor --json || true", SECONDS))["findings"]
        return [one["advice"] for one in told if one["area"] == "selinux" and " is labelled " in one["saw"]]

    shell.run("chcon -t tmp_t /root/.ssh/authorized_keys")
    (advice,) = wrong()
    assert advice == "restorecon -RFv /root/.ssh/authorized_keys"
    shell.run(advice, 120.0)
    assert wrong() == []
