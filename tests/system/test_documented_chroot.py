"""The chroot of docs/from-cloud-init.md, made and taken down by the page's own commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
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
