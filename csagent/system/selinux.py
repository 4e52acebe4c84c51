"""Restore the SELinux context of what was replaced, where SELinux is and has the tool for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csagent.system.seams import System

ENFORCE = "/sys/fs/selinux/enforce"
TIMEOUT = 10.0


def relabel(system: "System", *paths: str) -> None:
    """Run restorecon on paths of the running system; elsewhere, and without SELinux, do nothing."""
    if system.live and system.tree.exists(ENFORCE):
        system.runner.run(["restorecon", "-RF", *paths], timeout=TIMEOUT)
