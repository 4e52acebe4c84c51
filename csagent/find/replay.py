"""A support archive in memory: the finder judges it as nobody, who may not read where root unpacked it."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Dict, List, Optional, Sequence

from csagent.find.drives import SYS_BLOCK, UDEV_CONTROL, UDEV_DATA
from csagent.find.links import PROC_ROUTE
from csagent.system import NOT_INSTALLED, Completed, RecordedRunner, Runner, System
from csagent.tree import READ_LIMIT, Tree

FILES = (
    PROC_ROUTE,
    "/sys/class/net/*/*",
    f"{SYS_BLOCK}/*/dev",
    f"{UDEV_DATA}/b*",
    UDEV_CONTROL,
)
TOTAL_LIMIT = 16 << 20


class Kept(Tree):
    """A tree whose files, those of FILES, were read before."""

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


class Heard(Runner):
    """Says what commands have said."""

    def __init__(self, answers: Dict[str, Completed]) -> None:
        self._answers = answers

    def available(self, program: str) -> bool:
        return any(line.split(" ", 1)[0] == program for line in self._answers)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 10.0,
        limit: int = READ_LIMIT,
    ) -> Completed:
        done = self._answers.get(" ".join(argv), NOT_INSTALLED)
        return done._replace(output=done.output[:limit])


def for_nobody(system: System) -> System:
    """What the finder needs of an archive, in memory; any other system as it is."""
    if not isinstance(system.runner, RecordedRunner):
        return system
    left = TOTAL_LIMIT
    content: Dict[str, bytes] = {}
    for pattern in FILES:
        for path in system.tree.glob(pattern):
            raw = _read(system.tree, path)
            if raw is not None and len(raw) <= left:
                content[path] = raw
                left -= len(raw)
    answers: Dict[str, Completed] = {}
    for line in system.runner.lines:
        done = system.runner.run(line.split(" "))
        if done.code is not None and len(done.output) <= left:
            answers[line] = done
            left -= len(done.output)
    return replace(system, tree=Kept(system.tree.root, content), runner=Heard(answers))


def _read(tree: Tree, path: str) -> Optional[bytes]:
    try:
        return tree.read(path)
    except OSError:
        return None
