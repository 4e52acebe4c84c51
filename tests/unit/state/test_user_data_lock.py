"""One run of user-data at a time: who waits, who says so, and who must not wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from support.printed_lines import line_of

from csagent.errors import CsagentError
from csagent.state import user_data_record as records
from csagent.system.seams import System

HOLDER = """
import fcntl, sys
held = open(sys.argv[1], "r+")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_run_is_waited_for_and_that_is_said(system: System, tree: Path) -> None:
    """Whoever looks at a run by hand that does nothing reads what it waits for."""
    with records.locked(system, print):
        pass
    lock = tree / records.FOLDER.lstrip("/") / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert line_of(other) == b"held\n"
        said: List[str] = []

        def say(text: str) -> None:
            said.append(text)
            other.stdin.close()  # type: ignore[union-attr]

        with records.locked(system, say):
            assert other.wait(60) == 0
        assert said == ["another run of user-data is under way: waiting for its end"]


def test_a_run_that_user_data_has_started_does_not_wait_for_it(system: System, tree: Path) -> None:
    """`csagent user-data run` among the commands of a document: each would wait for the other for ever."""
    document = tree / "document"
    document.write_bytes(b"#cloud-config\nwrite_files: [{path: /etc/a, content: EXAMPLE}]\n")
    words = [sys.executable, "-m", "csagent", "--root", str(tree), "user-data", "run", "--document"]
    with records.locked(system, print):
        done = subprocess.run([*words, str(document)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "started by a run of user-data, which waits for its end" in done.stderr
        with pytest.raises(CsagentError), records.locked(system, print):
            pass
    done = subprocess.run([*words, str(document)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.root
def test_no_run_in_what_is_somebody_elses(system: System, tree: Path) -> None:
    """Scripts that run as root are written there; what is root's and was opened to others is closed."""
    folder = records.folder_of("an-instance")
    records.make_folder(system, folder)
    whole = tree / records.FOLDER.lstrip("/")
    whole.chmod(0o777)
    with pytest.raises(OSError, match="others than root can write"):
        records.make_folder(system, folder)
    with records.locked(system, print):
        records.make_folder(system, folder)
    assert whole.stat().st_mode & 0o777 == 0o755
    for theirs in (whole, tree / folder.lstrip("/")):
        os.chown(theirs, 1001, 1001)
        with pytest.raises(OSError, match="belongs to user 1001"):
            records.make_folder(system, folder)
        os.chown(theirs, 0, 0)
    records.make_folder(system, folder)


def test_a_full_disk_takes_nothing_from_the_lock(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it is written down where there is room."""
    with records.locked(system, print):
        pass

    def full(*_words: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("csagent.state.user_data_record.os.pwrite", full)
    with records.locked(system, print):
        assert records.running(system)
    assert not records.running(system)
