"""The recipe of packaging/image that can be carried out here: debos without a virtual machine of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from support.debian_image import build_package, run
from support.recipe_image import TOOLS, recipe_image
from support.requirements import require
from support.vm_machine import BOOT_DEADLINE, OLDER

GROWN = 5 << 30

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What debos/build makes of this checkout's package; the system before csagent is kept for the next."""
    require((*TOOLS, "ssh", "ssh-keygen", "sfdisk", "dumpe2fs"), "builds an image with debos")
    return recipe_image(build_package(tmp_path_factory.mktemp("deb")))


def partitions(disk: Path) -> List[Dict[str, Any]]:
    table = json.loads(run(["sfdisk", "--json", disk], 60).stdout)["partitiontable"]
    found: List[Dict[str, Any]] = table["partitions"]
    return found


@contextlib.contextmanager
def mounted(disk: Path, directory: Path) -> Iterator[Path]:
    """The root file system of an image, read-only."""
    options = f"loop,ro,noload,offset={partitions(disk)[-1]['start'] * 512}"
    run(["mount", "-t", "ext4", "-o", options, disk, directory], 60)
    try:
        yield directory
    finally:
        run(["umount", directory], 60)


def test_what_the_recipe_makes_is_a_clean_template(template: Path, tmp_path: Path) -> None:
    """`seal --check` finds nothing, no host key is left, and the units wait for the first boot."""
    with mounted(template, tmp_path) as tree:
        command = [sys.executable, "-I", "-m", "csagent", "--root", tree, "seal", "--check"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(tree.glob("etc/ssh/ssh_host_*")) == []
        assert (tree / "etc/machine-id").read_text() in ("", "uninitialized\n")
        wanted = tree / "etc/systemd/system/multi-user.target.wants"
        units = {
            "csagent.service",
            "csagent-host-keys.service",
            "csagent-console.path",
            "csagent-user-data.path",
        }
        assert units <= {path.name for path in wanted.iterdir()}
        assert list((tree / "tmp").iterdir()) == [] == list((tree / "root").glob("image-build*"))


def test_something_is_free_behind_the_root(template: Path) -> None:
    """Else Debian 13's systemd-repart fails on a disk that is no larger, if its end is not one of 4 KiB."""
    root = partitions(template)[-1]
    free = template.stat().st_size - (root["start"] + root["size"]) * 512
    assert 1 << 19 <= free <= 2 << 20


def test_it_keeps_its_promises_on_a_larger_disk(template: Path, tmp_path: Path) -> None:
    """Every promise of `csagent lab vm` for a drive, by GRUB and the BIOS; the root has grown."""
    disk, kept = tmp_path / "grown.qcow2", tmp_path / "kept"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "raw", disk, str(GROWN)], 60)
    command = [sys.executable, "-I", "-m", "csagent", "lab", "vm", disk, "--json", "--keep", kept]
    command += ["--cpu", OLDER, "--only", "drive", "--timeout", str(BOOT_DEADLINE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2600)
    document = json.loads(done.stdout)
    failed = [one for one in document["promises"] if one["state"] in ("fail", "warn")]
    assert (done.returncode, failed) == (0, []), f"{failed}\n{done.stderr[-3000:]}"

    raw = tmp_path / "after.raw"
    run(["qemu-img", "convert", "-O", "raw", kept / "drive" / "disk.qcow2", raw], 300)
    root = partitions(raw)[-1]
    assert root["size"] * 512 > GROWN - (8 << 20)
    # The file system begins where the partition does.
    said = run(["dumpe2fs", "-h", f"{raw}?offset={root['start'] * 512}"], 60).stdout
    values = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert int(values["Block count"]) * int(values["Block size"]) > GROWN - (64 << 20)
