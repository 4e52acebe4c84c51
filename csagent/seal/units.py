"""What of a guest's units starts at its next boot, by the files on its disk: no systemd is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csagent.system.systemd import is_masked

if TYPE_CHECKING:
    from csagent.system.seams import System

LOCAL = "/etc/systemd/system"
DIRECTORIES = ("/usr/lib/systemd/system", "/lib/systemd/system", LOCAL)


def installed(system: "System", unit: str) -> bool:
    """Whether its file is there and not masked."""
    tree = system.tree
    return not masked(system, unit) and any(
        tree.stat(f"{directory}/{unit}", follow=False) for directory in DIRECTORIES
    )


def enabled(system: "System", unit: str) -> bool:
    """Whether something that starts at boot wants it, and it is there to be started."""
    return installed(system, unit) and any(
        system.tree.stat(f"{directory}/{name}/{unit}", follow=False)
        for directory in DIRECTORIES
        for name in system.tree.names(directory)
        if name.endswith((".wants", ".requires"))
    )


def masked(system: "System", unit: str) -> bool:
    """Whether the administrator's unit is a link to /dev/null or an empty file (systemd.unit(5))."""
    return is_masked(system.tree, f"{LOCAL}/{unit}")
