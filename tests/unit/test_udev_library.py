"""pyudev is loaded without the search for its library, and with it where there is no other way."""

from __future__ import annotations

from pathlib import Path

import pytest
from alone import printed

pytest.importorskip("pyudev")


def loaded(change: str = "") -> "list[str]":
    """In a process of its own: what libudev says of /sys, and which of some modules that took."""
    code = (
        f"from csagent.find import udev\n{change}\ncontext = udev.load().Context()\nprint(context.sys_path)\n"
    )
    code += "print(*{'shutil', 'ctypes.util', 'bz2'} & set(sys.modules))"
    return printed(code)


def test_no_search() -> None:
    """Neither ldconfig nor what the search for a library brings."""
    assert loaded() == ["/sys", ""]


@pytest.mark.parametrize("names", [{}, {"udev": "libudev.so.0.marker"}])
def test_search_where_the_names_are_others(tmp_path: Path, names: "dict[str, str]") -> None:
    """A library that does not go by the name we know is searched for, as pyudev does."""
    (tmp_path / "pyudev.py").write_text(
        "import ctypes\nfrom ctypes.util import find_library\nname = find_library('udev')\n"
        "if not name:\n    raise ImportError('udev')\nctypes.CDLL(name)\n"
        "class Context:\n    sys_path = '/sys'\n"
    )
    change = f"sys.path.insert(0, {str(tmp_path)!r})\nudev.SONAMES.clear(); udev.SONAMES.update({names!r})"
    found, modules = loaded(change)
    assert found == "/sys" and "ctypes.util" in modules.split()


def test_missing_library_is_said() -> None:
    """Without pyudev it is an ImportError, as everywhere; nothing is left in place of ctypes.util."""
    code = "sys.modules['pyudev'] = None\nfrom csagent.find import udev\n"
    code += "try:\n    udev.load()\nexcept ImportError:\n    print('ctypes.util' in sys.modules)\n"
    code += "import ctypes.util\nprint(bool(ctypes.util.find_library('c')))"
    assert printed(code) == ["False", "True"]
