"""A support archive in memory: the finder judges it as nobody, who may not read where root unpacked it."""

from __future__ import annotations

import errno
import os
from typing import Dict, List, Optional

from csagent.discovery.drives import SYS_BLOCK, UDEV_CONTROL, UDEV_DATA
from csagent.discovery.interfaces import PROC_ROUTE
from csagent.system.seams import RecordedRunner, System
from csagent.system.tree import READ_LIMIT, Tree

FILES = (
    PROC_ROUTE,
    "/sys/class/net/*/*",
    f"{SYS_BLOCK}/*/dev",
    f"{UDEV_DATA}/b*",
    UDEV_CONTROL,
)
TOTAL_LIMIT = 16 << 20


class Kept(Tree):
    """A tree whose files, those of FILES and what commands have printed, were read before."""

    def __init__(self, root: str, content: Dict[str, bytes]) -> None:
        super().__init__(root)
        self._content = content

    def read(self, path: str, limit: int = READ_LIMIT, *, follow: bool = True) -> bytes:
        if path not in self._content:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._content[path][:limit]

    def exists(self, path: str) -> bool:
        return path in self._content or bool(self.names(path))

    def names(self, path: str) -> List[str]:
        beginning = path.rstrip("/") + "/"
        below = [one[len(beginning) :] for one in self._content if one.startswith(beginning)]
        return sorted({one.split("/", 1)[0] for one in below})


def for_nobody(system: System) -> System:
    """What the finder needs of an archive, in memory; any other system as it is."""
    if not isinstance(system.runner, RecordedRunner):
        return system
    commands = system.runner.commands
    paths = [path for pattern in FILES for path in system.tree.glob(pattern)]
    left = TOTAL_LIMIT
    content: Dict[str, bytes] = {}
    for path in (*paths, *(f"/{file}" for file in commands.values())):
        raw = _read(system.tree, path)
        if raw is not None and len(raw) <= left:
            content[path] = raw
            left -= len(raw)
    kept = Kept(system.tree.root, content)
    heard = {line: file for line, file in commands.items() if f"/{file}" in content}
    return system._replace(tree=kept, runner=RecordedRunner(kept, heard))


def _read(tree: Tree, path: str) -> Optional[bytes]:
    try:
        return tree.read(path)
    except OSError:
        return None
