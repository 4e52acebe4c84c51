"""disk_setup, fs_setup, mounts and swap on a data disk: a loop device in an overlay of a Debian tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest
import yaml
from support.requirements import require
from support.user_data_tree import DISK, TOOLS, Scratch, tree

pytestmark = [pytest.mark.root, pytest.mark.netns]

# The swap of a namespace is the whole machine's: it is noted and not used.
NO_SWAP = """
printf '#!/bin/sh\\necho swapon "$@" >>/var/tmp/order\\n' >/usr/sbin/swapon
chmod 755 /usr/sbin/swapon
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """An overlay of a Debian 12 tree."""
    require((*TOOLS, "losetup"), "partitions a loop device in a Debian tree")
    made = Scratch(tree(), tmp_path)
    yield made
    made.close()


def run(scratch: Scratch, config: Dict[str, Any], before: str = "") -> Tuple[Dict[str, Any], str]:
    """Run a cloud-config beside the disk /dev/vdz: csagent's account of it, and what the disk is then."""
    document = f"#cloud-config\n{yaml.safe_dump(config)}".encode()
    scratch.csagent(document, before=f"{DISK}\n{NO_SWAP}\n{before}")
    assert "Traceback" not in scratch.told("stderr")
    return json.loads(scratch.told("status.json")), scratch.told("disk")


def filesystem(label: str, **more: object) -> Dict[str, object]:
    """An entry of fs_setup."""
    return {"label": label, "filesystem": "ext4", "device": "/dev/vdz", "partition": "auto", **more}


def layout(**more: object) -> Dict[str, object]:
    """disk_setup with one partition."""
    return {"/dev/vdz": {"table_type": "gpt", "layout": True, **more}}


def test_an_empty_disk_is_partitioned_formatted_and_mounted(scratch: Scratch) -> None:
    """The order of the keys is cloud-init's: all of it is there before a script looks."""
    report, disk = run(
        scratch,
        {
            "mounts": [["LABEL=data", "/mnt/data", "ext4", "noatime", "0", "2"]],
            "fs_setup": [filesystem("data")],
            "disk_setup": layout(),
            "runcmd": ["findmnt --noheadings --output LABEL /mnt/data >>/var/tmp/order"],
        },
    )
    assert report["state"] == "done"
    assert disk.splitlines()[0].split()[:2] == ["/mnt/data", "ext4"]
    assert "label: gpt" in disk
    assert scratch.text("/var/tmp/order") == "data\n"
    assert "LABEL=data\t/mnt/data\text4\tnoatime,comment=cloudconfig\t0\t2" in scratch.text("/etc/fstab")


def test_data_stay(scratch: Scratch) -> None:
    """What has a file system is neither partitioned nor formatted, without overwrite: true."""
    config = {"disk_setup": layout(), "fs_setup": [filesystem("new")]}
    report, disk = run(scratch, config, before="mkfs.ext4 -q -L old /dev/vdz")
    assert report["state"] == "done"
    assert "LABEL=old" in disk
    assert "label: gpt" not in disk
    assert "overwrite: true would partition it" in json.dumps(report)


def test_data_may_be_overwritten(scratch: Scratch) -> None:
    """Where the document says so."""
    config = {
        "disk_setup": layout(overwrite=True),
        "fs_setup": [filesystem("new", partition=1, overwrite=True)],
    }
    report, disk = run(scratch, config, before="mkfs.ext4 -q -L old /dev/vdz")
    assert report["state"] == "done"
    assert "LABEL=new" in disk
    assert "label: gpt" in disk


def test_a_disk_that_is_missing_costs_its_key(scratch: Scratch) -> None:
    """It is named, and what stands beside it is done."""
    config = {"disk_setup": {"/dev/vdy": {"layout": True}}, "runcmd": ["echo ran >>/var/tmp/order"]}
    report, _disk = run(scratch, config)
    assert report["parts"][0]["keys"] == {"disk_setup": "failed", "runcmd": "done"}
    assert "there is no device /dev/vdy" in json.dumps(report)
    assert scratch.text("/var/tmp/order") == "ran\n"


def test_a_swap_file(scratch: Scratch) -> None:
    """Made for root alone, with a signature, in /etc/fstab, and used."""
    report, _disk = run(scratch, {"swap": {"filename": "/var/swapfile", "size": "2M"}})
    assert report["state"] == "done", report
    made = scratch.path("/var/swapfile")
    assert made is not None
    assert made.stat().st_mode & 0o777 == 0o600
    assert made.stat().st_size == 2 << 20
    assert made.read_bytes()[4086:4096] == b"SWAPSPACE2"
    assert "/var/swapfile\tnone\tswap\tsw,comment=cloudconfig\t0\t0" in scratch.text("/etc/fstab")
    assert scratch.text("/var/tmp/order") == "swapon /var/swapfile\n"


# A user's directory is on the way, and the user is quicker than mount(8): what was judged is elsewhere then.
QUICK = """
mkdir -p /home/alice/disks/data
chown -R 1234:1234 /home/alice
cat >/usr/sbin/mount <<'EOF'
#!/bin/sh
if [ ! -e /home/alice/moved ]; then
    mv /home/alice/disks /home/alice/moved
    mkdir /home/alice/disks
    ln -s /etc/default /home/alice/disks/data
fi
exec /usr/bin/mount "$@"
EOF
chmod 755 /usr/sbin/mount
"""
SEEN = "findmnt --noheadings --list --output TARGET --types ext4 | grep ^/home >/var/tmp/seen"


def test_a_directory_of_a_users_is_what_was_looked_at(scratch: Scratch) -> None:
    """Neither csagent's own mount(8) nor that for all lines of /etc/fstab follows a link that came since."""
    config = {
        "mounts": [
            ["LABEL=data", "/home/alice/disks/data", "ext4", "noatime,nofail", "0", "2"],
            ["tmpfs", "/srv/other", "tmpfs", "size=1m", "0", "0"],
        ],
        "fs_setup": [filesystem("data")],
        "disk_setup": layout(),
        "runcmd": [SEEN, "findmnt --noheadings --output FSTYPE /srv/other >>/var/tmp/seen"],
    }
    report, _disk = run(scratch, config, before=QUICK)
    assert report["state"] == "done", report
    assert scratch.text("/var/tmp/seen") == "/home/alice/moved/data\ntmpfs\n"
    assert "LABEL=data\t/home/alice/disks/data\text4\tnoatime,nofail,comment=cloudconfig" in scratch.text(
        "/etc/fstab"
    )


def test_a_mount_point_of_a_users_stays_one(scratch: Scratch) -> None:
    """In a home, and at a second run, where it is mounted already."""
    config = {
        "mounts": [["LABEL=data", "/home/alice/data"]],
        "runcmd": [SEEN],
    }
    already = "mkdir -p /home/alice/data; chown -R 1234:1234 /home/alice; mkfs.ext4 -q -L data /dev/vdz; "
    for more in ("", "mount LABEL=data /home/alice/data"):
        report, _disk = run(scratch, config, before=already + more)
        assert report["state"] == "done", report
    assert "LABEL=data\t/home/alice/data" in scratch.text("/etc/fstab")
