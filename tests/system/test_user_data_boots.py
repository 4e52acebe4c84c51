"""User-data from boot to boot: power cuts and reboots in mid-script, and a boot at which nobody answers."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import subprocess
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest
from support.debian_image import Installed
from support.network_segment import FAKE_SYS, Segment
from support.replace_fields import replace
from support.systemd_guest import Booted
from support.vm_cloud import describe

from csagent.lab.router import Cloud

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.1.1.1", "10.1.1.42"
ORDER = "/var/tmp/order"

# Whoever has the lock lets go of it once apt-get has been seen to wait.
HOLDER = """\
#!/usr/bin/python3 -I
import fcntl, os, time
with open("/var/lib/dpkg/lock-frontend", "w") as stream:
    fcntl.lockf(stream, fcntl.LOCK_EX)
    open("/var/tmp/held", "w").close()
    while not os.path.exists("/var/tmp/let-go"):
        time.sleep(0.1)
"""

# Three parts, so that there is something before and something behind what is cut short.
MESSAGE = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: text/cloud-config

#cloud-config
bootcmd:
  - echo bootcmd >> {order}
{config}
--//
Content-Type: text/x-shellscript; name="before"

#!/bin/sh
echo before >> {order}
--//
Content-Type: text/x-shellscript; name="zlast"

#!/bin/sh
echo zlast >> {order}
--//--
"""

CUT_SHORT = """\
  - test -e /var/tmp/held || systemd-run --no-block /usr/bin/python3 -I /run/holder
  - until test -e /var/tmp/held; do sleep 0.1; done
  - until systemctl show csagent-user-data.service | grep -qx ActiveState=activating; do sleep 0.1; done
  - test -e /var/tmp/apt-daily || systemctl start --no-block apt-daily.service
  - touch /var/tmp/apt-daily
write_files:
  - {{path: /srv/repo/csdemo.deb, encoding: b64, content: {deb}}}
  - {{path: /srv/repo/Packages, encoding: b64, content: {index}}}
  - {{path: /etc/apt/sources.list, content: "deb [trusted=yes] file:/srv/repo ./\\n"}}
packages: [csdemo]
runcmd:
  - csdemo >> {order}
  - systemctl list-jobs --no-legend apt-daily.service | awk '{{print $2, $NF}}' >> {order}
  - touch /var/tmp/in-script
  - until test -e /var/tmp/never; do sleep 0.1; done
  - echo after >> {order}
"""

REBOOT = """\
runcmd:
  - echo runcmd >> {order}
  - reboot
"""
GOES_ON = """\
  - sleep 1000000
  - echo after >> {order}
"""


class Machine:
    """A Debian that keeps its disk from boot to boot."""

    def __init__(self, image: Installed, directory: Path) -> None:
        self._image, self._directory, self._boots = image, directory, 0
        self.guest: Booted

    @contextlib.contextmanager
    def boot(self, cloud: Optional[Cloud]) -> Iterator[Booted]:
        """Boot it, behind a virtual router or on no network at all; at the end the power goes."""
        self._boots += 1
        files = self._directory / f"boot-{self._boots}"
        files.mkdir()
        with contextlib.closing(Booted(self._image, self._directory / "guest")) as guest:
            self.guest = guest
            if cloud is None:
                yield guest
                return
            with contextlib.closing(Segment(files, guest, [SERVER])) as segment:
                segment.dhcp(SERVER, ADDRESS, SERVER, cloud.hostname)
                segment.router(cloud, SERVER, port=80, password_port=8080)
                yield guest

    def order(self) -> Any:
        """What has run, in its order."""
        return self.guest.do("cat", ORDER).split("\n")[:-1]

    def ran(self) -> Any:
        """The status once all of user-data has ended at this boot."""
        self.guest.wait("test", "-e", "/run/csagent/status.json")
        return self.guest.csagent("status", "--wait", "300", "--user-data")["user_data"]


@pytest.fixture
def machine(image: Installed, tmp_path: Path) -> Machine:
    return Machine(image, tmp_path)


def message(config: str, **more: str) -> bytes:
    config = config.format(order=ORDER, **more)
    return MESSAGE.format(order=ORDER, config=config).replace("\n", "\r\n").encode()


def package(directory: Path) -> "tuple[bytes, bytes]":
    """A package whose program says its name, and the index of a repository that has it alone."""
    tree = directory / "csdemo"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    control = (
        "Package: csdemo\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n"
    )
    (tree / "DEBIAN/control").write_text(control)
    (tree / "usr/bin/csdemo").write_text("#!/bin/sh\necho csdemo\n")
    (tree / "usr/bin/csdemo").chmod(0o755)
    deb = directory / "csdemo.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True, timeout=300
    )
    raw = deb.read_bytes()
    known = f"Size: {len(raw)}\nSHA256: {hashlib.sha256(raw).hexdigest()}\n"
    return raw, f"{control}Filename: ./csdemo.deb\n{known}\n".encode()


