"""Libraries are loaded without what they bring along and we do not use, unless they insist on it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from alone import printed

from csagent import lean

WATCHED = ("ssl", "chardet", "urllib3")


def loaded(tmp_path: Path, requests: "str | None") -> "list[str]":
    """What of WATCHED a process has after the load, with our requests or one of this text."""
    if requests is not None:
        for name, text in (("requests", requests), ("urllib3", ""), ("chardet", "")):
            (tmp_path / f"{name}.py").write_text(text)
    code = f"sys.path.insert(0, {str(tmp_path)!r})\nfrom csagent import children\n"
    code += "children._import_requests()\nimport requests\n"
    (names,) = printed(f"{code}print(*[name for name in {WATCHED!r} if sys.modules.get(name)])")
    return names.split()


def test_neither_tls_nor_a_guesser(tmp_path: Path) -> None:
    """The installed requests does without both."""
    assert loaded(tmp_path, None) == ["urllib3"]


@pytest.mark.parametrize(
    ("requests", "brought"),
    [
        ("import urllib3, chardet", ["chardet", "urllib3"]),  # as 2.25 does
        ("import urllib3, ssl", ["ssl", "urllib3"]),  # as 2.32.0 does
        ("import urllib3, ssl, chardet", ["ssl", "chardet", "urllib3"]),
        ("try:\n    import ssl, chardet\nexcept ImportError:\n    import urllib3", ["urllib3"]),
    ],
)
def test_what_it_insists_on_it_gets(tmp_path: Path, requests: str, brought: "list[str]") -> None:
    """A release that cannot be imported without one of them is imported with it."""
    assert loaded(tmp_path, requests) == brought


def test_what_is_blocked_stays_so_and_a_stand_in_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is there already is left alone."""
    for name in ("blocked_marker", "stand_marker"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    seen = []
    others = {"blocked_marker": None, "stand_marker": ModuleType("stand_marker"), "pytest": None}

    def load() -> str:
        seen.append((sys.modules["blocked_marker"], "stand_marker" in sys.modules, sys.modules["pytest"]))
        return "it"

    assert lean.loaded(load, others, "") == "it"
    assert seen == [(None, True, pytest)]
    with pytest.raises(ImportError):
        __import__("blocked_marker")
    assert "stand_marker" not in sys.modules


def test_a_library_that_fails_is_loaded_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises; what it had imported of itself is imported anew, and the second failure is told."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fussy_marker").mkdir()
    (tmp_path / "fussy_marker/part.py").write_text("")
    (tmp_path / "fussy_marker/__init__.py").write_text(
        "import fussy_marker.part, colorsys\nworks = colorsys.rgb_to_hsv(0, 0, 0)\n"
    )
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    tried = []

    def load() -> object:
        tried.append("fussy_marker.part" in sys.modules)
        import fussy_marker  # type: ignore[import-not-found]

        return fussy_marker.works

    assert lean.loaded(load, {"colorsys": ModuleType("colorsys")}, "fussy_marker") == (0.0, 0.0, 0)
    assert tried == [False, False]
    with pytest.raises(ZeroDivisionError):
        lean.loaded(lambda: 1 // 0, {"nobody_marker": None}, "")
    assert "nobody_marker" not in sys.modules
