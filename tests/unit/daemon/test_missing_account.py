"""A pass that found no account to give key and password to, and how the daemon hears that it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from csagent.daemon import pass_process
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.events import Account
from csagent.system.seams import System

NOBODY = "csagent-no-such-account"
LINE = "{}:x:1000:1000::/home/x:/bin/sh\n"


def world(**settings: Any) -> Dict[str, Any]:
    return pass_process._world(System(), Settings(**settings), Options(), 10.0)


def test_account_that_is_missing_is_waited_for() -> None:
    """It is watched for until it is there, whatever the sources are."""
    assert world(user=NOBODY)["account"] == world(user=NOBODY, sources=("drive",))["account"] == NOBODY
    assert world(user="root")["account"] is None


def test_the_missing_account_alone_is_news(tmp_path: Path) -> None:
    """Others that are made in the meantime, as user-data does, are none: each would be a pass."""
    passwd, written = tmp_path / "passwd", tmp_path / "passwd+"
    account = Account("debian", str(passwd))
    try:
        seen = []
        for name in ("root", "debian2", "adebian", "debian"):
            written.write_text(LINE.format("root") + LINE.format(name))
            assert not account.news()
            written.rename(passwd)  # as useradd does
            seen.append(account.news())
        assert seen == [False, False, False, True] and not account.news()
    finally:
        account.close()
