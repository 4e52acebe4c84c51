"""pyudev, loaded without the search for its library.

`ctypes.util.find_library`, which pyudev calls for libudev and libc, runs ldconfig, and brings shutil with
three compressors: 0.8 MiB of a process that stays. Both libraries have had one name for a decade, and where
they have another one (musl's libc has), they are searched for.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any

SONAMES = {"udev": "libudev.so.1", "c": "libc.so.6"}


def load() -> Any:
    """The module `pyudev`, whose libraries are loaded too.

    Raises:
        ImportError: it is not installed, or libudev is not.
        OSError: libudev cannot be used.
    """
    from types import ModuleType

    from csagent import lean

    by_name: Any = ModuleType("ctypes.util")
    by_name.find_library = SONAMES.get
    return lean.loaded(_load, {"ctypes.util": by_name}, "pyudev")


def _load() -> Any:
    import pyudev

    pyudev.Context()
    return pyudev
