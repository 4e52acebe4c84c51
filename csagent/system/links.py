"""The steps of a walk to a path, and which symbolic links root follows on its way to what it writes."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import List, Optional


class Step:
    """A directory, link or file on the way to a path.

    Attributes:
        path: the way to it without links.
        status: of what is open, or of the link.
        descriptor: what is open; None for a link.
    """

    def __init__(self, path: str, status: os.stat_result, descriptor: Optional[int]) -> None:
        self.path = path
        self.status = status
        self.descriptor = descriptor


class OwnLinks:
    """Takes the steps of one walk: root writes through no link by which somebody else would choose where.

    A link counts that is root's; another one where it lies in its maker's own directory and leads into one,
    as an account's `current -> releases/7`. The kernel looks at links in /tmp alone (fs.protected_symlinks,
    proc_sys_fs(5)), and not at all at those that `Tree.resolve` follows.
    """

    def __init__(self) -> None:
        self._here = 0
        self._makers: List[int] = []

    def __call__(self, step: Step) -> None:
        """
        Raises:
            OSError: EACCES, the link is in a directory of another owner.
        """
        owner = step.status.st_uid
        if not stat.S_ISLNK(step.status.st_mode):
            self._here = owner
        elif owner != 0:
            self._makers.append(owner)
            self.judge_end()

    def judge_end(self) -> None:
        """
        Raises:
            OSError: EACCES, the last directory is not his whose link has led there.
        """
        for maker in self._makers:
            if maker != self._here:
                raise OSError(errno.EACCES, f"a link of user {maker} on the way leads to what is not theirs")
