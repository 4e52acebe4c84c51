"""What cloud-init leaves behind, as doctor and seal name it, and that each command removes it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Dict

import pytest
from support.guests_to_seal import look, plant, seal
from support.healthy_machine import Patient
from support.samples import make_key

from csagent.other_agents import cloud_init_leftovers
from csagent.system.seams import System

LOGIN_AS = (
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo 'Please login as the user "
    '\\"debian\\" rather than the user \\"root\\".\';echo;sleep 10;exit 142" '
)
# By path: what stands there, and a word of why it matters. The package itself is gone.
LEFT = {
    "etc/cloud/cloud.cfg.d/90-site.cfg": ("datasource_list: [CloudStack]\n", "nothing reads it"),
    "etc/fstab": (
        "/dev/vda1 / ext4 defaults 0 1\n"
        "/dev/vdb /data auto defaults,nofail,x-systemd.requires=cloud-init.service,_netdev 0 2\n",
        "not mounted",
    ),
    "etc/netplan/50-cloud-init.yaml": ("network: {version: 2}\n", "any NIC"),
    "etc/network/interfaces.d/50-cloud-init": ("auto eth0\n", "any NIC"),
    "etc/systemd/network/10-cloud-init-eth0.network": ("[Match]\n", "any NIC"),
    "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection": ("[connection]\n", "any NIC"),
    "etc/ssh/sshd_config.d/50-cloud-init.conf": ("PasswordAuthentication no\n", "PasswordAuthentication no"),
    "etc/sudoers.d/90-cloud-init-users": (
        "# Created by cloud-init v. 22.4.2 on Wed, 01 Jul 2026\ndebian ALL=(ALL) NOPASSWD:ALL\n",
        "without a password",
    ),
    "root/.ssh/authorized_keys": (f"{LOGIN_AS}{make_key(1)}\n{make_key(2)}\n", "log in as somebody else"),
    "etc/hosts": (
        "# Your system has configured 'manage_etc_hosts' as True.\n"
        "127.0.1.1 old.example old\n127.0.0.1 localhost\n",
        "an earlier machine",
    ),
    "etc/apt/apt.conf.d/94cloud-init-config": ("APT {};\n", "apt goes on"),
    "etc/systemd/system/cloud-init.service.d/csagent-first.conf": ("[Unit]\n", "go with the package"),
    "var/lib/cloud/data/instance-id": ("i-2-3-VM\n", "run on this disk"),
    "var/log/cloud-init.log": ("x", "csagent seal removes it"),
}
FOLDERS = {
    "etc/cloud/cloud.cfg.d/90-site.cfg": "/etc/cloud",
    "etc/systemd/system/cloud-init.service.d/csagent-first.conf": "/etc/systemd/system/cloud-init.service.d",
    "var/lib/cloud/data/instance-id": "/var/lib/cloud",
}


@pytest.fixture
def left(tree: Path) -> System:
    """A Debian from which the package cloud-init was removed."""
    files = {path: text for path, (text, _why) in LEFT.items()}
    system = plant(tree, {**files, "usr/bin/dpkg": ""})
    wants = tree / "etc/systemd/system/cloud-init.target.wants"
    wants.mkdir()
    (wants / "cloud-final.service").symlink_to("/lib/systemd/system/cloud-final.service")
    return system


def named(system: System) -> Dict[str, str]:
    """What is found, by path, with what it means."""
    return {path: one.means for one in cloud_init_leftovers.find(system) for path in one.paths}


def test_every_leftover_is_named(left: System) -> None:
    """Each with what it does where it stays; what does harm comes first."""
    found = named(left)
    for path, (_text, why) in LEFT.items():
        assert why in found[FOLDERS.get(path, f"/{path}")], path
    assert "/etc/systemd/system/cloud-init.target.wants/cloud-final.service" in found
    assert len(found) == len(LEFT) + 1
    harms = [one.harm for one in cloud_init_leftovers.find(left)]
    assert harms == sorted(harms, reverse=True) and harms.count(True) == 2


def test_each_command_removes_what_it_names(left: System, tree: Path) -> None:
    """Run as they are, below the tree; the rest of a file stays, and then nothing is found.

    But for sudo rules: whose they are is seen, and their lines are an editor's to take out.
    """
    for one in cloud_init_leftovers.find(left):
        command = re.sub("apt-get purge cloud-init; |.*others: ", "", one.remove)
        command = re.sub(r"(?<= )/(?=etc|var|root)", f"{tree}/", command)
        done = subprocess.run(["sh", "-ec", command], check=True, timeout=600, stdout=subprocess.PIPE)
        assert (b"2:debian ALL" in done.stdout) == ("sudoers" in one.paths[0])
    assert set(named(left)) == {"/etc/sudoers.d/90-cloud-init-users"}
    assert (tree / "etc/fstab").read_text() == (
        "/dev/vda1 / ext4 defaults 0 1\n/dev/vdb /data auto defaults,nofail,_netdev 0 2\n"
    )
    assert (tree / "root/.ssh/authorized_keys").read_text() == f"{make_key(2)}\n"
    assert (tree / "etc/hosts").read_text() == "127.0.0.1 localhost\n"


def test_a_machine_without_it_has_nothing(system: System) -> None:
    """Nor has one with csagent-cloud-init-compat, which writes one file where cloud-init's state would be."""
    assert named(system) == {}
    plant(Path(system.tree.root), {"var/lib/cloud/instance/boot-finished": "x"})
    assert named(system) == {}


