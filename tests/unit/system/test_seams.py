from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from support.printed_lines import line_of

from csagent.errors import UsageError
from csagent.system.seams import SEARCH_PATH, System
from csagent.system.tree import Tree


def test_links_never_lead_outside_the_root(tree: Path) -> None:
    """Absolute and climbing links resolve as in a chroot, in the middle of a path and at its end."""
    outside = tree.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_text("outside")
    (tree / "secret").write_text("inside")
    (tree / "abs").symlink_to("/secret")
    (tree / "up").symlink_to("../../../../../../secret")
    (tree / "dir").symlink_to(outside)
    box = Tree(str(tree))
    assert box.read("/abs") == b"inside"
    assert box.read("/up") == b"inside"
    assert box.read("/../../secret") == b"inside"
    with pytest.raises(OSError):
        box.read("/dir/secret")


def test_writing_through_a_link_stays_inside(tree: Path) -> None:
    """A link to an absolute path is written where chroot would write it; the host's file is untouched."""
    (tree / "etc/hostname").unlink()
    (tree / "etc/hostname").symlink_to("/etc/real")
    box = Tree(str(tree))
    assert box.write("/etc/hostname", b"web01\n")
    assert (tree / "etc/real").read_text() == "web01\n"
    assert not os.path.exists("/etc/real")


def test_link_loops_end(tree: Path) -> None:
    """A loop is ELOOP, as from the kernel."""
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        Tree(str(tree)).read("/a")
    assert caught.value.errno == errno.ELOOP


def test_write_replaces_as_a_whole_and_compares_first(tree: Path) -> None:
    """A new inode when something changed, the same one when nothing did; mode kept where asked."""
    box = Tree(str(tree))
    path = tree / "etc/shadow"
    before = path.stat().st_ino
    content = path.read_bytes()
    assert box.write("/etc/shadow", content, 0o600, keep=True) is False
    assert path.stat().st_ino == before
    assert box.write("/etc/shadow", b"new\n", 0o600, keep=True) is True
    assert path.stat().st_ino != before and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tree / "etc")) == ["group", "hostname", "hosts", "passwd", "shadow"]


def test_a_leftover_temporary_file_is_taken_over(tree: Path) -> None:
    """What a power cut left behind does not pile up, and is not followed if it is a link."""
    (tree / "etc/.shadow.csagent-new").symlink_to("/etc/passwd")
    passwd = (tree / "etc/passwd").read_text()
    assert Tree(str(tree)).write("/etc/shadow", b"x\n", 0o600)
    assert (tree / "etc/passwd").read_text() == passwd
    assert not (tree / "etc/.shadow.csagent-new").is_symlink()


def test_read_is_bounded_and_wants_a_regular_file(tree: Path) -> None:
    """A FIFO does not hang it, a device is refused, a large file is cut at the limit."""
    os.mkfifo(tree / "etc/fifo")
    (tree / "etc/big").write_bytes(b"x" * 1000)
    box = Tree(str(tree))
    assert len(box.read("/etc/big", 10)) == 10
    for name in ("/etc/fifo", "/etc"):
        with pytest.raises(OSError):
            box.read(name)


def test_glob_skips_hidden_names(tree: Path) -> None:
    """Patterns match in any component; names with a leading dot (files being written) never match."""
    for name in ("a.lease", "b.lease", ".#c.lease"):
        (tree / "run" / name).touch()
    box = Tree(str(tree))
    assert list(box.glob("/run/*.lease")) == ["/run/a.lease", "/run/b.lease"]
    assert list(box.glob("/ho*/alice")) == ["/home/alice"]
    assert list(box.glob("/nowhere/*")) == []


def test_recorded_tree_replays(tree: Path) -> None:
    """Clock and commands come from recorded.json; a command that is not listed is not installed."""
    (tree / "_commands").mkdir()
    (tree / "_commands/x").write_text("output\n")
    (tree / "recorded.json").write_text('{"now": 1795234381, "commands": {"tool -x eth0": "_commands/x"}}')
    system = System.at(str(tree))
    assert system.clock.now() == 1795234381
    assert system.runner.run(["tool", "-x", "eth0"]).output == b"output\n"
    assert system.runner.run(["tool", "eth0"]).code is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"now": "x"}',
        '{"now": 1, "commands": []}',
        "[" * 100000,
        '{"now": 1, "commands": {"a": 1}}',
        " " * (1 << 20) + "{}",
    ],
)
def test_a_bad_recording_is_one_line(tree: Path, text: str) -> None:
    """Bombs and nonsense in recorded.json are a usage error, not a traceback."""
    (tree / "recorded.json").write_text(text)
    with pytest.raises(UsageError, match=r"recorded\.json"):
        System.at(str(tree))


def test_a_plain_tree_runs_no_command(system: System) -> None:
    """Under a root other than / nothing of this machine is run."""
    assert system.runner.run(["true"]).code is None


def test_runner_passes_stdin_and_bounds_time() -> None:
    """Secrets go in by stdin; a command that hangs is ended at its deadline."""
    runner = System().runner
    assert runner.run(["cat"], stdin=b"EXAMPLE").output == b"EXAMPLE"
    assert runner.run(["sh", "-c", "echo no >&2; exit 3"]).code == 3
    slow = runner.run(["sleep", "60"], timeout=0.2)
    assert slow.code is None and b"no end after" in slow.error
    assert runner.run(["no-such-command-here"]).code is None


def test_a_daemon_that_a_command_leaves_behind_is_not_waited_for() -> None:
    """ifup's dhclient has ifup's output: the command has ended when ifup has, and well."""
    done = System().runner.run(["sh", "-c", "sleep 600 & echo $!"], timeout=300)
    os.kill(int(done.output), signal.SIGKILL)
    assert (done.code, done.error) == (0, b"")


TRACER = """
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0, ctypes.get_errno()  # PTRACE_SEIZE
print("seized", flush=True)
time.sleep(600)
"""


@pytest.mark.root
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_command_that_cannot_even_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs on a dead disk: csagent goes on. Here somebody traces it, and does not let go of it."""
    started: List["subprocess.Popen[bytes]"] = []
    tracers: List["subprocess.Popen[bytes]"] = []

    class Traced(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            if not started:
                started.append(self)
                command = [sys.executable, "-c", TRACER, str(self.pid)]
                tracers.append(Traced(command, stdout=subprocess.PIPE))
                assert line_of(tracers[0]) == b"seized\n"

    monkeypatch.setattr("subprocess.Popen", Traced)
    monkeypatch.setattr("csagent.system.seams.REAP_SECONDS", 0.1)
    done = System().runner.run(["sleep", "600"], timeout=0.2)
    assert done.code is None and done.error == b"no end after 0.2 s"
    assert started[0].returncode is None
    with tracers[0] as tracer:
        tracer.kill()
    assert started[0].wait(60) == -signal.SIGKILL


def test_no_such_root() -> None:
    """--root must be a directory."""
    with pytest.raises(UsageError, match="no such directory"):
        System.at("/nonexistent-EXAMPLE")


def test_the_distributions_programs_come_first() -> None:
    """Debian's group staff may write in /usr/local: a chpasswd there must not be given root's password."""
    places = SEARCH_PATH.split(":")
    assert places.index("/usr/sbin") < places.index("/usr/local/sbin")
    assert [place for place in places if "local" in place] == places[-2:]
