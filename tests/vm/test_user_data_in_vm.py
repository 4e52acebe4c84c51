"""A cluster node's document on a real machine, with a data disk: it is in its script when the power is cut.

The node has one NIC, on a network without DHCP whose addresses are on its config drive.

What a container with a real systemd shows is in tests/system/test_user_data_units.py and
test_user_data_boots.py; test_releases.py has a script from the virtual router and one from the drive. Here
are a kernel that has disks, and a power cut that loses what was not synced.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from support.debian_image import Installed
from support.replace_fields import replace
from support.vm_cloud import describe, make_drive
from support.vm_machine import Control, Machine

from csagent.lab.network_data import BY_DRIVE, CloudNetwork, CloudNic
from csagent.lab.vm import segment
from csagent.lab.vm.machine import killed_at_end
from csagent.lab.vm.namespace import Namespace
from csagent.lab.vm.segment import Segment

pytestmark = [pytest.mark.vm, pytest.mark.root]

PATIENCE = 300.0  # seconds of the guest's clock
DISK = 96 << 20  # bytes

# As the Cluster API's provider sends it, with a disk offering; kubeadm's stand-in is written by it.
NODE = """\
## template: jinja
#cloud-config

bootcmd:
  - echo bootcmd >> /var/tmp/order
  - until systemctl is-active ssh.service; do sleep 0.2; done
disk_setup:
  /dev/vdb: {table_type: gpt, layout: true, overwrite: false}
fs_setup:
  - {label: etcd_disk, filesystem: ext4, device: /dev/vdb, partition: auto, overwrite: false}
mounts:
  - [LABEL=etcd_disk, /var/lib/etcddisk]
write_files:
  - path: /run/kubeadm/kubeadm.yaml
    permissions: '0640'
    content: |
      nodeRegistration: {name: '{{ ds.meta_data.local_hostname }}', id: '{{ ds.meta_data.instance_id }}'}
  - path: /etc/systemd/system/kubelet.service
    content: |
      [Unit]
      After=multi-user.target
      [Service]
      ExecStart=/bin/sleep 1000000
      [Install]
      WantedBy=multi-user.target
users:
  - {name: capc, sudo: 'ALL=(ALL) NOPASSWD:ALL'}
runcmd:
  - echo runcmd >> /var/tmp/order
  - cp /run/kubeadm/kubeadm.yaml /var/lib/etcddisk/
  - systemctl enable --now kubelet.service
  - nohup sleep 1000001 >/dev/null 2>&1 &
  - echo EXAMPLE-output
  - touch /run/in-script
  - until test -e /run/never; do sleep 0.2; done
final_message: the node is up
"""
OTHER_MAC = "02:00:4c:9f:00:77"
ADDRESS, GATEWAY = "10.7.0.21", "10.7.0.1"
NIC = f"""
until ip -o -4 addr | grep -F ' {ADDRESS}/24'; do sleep 0.2; done
ip -4 route show default
"""
OWN_FILE = "/etc/systemd/network/04-own.network"
# networkd's own choice of a file, and csagent's before networkd is up.
OWN_MAC = f"""
nic=$(ip -o -4 addr | grep -F ' {ADDRESS}/24' | cut -d' ' -f2)
printf '[Match]\\nPermanentMACAddress={segment.MAC}\\n[Network]\\nDHCP=ipv4\\n' >{OWN_FILE}
ip link set "$nic" down
ip link set "$nic" address {OTHER_MAC}
ip link set "$nic" up
networkctl reload
until networkctl --lines=0 status "$nic" | grep -q 'Network File: {OWN_FILE}'; do sleep 0.2; done
python3 -I - "$nic" <<'END'
import sys
from csagent.apply.network import kernel
from csagent.apply.network.owners import networkd
from csagent.system.seams import System
link = kernel.look(System()).link(sys.argv[1])
print(link.mac, link.permanent, networkd._from_files(System(), link).against)
END
csagent network plan --json --wait 300
"""
SEEN = """
cat /var/tmp/order; echo ==
findmnt -no SOURCE,FSTYPE,LABEL /var/lib/etcddisk; echo ==
cat /var/lib/etcddisk/kubeadm.yaml; echo ==
systemctl is-active kubelet.service; pgrep -fc 'sleep 100000[1]'; echo ==
systemctl show --value -p ActiveEnterTimestampMonotonic ssh.service csagent-user-data-early.service; echo ==
systemctl show --value -p After ssh.service
"""


@contextlib.contextmanager
def booted(machine: Machine) -> Iterator[Control]:
    """Boot it, with its data disk."""
    disk = machine.directory / "data.raw"
    with open(disk, "ab") as stream:
        stream.truncate(DISK)
    machine.start("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe", *segment.devices())
    with machine.shell() as shell:
        yield shell


def ran(shell: Control) -> Dict[str, Any]:
    """The status of user-data, once all of it has ended."""
    wait = f"csagent status --wait {PATIENCE:.0f} --user-data --json"
    found: Dict[str, Any] = json.loads(shell.run(wait, PATIENCE + 30))["user_data"]
    return found


def seen(shell: Control) -> List[str]:
    return [block.strip() for block in shell.run(SEEN, check=False).split("==")]


def nic(shell: Control) -> Tuple[str, str]:
    """The name of the NIC that has the drive's address, and its default route, once it has it."""
    line, route = shell.run(NIC, PATIENCE).splitlines()
    return line.split()[1], route.strip()