def test_what_csagent_has_written_by_those_names_is_its_own(tree: Path) -> None:
    """Where it has run user-data, such a file may be that document's: sshd's option, sudo rules, keys."""
    own = {
        path: LEFT[path][0]
        for path in ("etc/ssh/sshd_config.d/50-cloud-init.conf", "root/.ssh/authorized_keys")
    }
    own["etc/sudoers.d/90-cloud-init-users"] = "# Written by csagent for the user-data of this instance\n"
    system = plant(tree, own)
    assert set(named(system)) == {f"/{path}" for path in own if "sudoers" not in path}
    (tree / "var/lib/csagent/user-data").mkdir(parents=True)
    assert named(system) == {}


def test_where_cloud_init_is_still_installed(tree: Path) -> None:
    """The package comes first, with the command of apt or dnf; what goes with it is not told apart."""
    files = {
        "usr/bin/cloud-init": "",
        "etc/cloud/cloud.cfg": "",
        "lib/systemd/system/cloud-init.service": "",
        "etc/systemd/system/cloud-init.target.wants/cloud-init.service": "",
        "etc/fstab": LEFT["etc/fstab"][0],
    }
    system = plant(tree, files)
    plant(tree, {"etc/systemd/system/cloud-init.service.d/csagent-first.conf": ""})  # in use
    (first, second) = cloud_init_leftovers.find(system)
    assert (first.saw, first.remove) == ("cloud-init is still installed", "dnf remove cloud-init")
    assert second.paths == ("/etc/fstab",) and not second.harm  # its unit is there
    plant(tree, {"usr/bin/dpkg": ""})
    assert cloud_init_leftovers.find(system)[0].remove == "apt-get purge cloud-init"


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A machine in good health."""
    return Patient(tmp_path)


ON_AN_INSTANCE = {  # what may cost a login, the network, or have user-data run again
    "etc/cloud/cloud.cfg.d/90-site.cfg": "rm -rf /etc/cloud",
    "etc/netplan/50-cloud-init.yaml": "",
    "etc/network/interfaces.d/50-cloud-init": "",
    "etc/systemd/network/10-cloud-init-eth0.network": "",
    "etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection": "",
    "etc/ssh/sshd_config.d/50-cloud-init.conf": "sshd -T | grep passwordauthentication; let another file say"
    " what is to stay before this one goes",
    "var/lib/cloud/data/instance-id": "",
}


def test_a_machine_that_goes_on_is_told_to_remove_what_it_can_spare(left: System, patient: Patient) -> None:
    """Its logins, its network and what tells which user-data has run are not for doctor to have removed."""
    patient.write("/usr/bin/dpkg", "")
    for path, (text, _why) in LEFT.items():
        patient.write(f"/{path}", text)
    said = {one.saw.split()[0]: one.advice for one in patient.findings("other agents")}
    told = {one.paths[0]: one.remove for one in cloud_init_leftovers.find(left)}
    for path in LEFT:
        known = FOLDERS.get(path, f"/{path}")
        assert said[known] == ON_AN_INSTANCE.get(path, told[known]), path
        assert (said[known] == told[known]) == (path not in ON_AN_INSTANCE)
    patient.write("/usr/bin/cloud-init", "")
    (installed,) = [one for one in patient.findings("other agents") if "still installed" in one.saw]
    assert installed.advice == "apt-get remove cloud-init"  # purging takes sshd's drop-in along on Ubuntu


@pytest.mark.parametrize("line", ["127.0.1.1\tweb01.example web01\t# csagent", "127.0.1.1 web01"])
def test_the_machines_own_name_stays_in_etc_hosts(patient: Patient, tmp_path: Path, line: str) -> None:
    """csagent's line, and cloud-init's where it names the machine as it is called now."""
    others = "" if line == "127.0.1.1 web01" else "127.0.1.1 old.example old\n"
    patient.write("/etc/hosts", f"# manage_etc_hosts\n{others}{line}\n127.0.0.1 localhost\n")
    (found,) = [one for one in patient.findings("other agents") if "/etc/hosts" in one.saw]
    assert ("an earlier machine" in found.means) == bool(others)
    command = found.advice.replace(" /etc/hosts", f" {patient.root}/etc/hosts")
    subprocess.run(["sh", "-ec", command], check=True, timeout=600)
    assert (tmp_path / "etc/hosts").read_text() == f"{line}\n127.0.0.1 localhost\n"


def test_units_of_others_are_no_leftovers(tree: Path) -> None:
    """That their names begin as cloud-init's do makes them none of it."""
    wants = "etc/systemd/system/multi-user.target.wants"
    files = {
        f"{wants}/cloud-backup.service": "",
        f"{wants}/cloud-final.service": "",
        "etc/systemd/system/cloud-sql-proxy.service.d/a.conf": "",
        "etc/fstab": "/dev/vdb /data ext4 x-systemd.requires=cloud-backup.service 0 2\n",
    }
    assert set(named(plant(tree, files))) == {f"/{wants}/cloud-final.service"}


