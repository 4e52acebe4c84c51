"""docs/from-cloud-init.md: its chroot, made and taken down by the page's own commands, and its script."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from support.debian_image import Installed
from support.network_segment import Guest
from support.requirements import require

PAGE = Path(__file__).resolve().parents[2] / "docs/from-cloud-init.md"

pytestmark = [pytest.mark.root, pytest.mark.netns]

# As systemd has it at its start: what is mounted in one place is mounted, and unmounted, in its copies too.
AS_ON_A_MACHINE = "mount --make-rshared /"
MOUNTED = "awk '$5 ~ \"^/dev/\" {print $5}' /proc/self/mountinfo | sort"


def test_taking_the_chroot_down_leaves_the_machines_own_mounts(tmp_path: Path) -> None:
    """`umount -R /mnt` ends what was mounted below it; the machine's /dev/pts stays, for who works on it."""
    require(("unshare", "mount", "umount"), "mounts in a namespace")
    page = PAGE.read_text(encoding="utf-8")
    (mounts,) = re.findall(r"^    (mount --rbind .*)$", page, re.M)
    (end,) = re.findall(r"^ +(umount -R /mnt) && losetup", page, re.M)
    tree = tmp_path / "mnt"
    tree.mkdir()
    words = [mounts.replace("/mnt", str(tree)), "echo --", end.replace("/mnt", str(tree))]
    script = "\n".join(
        [
            "set -e",
            AS_ON_A_MACHINE,
            f"mount -t tmpfs tmpfs {tree} && mkdir {tree}/dev {tree}/proc {tree}/run",
            *(MOUNTED, words[0], f"ls {tree}/dev/pts/ptmx {tree}/proc/self/stat", *words[1:], MOUNTED),
            f"! grep -q ' {tree}' /proc/self/mountinfo",
        ]
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    before, _, after = done.stdout.partition("--\n")
    kept = [line for line in before.splitlines() if line.startswith("/dev/")]
    assert kept and after.splitlines() == kept


# The two packages need repositories; what apt-get would do is written down.
APT_GET = '#!/bin/sh\necho "$@" >>/run/apt-get\n'
FSTAB = "UUID=EXAMPLE / ext4 defaults,errors=remount-ro 0 1\n/dev/sr0 /media iso9660 noauto 0 0\n"


def test_the_script_for_virt_customize_moves_a_debian(image: Installed, tmp_path: Path) -> None:
    """Root's file system grows, cloud-init goes, and its account may become root and is csagent's."""
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    machine = Guest(image, tmp_path / "guest")
    try:
        machine.do("rm", "-rf", "/etc/csagent")  # before the package is installed
        machine.do("mkdir", "-p", "/etc/cloud/cloud.cfg.d", "/etc/sudoers.d", "/usr/local/sbin")
        machine.write("/etc/fstab", FSTAB)
        machine.write("/usr/local/sbin/apt-get", APT_GET)
        machine.write("/root/without-cloud-init.sh", script)
        machine.do("chmod", "755", "/usr/local/sbin/apt-get", "/root/without-cloud-init.sh")
        machine.do("env", "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "/root/without-cloud-init.sh")
        assert machine.read("/etc/fstab") == FSTAB.replace("remount-ro", "remount-ro,x-systemd.growfs")
        asked = machine.read("/run/apt-get").splitlines()
        assert asked[0] == "update" and asked[-1] == "purge -y --autoremove cloud-init"
        assert machine.do("id", "--name", "--groups", "debian").split() == ["debian", "adm", "sudo"]
        assert machine.do("stat", "-c", "%a %U", "/etc/sudoers.d/90-debian") == "440 root\n"
        found = json.loads(machine.run("csagent", "doctor", "--json").stdout)["findings"]
        assert any(one["area"] == "account" and one["saw"].startswith("debian: uid") for one in found), found
        assert not [one for one in found if "cloud" in one["saw"] and "left" in one["saw"]], found
    finally:
        machine.close()
