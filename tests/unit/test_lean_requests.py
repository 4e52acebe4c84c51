"""requests is loaded without TLS and without a second guesser of encodings, unless it insists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = ("ssl", "chardet", "urllib3")


def loaded(tmp_path: Path, requests: "str | None") -> "list[str]":
    """What of WATCHED a process has after the load, with our requests or one of this text."""
    if requests is not None:
        for name, text in (("requests", requests), ("urllib3", ""), ("chardet", "")):
            (tmp_path / f"{name}.py").write_text(text)
    code = f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\nfrom csagent import children\n"
    code += "children._import_requests()\nimport requests\n"
    code += f"print(*[name for name in {WATCHED!r} if sys.modules.get(name)])"
    done = subprocess.run([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


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
