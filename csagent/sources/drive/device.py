"""A config drive: a block device, an image file, or a directory. It is never mounted.

In two steps, because the child that reads it gives up its rights in between (`csagent.sandbox.jail`):

- `open_place`, with the rights of the parent, opens the device or file and looks at one sector; a
  directory is read whole. `warm_up` is due before the rights go.
- `read`, without any, parses the image and says what is on it.

Neither raises: a place that gives nothing is a `Place` with an outcome and a reason.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence, Tuple

from csagent.errors import Absent, Foreign, Malformed, ProbeError, Refused, Unreachable
from csagent.model import Place, Reading
from csagent.sources.drive import layout
from csagent.sources.drive.layout import Contents, ListedFile, Path
from csagent.system.files import read_all

if TYPE_CHECKING:
    from csagent.system.seams import System

# linux/cdrom.h. Opened with O_NONBLOCK, a CD drive opens without a medium too: this is how to ask.
CDROM_DRIVE_STATUS = 0x5326
CDSL_CURRENT = 0x7FFFFFFF
NO_DISC = {1: "no medium", 2: "the tray is open", 3: "the drive is not ready"}


class Opened(NamedTuple):
    """A place that was opened, or the reason why it was not."""

    path: str
    why: str
    given: bool
    descriptor: Optional[int] = None
    label: Optional[str] = None
    contents: Optional[Contents] = None
    problem: Optional[ProbeError] = None

    @property
    def image(self) -> bool:
        """Whether there is an image to be parsed, so that `warm_up` is worth its cost."""
        return self.descriptor is not None

    @property
    def place(self) -> str:
        """What the place is called in reports and provenance."""
        shown = self.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return f"drive {shown}"


def open_place(
    system: "System", path: str, *, given: bool, why: str = "", named: Sequence[str] = ()
) -> Opened:
    """Open a place while we may. Never raises.

    What was found, and not given, is named by a child without rights: on the running system it is read only
    where it is a block device that may be a config drive (`csagent.discovery.drives.why_not`).

    Args:
        system: whose tree `path` is in, unless it is given.
        path: a block device, an ISO image, or a directory.
        given: by the operator (``--drive``): a path on this machine, used as it is, with any label.
        why: what to say about how it was found.
        named: the setting `drive_devices`.
    """
    why = why or ("given with --drive" if given else "config drive")
    try:
        descriptor, mode = _open(system, path, given, named)
    except ProbeError as error:
        return Opened(path, why, given, problem=error)
    try:
        if stat.S_ISDIR(mode):
            contents = _read_directory(descriptor)
            os.close(descriptor)
            return Opened(path, why, given, contents=contents)
        label = _look(descriptor)
    except ProbeError as error:
        os.close(descriptor)
        return Opened(path, why, given, problem=error)
    except OSError as error:
        os.close(descriptor)
        return Opened(path, why, given, problem=_reason(error))
    return Opened(path, why, given, descriptor, label)


def warm_up(opened: Optional[Opened] = None) -> None:
    """Import everything that `read` needs, while the files of Python's libraries can still be opened.

    pycdlib is only imported where the opened place is an image (or none is named).
    """
    import encodings.utf_8_sig
    import encodings.utf_16_be  # noqa: F401
    import hashlib  # noqa: F401
    import ipaddress  # noqa: F401

    from csagent.sources import network_data  # noqa: F401
    from csagent.sources.drive import content, iso  # noqa: F401

    if opened is None or opened.image:
        iso.warm_up()


def read(opened: Opened, *, labels: Sequence[str] = ("config-2",)) -> Tuple[Optional[Reading], Place]:
    """Read what is on an opened place, and close it. Never raises.

    Args:
        opened: from `open_place`.
        labels: the volume ids to believe, case folded (CloudStack's `vm.configdrive.label`); a place given
            by the operator may have any.

    Returns:
        What was read, or None, and the place with its outcome.
    """
    from csagent.sources.drive import content

    try:
        contents = _contents(opened, labels)
        reading, detail = content.interpret(contents, opened.place)
    except ProbeError as error:
        return None, Place(opened.place, opened.why, error.outcome, str(error))
    except OSError as error:
        problem = _reason(error)
        return None, Place(opened.place, opened.why, problem.outcome, str(problem))
    except Exception as error:
        # Out of memory, as a rule. Its text may carry what was being read.
        return None, Place(opened.place, opened.why, "failed", f"could not be read ({type(error).__name__})")
    finally:
        if opened.descriptor is not None:
            os.close(opened.descriptor)
    return reading, Place(opened.place, opened.why, "ok", detail)


def _contents(opened: Opened, labels: Sequence[str]) -> Contents:
    if opened.problem is not None:
        raise opened.problem
    if opened.contents is not None:
        return opened.contents
    if opened.descriptor is None:
        raise Absent("not opened")
    label = opened.label or ""
    if not opened.given and label.casefold() not in {known.casefold() for known in labels}:
        from csagent.validation import excerpt

        raise Foreign(f"labelled {excerpt(label)}, not {' or '.join(labels)}")
    from csagent.sources.drive import iso

    return iso.read(opened.descriptor)


# --- opening --------------------------------------------------------------------------------------


def _open(system: "System", path: str, given: bool, named: Sequence[str]) -> Tuple[int, int]:
    """Open a device, a file or a directory; its descriptor and mode."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        # Looked at before it is opened: opening a watchdog or a tape does something.
        state = os.stat(path) if given else system.tree.stat(path)
        if state is None:
            raise Absent("no such device or file")
        _check_kind(state.st_mode)
        if not given:
            _check_found(system, state, named)
        descriptor = os.open(path, flags) if given else system.tree.open(path, flags)
    except OSError as error:
        raise _reason(error) from None
    except ValueError:
        raise Malformed("no valid path") from None
    try:
        state = os.fstat(descriptor)
        _check_kind(state.st_mode)
        if not given:
            _check_found(system, state, named)
    except ProbeError:
        os.close(descriptor)
        raise
    return descriptor, state.st_mode


def _check_found(system: "System", state: os.stat_result, named: Sequence[str]) -> None:
    """Of what a child has named: whether root opens it."""
    block = stat.S_ISBLK(state.st_mode)
    if block and not system.live:
        raise Absent("a device node in a tree leads out of it, and is not read")
    if not system.live:
        return
    if not block:
        raise Malformed("no block device")
    from csagent.discovery import drives

    reason = drives.why_not(system, state.st_rdev, named)
    if reason:
        raise Refused(reason)


def _check_kind(mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise Malformed("neither a block device nor a file nor a directory")


def _look(descriptor: int) -> str:
    """Check size and first sector of a device or file; its volume id."""
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        import fcntl

        try:
            status = fcntl.ioctl(descriptor, CDROM_DRIVE_STATUS, CDSL_CURRENT)
        except OSError:
            status = 0  # a disk, or a drive that cannot tell
        if status in NO_DISC:
            raise Absent(NO_DISC[status])
    from csagent.sources.drive import iso

    label = iso.probe(descriptor).label
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size > layout.IMAGE_LIMIT:
        limit = layout.IMAGE_LIMIT >> 20
        raise Malformed(f"{size >> 20} MiB; CloudStack makes no config drive larger than {limit} MiB")
    return label


def _reason(error: OSError) -> ProbeError:
    if error.errno == errno.ENOMEDIUM:
        return Absent("no medium")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Absent("no such device or file")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return Unreachable(f"the device is gone ({error.strerror})")
    return ProbeError(f"cannot be read ({error.strerror or type(error).__name__})")


# --- a directory ----------------------------------------------------------------------------------


def _read_directory(top: int) -> Contents:
    """Read the drive's files below an open directory: regular files only, no symlink followed."""
    listing: List[ListedFile] = []
    _list(top, (), listing, [0])
    return layout.gather(listing, lambda entry: _read_below(top, entry.path, entry.length), empty=not listing)


def _list(descriptor: int, path: Path, listing: List[ListedFile], count: List[int]) -> None:
    with os.scandir(descriptor) as names:
        for item in names:
            count[0] += 1
            layout.check_count(count[0])
            state = item.stat(follow_symlinks=False)
            here = (*path, item.name)
            if stat.S_ISREG(state.st_mode):
                listing.append(ListedFile(here, state.st_size))
            elif stat.S_ISDIR(state.st_mode) and len(here) <= layout.DEPTH_LIMIT:
                listing.append(ListedFile(here, 0, True))
    for entry in [one for one in listing if one.directory and one.path[:-1] == path]:
        if layout.descend(entry.path):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(entry.path[-1], flags, dir_fd=descriptor)
            try:
                _list(below, entry.path, listing, count)
            finally:
                os.close(below)


def _read_below(top: int, path: Path, length: int) -> bytes:
    directory = os.dup(top)
    try:
        for name in path[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(name, flags, dir_fd=directory)
            os.close(directory)
            directory = inner
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path[-1], flags, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return read_all(descriptor, length)
        finally:
            os.close(descriptor)
    finally:
        os.close(directory)