def test_power_cut_in_mid_script(machine: Machine, tmp_path: Path) -> None:
    """What was in flight is `interrupted` and named, what had not begun runs, and nothing runs twice.

    Before that a package from a local repository waits for whoever has dpkg's lock, and apt-daily for it.
    """
    deb, index = (base64.b64encode(raw).decode() for raw in package(tmp_path))
    script = base64.b64encode(HOLDER.encode()).decode()
    config = CUT_SHORT.replace(
        "  - test -e /var/tmp/held",
        f"  - echo {script} | base64 -d >/run/holder\n  - test -e /var/tmp/held",
        1,
    )
    cloud = replace(describe("web-01", 1), user_data=message(config, deb=deb, index=index))
    with machine.boot(cloud) as guest:
        guest.wait("grep", "-q", "Waiting for cache lock", "/var/log/csagent-user-data.log")
        guest.do("touch", "/var/tmp/let-go")
        guest.wait("test", "-e", "/var/tmp/in-script")
        running = guest.csagent("status")["user_data"]
        assert running["parts"][0]["keys"]["runcmd"] == "running"
    first = ["bootcmd", "before", "csdemo", "apt-daily.service waiting"]
    with machine.boot(cloud) as guest:
        found = machine.ran()
        assert machine.order() == [*first, "bootcmd", "zlast"]
        assert found["state"] == "interrupted"
        assert [part["outcome"] for part in found["parts"]] == ["interrupted", "done", "done"]
        keys = found["parts"][0]["keys"]
        assert {name for name, state in keys.items() if state == "interrupted"} == {"runcmd"}
        assert keys["packages"] == keys["write_files"] == "done"
        assert "runcmd: interrupted" in guest.do("csagent", "status")
    with machine.boot(cloud) as guest:
        assert machine.ran()["state"] == "interrupted"
        assert machine.order() == [*first, "bootcmd", "zlast", "bootcmd"]


@pytest.mark.parametrize(("more", "state"), [("", "done"), (GOES_ON, "interrupted")], ids=["last", "goes-on"])
def test_reboot_inside_runcmd(machine: Machine, more: str, state: str) -> None:
    """It ends that script for good (field/user-data#U64), those behind it run at the next boot; all once.

    Where it was the last command the script is done: many documents end so.
    """
    cloud = replace(describe("web-01", 1), user_data=message(REBOOT + more))
    with machine.boot(cloud) as guest:
        guest.ended()
    with machine.boot(cloud):
        found = machine.ran()
        assert machine.order() == ["bootcmd", "before", "runcmd", "bootcmd", "zlast"]
        assert (found["state"], found["parts"][0]["keys"]["runcmd"]) == (state, state)


CLUSTER = """\
## template: jinja
#cloud-config

bootcmd:
  - echo bootcmd >> /var/tmp/order
  - until systemctl is-active ssh.service; do sleep 0.1; done
write_files:
  - path: /run/kubeadm/kubeadm.yaml
    owner: root:root
    permissions: '0640'
    content: |
      nodeRegistration:
        name: '{{ ds.meta_data.local_hostname }}'
        kubeletExtraArgs: {provider-id: "cloudstack:///{{ ds.meta_data.instance_id }}"}
  - path: /usr/local/bin/kubeadm
    permissions: '0755'
    content: |
      #!/bin/sh
      grep -c 'web-01' "$3" >> /var/tmp/order
users:
  - name: capc
    sudo: ALL=(ALL) NOPASSWD:ALL
runcmd:
  - echo '127.0.0.1 {{ local_hostname }}' >> /etc/hosts
  - kubeadm join --config /run/kubeadm/kubeadm.yaml && echo success > /run/cluster-api-bootstrap
"""


def test_cluster_node_and_a_boot_at_which_nobody_answers(machine: Machine) -> None:
    """What the Cluster API sends runs, sshd does not wait for it; bootcmd also runs where no source answers.

    That takes DMI, which says that the disk is in the same machine.
    """
    cloud = replace(
        describe("web-01", 1),
        user_data=gzip.compress(CLUSTER.encode()),
    )
    with machine.boot(cloud) as guest:
        assert machine.ran()["state"] == "done"
        assert machine.order() == ["bootcmd", "1"]
        assert guest.read("/run/cluster-api-bootstrap") == "success\n"
        assert cloud.instance_id in guest.read("/run/kubeadm/kubeadm.yaml")
    with machine.boot(None) as guest:
        guest.wait("systemctl", "is-active", "csagent-user-data.path")
        names = {"product_uuid": cloud.instance_id, "sys_vendor": "Apache Software Foundation"}
        writes = "".join(f"echo '{text}' >/sys/class/dmi/id/{name}\n" for name, text in names.items())
        guest.do("sh", "-c", FAKE_SYS + writes)
        assert guest.run("csagent", "apply", "--wait", "0").returncode == 4
        guest.wait("systemctl", "is-active", "csagent-user-data.target")
        assert machine.order() == ["bootcmd", "1", "bootcmd"]
        assert guest.csagent("status", "--wait", "60", "--user-data")["user_data"]["state"] == "done"
