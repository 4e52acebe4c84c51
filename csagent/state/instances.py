"""Whose memories are kept: `/var/lib/csagent/instances/ID.*`, of the last three instances.

What of their user-data has run (`csagent.state.user_data_record`) goes where they go; documents run by hand
may be for anybody's id, and have a list of their own.
`latest-instance` names them, the newest first. It is written down, since times are not to be trusted: a
template's file may come from a clock that was years ahead. Times decide only where an earlier csagent has
not written it. What was remembered before anybody said an id is kept beside them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, List, Optional, Tuple

from csagent.errors import Distrusted
from csagent.system import json_limits, trusted_path

if TYPE_CHECKING:
    from csagent.system.seams import System

STATE = "/var/lib/csagent"
INSTANCES = STATE + "/instances"
LATEST = STATE + "/latest-instance"
NO_INSTANCE = "unknown"
SIZE_LIMIT = 4 << 20
KEPT = 3
IN_THE_MAKING = ".new"  # behind the name of a folder that is being copied


def stem(key: str) -> str:
    """The name of an instance's files, without what follows the dot; an id is never a path."""
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in key)[:128]


def memory_path(key: str) -> str:
    """What was applied for an instance."""
    return f"{INSTANCES}/{stem(key)}.json"


def prepare(system: "System") -> None:
    """Make the state directories, private to root."""
    system.tree.mkdir(STATE, 0o700)
    system.tree.mkdir(INSTANCES, 0o700)


def mark(system: "System") -> Optional[Tuple[int, int]]:
    """What changes as soon as a pass has remembered anything: a new file takes the place of the old one."""
    status = system.tree.stat(INSTANCES)
    return None if status is None else (status.st_ino, status.st_mtime_ns)


