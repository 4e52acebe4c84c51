"""Files of an ISO 9660 image, through pycdlib.

pycdlib must be trusted with nothing: releases before 1.22 loop for ever on a 75 KB file, 1.22 takes 24 s
on one of 174 KB, and 13 % of mutated images raise something that is no `PyCdlibException`, MemoryError
and RecursionError included (field/dependencies#3). So this runs only in a child of its own
with limits (`jail.DRIVE`), reads only what `layout.select` chooses for, each from the length in
its record, and turns every exception into one word. Works with pycdlib 1.11 to 1.22.
"""

from __future__ import annotations

import gc
import io
import os
from typing import Any, Iterator, List, NamedTuple, Optional

from csagent.errors import Malformed, ProbeError
from csagent.sources.drive import layout
from csagent.sources.drive.layout import Contents, ListedFile, Path

SECTOR = 2048
DESCRIPTOR_OFFSET = 16 * SECTOR  # ECMA-119, 6.2.1: the volume descriptors start in sector 16


class Volume(NamedTuple):
    """The primary volume descriptor, as far as it decides anything."""

    label: str


class _Trees(NamedTuple):
    name: str
    argument: str
    encoding: str


_ROCK_RIDGE = _Trees("Rock Ridge", "rr_path", "utf-8")
_JOLIET = _Trees("Joliet", "joliet_path", "utf-16_be")
_PLAIN = _Trees("plain ISO 9660", "iso_path", "ascii")


def probe(descriptor: int) -> Volume:
    """Read sector 16: whether this is ISO 9660, and its volume id. Costs no import.

    Raises:
        Malformed: it is something else.
        OSError: it cannot be read (ENOMEDIUM: an empty drive).
    """
    sector = os.pread(descriptor, SECTOR, DESCRIPTOR_OFFSET)
    if not sector:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        raise Malformed("empty" if size == 0 else f"{size} bytes, too short for an ISO 9660 image")
    # ECMA-119, 8.4: type 1, "CD001", version 1; the volume id is 32 bytes at 40, padded with blanks.
    if sector[:7] != b"\x01CD001\x01" or len(sector) < 72:
        raise Malformed("not an ISO 9660 image")
    return Volume(sector[40:72].rstrip(b" \0").decode("ascii", "replace"))


def warm_up() -> None:
    """Import what reading needs, while the files of Python's libraries can still be opened.

    A missing pycdlib is reported by `read`, as the reason of the place.
    """
    import encodings.ascii
    import encodings.utf_16_be  # noqa: F401
    import time

    time.strptime("2000", "%Y")  # pycdlib reads dates so, and this imports _strptime
    try:
        import pycdlib  # noqa: F401
    except ImportError:
        pass


def read(descriptor: int) -> Contents:
    """Read the files of a config drive: from the Rock Ridge tree, else Joliet, else the plain one.

    Raises:
        ProbeError: the image cannot be read; the reason carries the class of pycdlib's exception only.
    """
    try:
        import pycdlib
    except ImportError:
        raise ProbeError("pycdlib is not installed (python3-pycdlib, or pip install pycdlib)") from None
    image = pycdlib.PyCdlib()
    with io.FileIO(descriptor, "rb", closefd=False) as stream:
        broken = _open(image, stream)
        if broken:
            # After a MemoryError there is nothing left to say so with, until what it built is gone.
            del image
            gc.collect()
            raise Malformed(f"the ISO 9660 image cannot be parsed ({broken})")
        try:
            return _read_trees(image)
        finally:
            try:
                image.close()
            except Exception:  # noqa: S110 - it was opened for reading, there is nothing to lose
                pass


def _open(image: Any, stream: io.FileIO) -> str:
    """Parse the image; the class of what was raised, or an empty string."""
    try:
        image.open_fp(stream)
    except Exception as error:
        return _class(error)
    return ""


def _class(error: Exception) -> str:
    name = type(error).__name__
    return f"{type(error).__module__}.{name}" if name.islower() else name  # struct.error


def _read_trees(image: Any) -> Contents:
    """The first tree that has any of our files; with a broken tree the next one may still be whole."""
    broken = ""
    best: Optional[Contents] = None
    for tree in _trees(image):
        try:
            contents = _read_tree(image, tree)
        except Malformed:
            raise
        except Exception as error:
            broken = broken or f"its {tree.name} tree cannot be read ({_class(error)})"
            continue
        if contents.present:
            note = f"{broken}, the {tree.name} tree was used" if broken else ""
            return contents._replace(note=note)
        if best is None or (best.empty and not contents.empty):
            best = contents
    if best is None or broken:
        raise Malformed(broken or "the ISO 9660 image has no directory tree")
    return best


def _trees(image: Any) -> List[_Trees]:
    trees = []
    if image.has_rock_ridge():
        trees.append(_ROCK_RIDGE)
    if image.has_joliet():
        trees.append(_JOLIET)
    return [*trees, _PLAIN]


def _read_tree(image: Any, tree: _Trees) -> Contents:
    listing: List[ListedFile] = []
    empty = True
    pending: List[Path] = [()]
    seen = 0
    while pending:
        directory = pending.pop()
        for entry in _children(image, tree, directory):
            seen += 1
            layout.check_count(seen)
            empty = False
            if not entry.directory:
                listing.append(entry)
            elif layout.descend(entry.path):
                listing.append(entry)
                pending.append(entry.path)
    return layout.gather(listing, lambda entry: _content(image, tree, entry), empty=empty)


def _children(image: Any, tree: _Trees, directory: Path) -> Iterator[ListedFile]:
    """What stands in a directory; symlinks and names that are no text are left out."""
    for record in image.list_children(**{tree.argument: "/" + "/".join(directory)}):
        if record is None or record.is_dot() or record.is_dotdot():
            continue
        rock_ridge = getattr(record, "rock_ridge", None)
        if rock_ridge is not None and rock_ridge.is_symlink():
            continue
        raw = (
            rock_ridge.name() if tree is _ROCK_RIDGE and rock_ridge is not None else record.file_identifier()
        )
        try:
            name = raw.decode(tree.encoding)
        except UnicodeDecodeError:
            continue
        if not name or "/" in name:
            continue
        is_directory = bool(record.is_dir())
        yield ListedFile(
            (*directory, name), 0 if is_directory else int(record.get_data_length()), is_directory
        )


class _Sink(io.BytesIO):
    """Takes no more than was announced: one record can be followed by any number of extents."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit

    def write(self, piece: Any) -> int:
        self._left -= len(piece)
        if self._left < 0:
            raise Malformed("longer than its record says")
        return super().write(piece)


def _content(image: Any, tree: _Trees, entry: ListedFile) -> bytes:
    if entry.length == 0:
        return b""  # its extent is that of the next file (field/dependencies#3)
    sink = _Sink(entry.length)
    image.get_file_from_iso_fp(sink, **{tree.argument: "/" + "/".join(entry.path)})
    return sink.getvalue()
