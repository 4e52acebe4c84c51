"""A pass that found no account to give key and password to, and how the daemon hears that it was made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List

import pytest

from csagent import agent
from csagent.daemon import pass_process
from csagent.discovery import finder
from csagent.settings import Settings
from csagent.sources.request import Options, PassRequest
from csagent.state import console_mark
from csagent.system.accounts import PASSWD
from csagent.system.events import Files
from csagent.system.seams import System

NOBODY = "csagent-no-such-account"


def watched(**settings: Any) -> List[str]:
    return list(pass_process._world(System(), Settings(**settings), Options(), 10.0)["patterns"])


def test_account_that_is_missing_is_waited_for(tmp_path: Any) -> None:
    """The file of the accounts is watched until the account is there, whatever the sources are."""
    assert PASSWD in watched(user=NOBODY) and PASSWD in watched(user=NOBODY, sources=("drive",))
    assert PASSWD not in watched(user="root")
    (tmp_path / "etc").mkdir()
    files = Files(watched(user=NOBODY, sources=("drive",)), str(tmp_path))
    (tmp_path / "etc/passwd+").write_text("x\n")
    assert not files.news()
    (tmp_path / "etc/passwd+").rename(tmp_path / "etc/passwd")  # as useradd does
    assert files.news()


@pytest.mark.parametrize(("user", "accounted"), [("root", True), (NOBODY, False)])
def test_account_made_during_a_pass_is_news(
    user: str, accounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of that time is not taken for one that the pass has seen, where the account was missing."""
    marks = ("the same",)
    report = SimpleNamespace(
        first=True,
        observed=SimpleNamespace(marks=marks, observation=SimpleNamespace(source_found=True)),
    )
    monkeypatch.setattr(agent, "run_pass", lambda _request: report)
    monkeypatch.setattr(finder, "watchmarks", lambda *_words: marks)
    monkeypatch.setattr(console_mark, "source_found", lambda _system: False)
    monkeypatch.setattr(console_mark, "leave", lambda *_words, **_more: None)
    monkeypatch.setattr(pass_process, "_summary", lambda *_words, **_more: {"current_at": 0.0})
    request = PassRequest(System(), Settings(user=user), Options(), 10.0, 3.0, True, None)  # type: ignore[arg-type]
    told = pass_process._one_pass(request, None, quiet=False)  # type: ignore[arg-type]
    assert (told["current_at"] > 0.0) is accounted