def known(system: "System") -> Tuple[str, ...]:
    """The ids that have a memory, the latest first; last those whose file, but for its name, says nothing."""
    found: List[str] = []
    for name in _listed(system, LATEST):
        if name not in found and system.tree.exists(memory_path(name)):
            found.append(name)
    timed: List[Tuple[bool, float, str]] = []
    named = {memory_path(name) for name in (*found, NO_INSTANCE)}
    for path in system.tree.glob(INSTANCES + "/*.json"):
        status = system.tree.stat(path)
        if path in named or status is None:
            continue
        try:
            told = str(json_limits.loads(system.tree.read(path, SIZE_LIMIT))["instance_id"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            told = ""
        whole = memory_path(told) == path  # else it is damaged, or a copy of another's
        name = told if whole else os.path.basename(path)[: -len(".json")]
        if memory_path(name) == path:
            timed.append((whole, status.st_mtime, name))
    return (*found, *(name for _, _, name in sorted(timed, reverse=True)))


def _listed(system: "System", path: str) -> List[str]:
    """The names in a list of the latest; none where it cannot be read, or is somebody else's word."""
    try:
        text = trusted_path.read_own(system, STATE, path, 4096).decode("utf-8", "surrogateescape")
    except (OSError, Distrusted):
        return []
    return [line.strip() for line in text.split("\n") if line.strip()]


def _list(system: "System", path: str, names: List[str]) -> None:
    system.tree.write(path, "".join(f"{name}\n" for name in names).encode("utf-8", "replace"), 0o600)


def note_latest(system: "System", key: str) -> None:
    """Write down that this is the latest, before those that were.

    Raises:
        OSError: it cannot be written.
    """
    before = known(system)
    if key == NO_INSTANCE or before[:1] == (key,):
        return
    _list(system, LATEST, [key, *(name for name in before if name != key)][:KEPT])


def prune(system: "System") -> None:
    """Remove what is kept of instances before the last `KEPT`: memory, user-data and all else of that name.

    What cannot be removed is left to the next pass.
    """
    for name in known(system)[KEPT:]:
        if name != NO_INSTANCE:
            try:
                remove(system, name)
            except OSError:
                continue


def remove(system: "System", key: str) -> None:
    """Remove all that is kept of an instance; the memory last, so that whoever is stopped here finds it.

    Raises:
        OSError: some of it cannot be removed; all else but the memory is gone.
    """
    from csagent.state.user_data_record import folder_of

    memory, failed = memory_path(key), None
    # What a power cut has left of a file or folder in the making stands there by a name of its own.
    files = [one for one in system.tree.names(INSTANCES) if one.lstrip(".").startswith(f"{stem(key)}.")]
    folder = folder_of(key)
    for path in (*(f"{INSTANCES}/{name}" for name in files), folder, f"{folder}{IN_THE_MAKING}"):
        try:
            if path != memory:
                _remove(system, path)
        except OSError as error:
            failed = error
    if failed is not None:
        raise failed
    _remove(system, memory)


def note_by_hand(system: "System", folder: str) -> None:
    """This is the latest of the folders of documents run by hand; those before the last `KEPT` are removed.

    Raises:
        OSError: it cannot be written down.
    """
    base, name = os.path.split(folder)
    latest = f"{base}/.latest"
    times = {one: _changed(system, f"{base}/{one}") for one in system.tree.names(base) if one[0] != "."}
    told = [one for one in _listed(system, latest) if one in times]
    names = list(dict.fromkeys((name, *told, *sorted(times, key=lambda one: -times[one]))))
    if told[:KEPT] != names[:KEPT]:
        _list(system, latest, names[:KEPT])
    for one in names[KEPT:]:
        with suppress(OSError):  # it is left to the next run
            _remove(system, f"{base}/{one}")


def _changed(system: "System", path: str) -> float:
    status = system.tree.stat(path, follow=False)
    return status.st_mtime if status is not None else 0.0


def move(system: "System", before: str, now: str) -> None:
    """What is kept of an instance beside its memory goes along when its id takes another form.

    It is copied: whoever is stopped before the memory is moved finds all as it was (`remove` follows).

    Raises:
        OSError: it cannot be copied.
    """
    for path in system.tree.glob(f"{INSTANCES}/{stem(before)}.*"):
        ending = path.rsplit("/", 1)[1].split(".", 1)[1]
        target = f"{INSTANCES}/{stem(now)}.{ending}"
        if ending != "json" and not system.tree.exists(target):
            system.tree.write(target, system.tree.read(path, SIZE_LIMIT), 0o600)
    from csagent.state.user_data_record import folder_of

    _copy_folder(system, folder_of(before), folder_of(now))


def _copy_folder(system: "System", path: str, target: str) -> None:
    """A folder and all that is in it: whole and durable, or not at all."""
    if not system.tree.exists(path) or system.tree.exists(target):
        return
    import shutil

    beside = f"{target}{IN_THE_MAKING}"
    _remove(system, beside)
    directory, name = system.tree.resolve(path)
    try:
        # Both lie in the same folder, which is root's alone.
        made = f"/proc/self/fd/{directory}/{os.path.basename(beside)}"
        shutil.copytree(f"/proc/self/fd/{directory}/{name}", made, symlinks=True)
        _make_durable(made)
        os.rename(made, f"/proc/self/fd/{directory}/{os.path.basename(target)}")
        os.fsync(directory)
    except shutil.Error as error:
        raise OSError(errno.EIO, f"{system.tree.shown(path)} cannot be copied") from error
    finally:
        os.close(directory)


def _make_durable(path: str) -> None:
    """Of this folder alone: sync(2) waits for every file system, also for a server that is gone."""
    for _path, _folders, files, here in os.fwalk(path):
        for name in files:
            if stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        os.fsync(here)


def _remove(system: "System", path: str) -> None:
    """Whatever is there: a file, or a directory and all that is in it."""
    status = system.tree.stat(path, follow=False)
    if status is None:
        return
    if not stat.S_ISDIR(status.st_mode):
        system.tree.remove(path)
        return
    import shutil

    directory, name = system.tree.resolve(path, follow=False)
    try:
        shutil.rmtree(f"/proc/self/fd/{directory}/{name}")
        os.fsync(directory)
    finally:
        os.close(directory)