def test_node_whose_power_is_cut(image: Installed, tmp_path: Path) -> None:
    """An empty disk is made and mounted, a unit enabled and started, sshd waits for none of it.

    bootcmd, which is the first step, waits for sshd. At the second boot the script is `interrupted`, the disk
    has its data, and nothing has run twice. The NIC has its name and its address again; one that was given
    another MAC address is known by its own, and left alone.
    """
    network = CloudNetwork((CloudNic(segment.MAC, BY_DRIVE, (f"{ADDRESS}/24",), (GATEWAY,)),))
    cloud = replace(describe("node-01", 21), user_data=gzip.compress(NODE.encode()), network=network)
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(Namespace())
        wire = stack.enter_context(namespace.call(lambda: Segment([GATEWAY])))
        machine = Machine(
            image,
            tmp_path,
            namespace,
            uuid=cloud.instance_id,
            network=False,
            drive=make_drive(tmp_path, cloud),
            control=True,
            steadily=False,
        )
        with killed_at_end(machine):
            with booted(machine) as shell:
                until = "until test -e /run/in-script; do sleep 0.2; done"
                shell.run(f"timeout {PATIENCE:.0f} sh -c '{until}'", PATIENCE + 30)
                order, disk, written, running, moments, after = seen(shell)
                assert order.split() == ["bootcmd", "runcmd"]
                assert disk.split() == ["/dev/vdb1", "ext4", "etcd_disk"]
                assert "name: 'node-01'" in written and cloud.instance_id in written
                assert running.split() == ["active", "1"]
                assert not [unit for unit in after.split() if unit.startswith("csagent-user-data")]
                sshd, early = (int(one) for one in moments.split())
                assert 0 < sshd < early
                before = nic(shell)
                assert before == (before[0], f"default via {GATEWAY} dev {before[0]} proto static metric 100")
                assert wire.answers(ADDRESS, PATIENCE)
                assert "csagent.service: 2." in shell.run(
                    "systemd-analyze security csagent.service | tail -1"
                )
                shell.run("sync /var/lib/etcddisk/kubeadm.yaml /var/tmp/order")
            machine.kill()
            with booted(machine) as shell:
                found = ran(shell)
                (part,) = found["parts"]
                assert (found["state"], part["keys"]["runcmd"]) == ("interrupted", "interrupted")
                assert part["keys"]["final_message"] == part["keys"]["fs_setup"] == "done", part
                assert "runcmd: interrupted" in shell.run("csagent status", check=False)
                order, disk, written, running, _moments, _after = seen(shell)
                assert order.split() == ["bootcmd", "runcmd", "bootcmd"]
                assert disk.split() == ["/dev/vdb1", "ext4", "etcd_disk"]
                assert "name: 'node-01'" in written
                assert running.split() == ["active", "0"]
                assert "the node is up" in machine.text("serial")
                assert nic(shell) == before
                assert wire.answers(ADDRESS, PATIENCE)
                told, _, planned = shell.run(OWN_MAC, PATIENCE).partition("\n")
                assert told.split()[:2] == [OTHER_MAC, segment.MAC] and f"{OWN_FILE} comes before" in told
                (left,) = json.loads(planned)["nics"]
                assert (left["mac"], left["do"]) == (segment.MAC, "leave")
                assert left["reason"] == f"somebody has given it another MAC address, {OTHER_MAC}"
