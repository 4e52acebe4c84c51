"""Our files on the disk: what would change in them, as a diff."""

from __future__ import annotations

import stat
from typing import List, Optional

from csagent.apply.network.plan import File
from csagent.system.seams import System


def changed(system: System, file: File) -> bool:
    """Whether a file is not as it shall be, its mode included: what a daemon cannot read has no effect."""
    now = system.tree.read_text(file.path)
    if now != file.content:
        return True
    return file.content is not None and mode(system, file.path) != file.mode


def mode(system: System, path: str) -> Optional[int]:
    """A file's permissions; None where it is not there."""
    status = system.tree.stat(path)
    return None if status is None else stat.S_IMODE(status.st_mode)


def diff(system: Optional[System], file: File) -> str:
    """A unified diff of a file as it is and as it shall be; without a system nothing is there yet."""
    import difflib

    now = (system.tree.read_text(file.path) or "") if system is not None else ""
    new = file.content or ""
    lines: List[str] = []
    if system is not None and file.content is not None:
        before = mode(system, file.path)
        if before not in (None, file.mode):
            lines += [f"old mode {before:04o}", f"new mode {file.mode:04o}"]
    lines += difflib.unified_diff(
        now.splitlines(),
        new.splitlines(),
        file.path if now else "/dev/null",
        file.path if file.content is not None else "/dev/null",
        lineterm="",
    )
    return "".join(f"{line}\n" for line in lines)
