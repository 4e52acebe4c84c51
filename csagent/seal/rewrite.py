"""Files of which a part goes: replaced as a whole, owner, mode and SELinux label as they were."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, Optional

from csagent.seal.context import Leftover, Scene
from csagent.system.selinux import relabel
from csagent.system.tree import READ_LIMIT

if TYPE_CHECKING:
    from csagent.system.seams import System

LABEL = "security.selinux"


def rewriting(
    scene: Scene,
    path: str,
    change: Callable[[str], str],
    detail: str,
    *,
    action: str = "rewrite",
    limit: int = READ_LIMIT,
    create: bool = False,
) -> Iterator[Leftover]:
    """That a text file becomes what `change` makes of it; nothing where that is what it is.

    Args:
        scene: where.
        path: the file; a link in the guest's /etc is resolved inside the tree.
        change: pure; it is asked again when the time has come.
        detail: what is changed, for people. Never a secret.
        action: the word for it in the preview.
        limit: bytes; a larger file is not touched.
        create: also where there is none.
    """
    if not scene.within(path):
        return
    text = scene.text(path, limit)
    absent = text is None and path not in scene.overlooked.unseen
    if (text is None and not (create and absent)) or change(text or "") == (text or ""):
        return

    def act() -> None:
        now = _now(scene, path, limit, create)
        with same_label(scene.system, path):
            scene.system.tree.write(path, change(now).encode("utf-8", "surrogateescape"), 0o644, keep=True)
        relabel(scene.system, path)

    yield Leftover(path, action, act, 0, detail)


def _now(scene: Scene, path: str, limit: int, create: bool) -> str:
    """The text when the time has come; what cannot be read then is not replaced as if it were empty."""
    if not scene.within(path):
        raise OSError(errno.EXDEV, "something is mounted there now")
    try:
        raw = scene.system.tree.read(path, limit + 1)
    except FileNotFoundError:
        if create:
            return ""
        raise
    if len(raw) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes")
    return raw.decode("utf-8", "surrogateescape")


@contextmanager
def same_label(system: "System", path: str) -> Iterator[None]:
    """Give the file that replaces another one its SELinux label.

    On an image's tree nobody else does: without a label /etc/shadow is unreadable to the guest's login.
    """
    before = None if system.live else _label(system, path)
    yield
    if before is not None:
        descriptor = system.tree.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.setxattr(descriptor, LABEL, before)
        finally:
            os.close(descriptor)


def _label(system: "System", path: str) -> Optional[bytes]:
    try:
        descriptor = system.tree.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.getxattr(descriptor, LABEL)
    except OSError:
        return None
    finally:
        os.close(descriptor)
