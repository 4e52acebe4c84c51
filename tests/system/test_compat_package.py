"""csagent-cloud-init-compat on a Debian that its own systemd has booted: what waits for cloud-init works."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
from support.debian_image import Installed, run
from support.network_segment import Segment, isolated
from support.replace_fields import replace
from support.systemd_guest import Booted
from support.vm_cloud import describe

import csagent

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.1.1.1", "10.1.1.42"
UNIT = "csagent-cloud-init-compat.service"
BOOT_FINISHED, RESULT = "/var/lib/cloud/instance/boot-finished", "/run/cloud-init/result.json"
# The script stands still until the test has looked, and then makes whom the provisioner logs in as.
DOCUMENT = b"""\
#!/bin/sh
touch /var/tmp/begun
while [ ! -e /var/tmp/go ]; do sleep 0.1; done
useradd --create-home packer
"""
CLOUD = replace(describe("web-01", 1), user_data=DOCUMENT)


@pytest.fixture(scope="module")
def booted(
    image: Installed, compat_deb: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tuple[Booted, Segment]]:
    """Booted, with a script to run, and the package."""
    directory = tmp_path_factory.mktemp("booted")
    guest = Booted(image, directory / "guest")
    with isolated(guest, directory, SERVER, ADDRESS) as segment:
        segment.router(CLOUD, SERVER, port=80, password_port=8080)
        guest.wait("systemctl", "is-active", "multi-user.target")
        shutil.copy(compat_deb, f"/proc/{guest.pid}/root/compat.deb")
        guest.do("dpkg", "--install", "/compat.deb")
        yield guest, segment


def test_it_runs_while_user_data_does(booted: Tuple[Booted, Segment]) -> None:
    """The unit is enabled and waits; nothing says yet that it has finished."""
    guest = booted[0]
    guest.wait("test", "-e", "/var/tmp/begun")
    assert guest.do("cloud-init", "status") == "status: running\n"
    assert guest.do("systemctl", "is-enabled", UNIT) == "enabled\n"
    assert guest.do("systemctl", "is-active", UNIT) == "active\n"
    guest.wait("test", "-e", "/run/cloud-init/status.json")
    assert guest.run("ls", BOOT_FINISHED, RESULT).stdout == ""
    done = guest.run("timeout", "2", "cloud-init", "status", "--wait")
    assert done.returncode == 124 and set(done.stdout) <= {"."}


def test_waiting_ends_with_user_data(booted: Tuple[Booted, Segment]) -> None:
    """As Terraform's and Packer's provisioners wait: by command, or by file; then they can log in."""
    guest = booted[0]
    guest.do("sh", "-c", "echo 'user: packer' >/etc/csagent/csagent.yaml")
    guest.do("systemctl", "reload", "csagent.service")
    guest.wait("sh", "-c", "csagent status | grep -q 'there is no account packer'")
    assert guest.do("cloud-init", "status") == "status: running\n"
    guest.do("touch", "/var/tmp/go")
    lines = guest.do("cloud-init", "status", "--wait", "--long").split("\n")
    assert set(lines[0]) <= {"."} and lines[1:3] == ["status: done", "extended_status: done"]
    assert lines[5:] == ["detail: DataSourceCloudStack", "errors: []", "recoverable_errors: {}", ""]
    assert "ssh-ed25519" in guest.do("cat", "/home/packer/.ssh/authorized_keys")
    told = json.loads(guest.do("cloud-init", "status", "--format", "json"))
    assert (told["status"], told["errors"], told["datasource"]) == ("done", [], "cloudstack")
    guest.do("timeout", "300", "sh", "-c", f"until [ -f {BOOT_FINISHED} ]; do sleep 1; done")
    assert guest.do("cat", BOOT_FINISHED).endswith(f" - v. csagent {csagent.__version__}\n")
    assert json.loads(guest.do("cat", RESULT)) == {"v1": {"datasource": "DataSourceCloudStack", "errors": []}}
    assert guest.do("systemctl", "show", "-p", "SubState", "--value", UNIT) == "exited\n"
    assert guest.do("setpriv", "--reuid=65534", "--clear-groups", "cloud-init", "status") == "status: done\n"


def test_csagent_does_not_take_it_for_cloud_init(booted: Tuple[Booted, Segment]) -> None:
    """A pass leaves nothing to it, and doctor does not see one."""
    guest = booted[0]
    data = guest.csagent("apply", "--wait", "20")["data"]
    assert not [entry for entry in data.values() if "cloud-init" in entry["reason"]]
    assert "cloud-init is not installed" in guest.run("csagent", "doctor", "--wait", "2").stdout


def test_units_are_well_formed(booted: Tuple[Booted, Segment]) -> None:
    """systemd and systemd-tmpfiles complain of nothing; only a boot takes away the file of the last one."""
    guest = booted[0]
    done = guest.run("systemd-analyze", "verify", "--man=no", UNIT)
    assert (done.returncode, done.stderr) == (0, "")
    tmpfiles: List[str] = ["systemd-tmpfiles", "--remove", "csagent-cloud-init-compat.conf"]
    guest.do(*tmpfiles)
    guest.do("test", "-e", BOOT_FINISHED)
    guest.do(*tmpfiles, "--boot")
    assert guest.run("test", "-e", BOOT_FINISHED).returncode == 1


def test_removed_it_leaves_nothing(booted: Tuple[Booted, Segment], compat_deb: Path) -> None:
    """Its word goes with it; it cannot be there together with cloud-init."""
    guest = booted[0]
    guest.do("dpkg", "--purge", "csagent-cloud-init-compat")
    assert (
        guest.run("ls", BOOT_FINISHED, RESULT, "/run/cloud-init/status.json", "/usr/bin/cloud-init").stdout
        == ""
    )
    assert run(["dpkg-deb", "--field", compat_deb, "Conflicts"], 10).stdout == "cloud-init\n"
