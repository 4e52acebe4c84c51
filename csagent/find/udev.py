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


def load() -> "Any":
    """The module `pyudev`, whose libraries are loaded too.

    Raises:
        ImportError: it is not installed, or libudev is not.
        OSError: libudev cannot be used.
    """
    import sys

    if "pyudev" not in sys.modules and "ctypes.util" not in sys.modules:
        try:
            return _by_name()
        except (ImportError, OSError):
            for name in [name for name in sys.modules if name.split(".")[0] == "pyudev"]:
                del sys.modules[name]
    import pyudev

    pyudev.Context()
    return pyudev


def _by_name() -> "Any":
    import sys
    import types

    finder: Any = types.ModuleType("ctypes.util")
    finder.find_library = SONAMES.get
    sys.modules["ctypes.util"] = finder
    try:
        import pyudev

        pyudev.Context()
        return pyudev
    finally:
        del sys.modules["ctypes.util"]