def test_several_files_are_one_leftover(tree: Path) -> None:
    """With one command."""
    system = plant(tree, {"var/log/cloud-init.log": "", "var/log/cloud-init-output.log": ""})
    (found,) = cloud_init_leftovers.find(system)
    assert found.saw == "/var/log/cloud-init.log and 1 more are left of cloud-init"
    assert found.remove == "rm -r /var/log/cloud-init.log /var/log/cloud-init-output.log"


def test_seal_names_what_it_leaves(left: System) -> None:
    """State and logs go; all else is among the warnings, with commands."""
    warnings = [warning for warning in look(left).warnings if "left of cloud-init" in warning.text]
    told = {warning.path for warning in warnings}
    assert told == {one.paths[0] for one in cloud_init_leftovers.find(left)} - {
        "/var/lib/cloud",
        "/var/log/cloud-init.log",
    }
    remove = f": by chroot {left.tree.root}: apt-get purge cloud-init; rm -rf /etc/cloud"
    assert any(warning.text.endswith(remove) for warning in warnings)
    seal(left)
    assert not (Path(left.tree.root) / "var/lib/cloud/data").exists()


def test_doctor_names_them(patient: Patient) -> None:
    """In the area of other agents: those that do harm are warnings, with the command."""
    for path in ("etc/fstab", "etc/netplan/50-cloud-init.yaml"):
        patient.write(f"/{path}", LEFT[path][0])
    said = [
        (finding.state, finding.saw, finding.advice)
        for finding in patient.findings("other agents")
        if "left of" in finding.saw
    ]
    assert said == [
        (
            "warning",
            "/etc/fstab is left of cloud-init",
            "sed -i 's/,\\?x-systemd.requires=cloud-init.service//' /etc/fstab",
        ),
        (
            "note",
            "/etc/netplan/50-cloud-init.yaml is left of cloud-init",
            "",
        ),
    ]
