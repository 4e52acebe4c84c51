"""The log of user-data is root's alone, whoever can make files in /var/log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from csagent.errors import ApplyError
from csagent.system.seams import System
from csagent.user_data.log_file import ASIDE, PATH, LogFile

SYSLOG = 104  # who may write /var/log on Ubuntu


@pytest.fixture
def log(tree: Path) -> Path:
    """Where it is to be."""
    path = tree / PATH.lstrip("/")
    path.parent.mkdir(parents=True)
    return path


def _append(system: System) -> None:
    log = LogFile(system)
    log.write("marker\n")
    log.close()


def _by_syslog(log: Path) -> None:
    log.write_text("before\n")
    os.chown(log, SYSLOG, 4)


def _pipe(log: Path) -> None:
    os.mkfifo(log)
    os.chown(log, SYSLOG, 4)


def _second_name(log: Path) -> None:
    log.write_text("before\n")
    os.link(log, log.parent / "another")


def _link(log: Path) -> None:
    (log.parent / "theirs").write_text("before\n")
    log.symlink_to("theirs")
    os.lchown(log, SYSLOG, 4)


@pytest.mark.parametrize("there", [_by_syslog, _pipe, _second_name, _link])
def test_what_others_have_put_there_is_set_aside(
    system: System, log: Path, there: Callable[[Path], None]
) -> None:
    """It is kept under another name, and the log says so; whoever had it open reads nothing of ours."""
    there(log)
    before = log.lstat()
    _append(system)
    _append(system)
    first, *rest = log.read_text().splitlines()
    assert PATH + ASIDE in first and rest == ["marker", "marker"]
    status, aside = log.lstat(), Path(f"{log}{ASIDE}").lstat()
    assert (status.st_uid, status.st_mode & 0o777, status.st_nlink) == (os.geteuid(), 0o640, 1)
    assert (aside.st_ino, aside.st_uid) == (before.st_ino, before.st_uid)


def test_ours_is_gone_on_with_also_behind_roots_link(system: System, tree: Path, log: Path) -> None:
    (tree / "srv").mkdir(exist_ok=True)
    log.symlink_to("/srv/log")
    _append(system)
    _append(system)
    assert log.is_symlink() and (tree / "srv/log").read_text() == "marker\n" * 2


def test_a_directory_is_an_error(system: System, log: Path) -> None:
    log.mkdir()
    with pytest.raises(ApplyError, match="Is a directory"):
        LogFile(system)
