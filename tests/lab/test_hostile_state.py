"""What is wrong with accounts, memory, /run, clock and signals: each has an outcome, and passes recover."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

import pytest
from support.guest_passes import DATA, DEADLINE, ENOUGH, ENVIRONMENT, REPOSITORY, Tree
from support.replace_fields import replace
from support.samples import CLOUD, INSTANCE, PASSWORD, make_key

from csagent import agent
from csagent.apply import libcrypt
from csagent.errors import CsagentError
from csagent.model import Secret
from csagent.plan import Report
from csagent.settings import Settings
from csagent.sources.request import Options, PassRequest
from csagent.state import applied, lock
from csagent.system.seams import Clock, Runner, System

ANOTHER = "aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f"
YEAR = 365 * 86400.0
MOMENTS = int(os.environ.get("CSAGENT_MOMENTS", "5"))  # of each signal
Spoil = Callable[[Path], None]


@pytest.fixture
def guest(tree: Path, servers: Any) -> Tree:
    """A guest that has not seen a pass, and its router."""
    return Tree(tree, servers.lab(CLOUD))


def memory_of(guest: Tree, instance: str = INSTANCE) -> Path:
    return guest.root / f"var/lib/csagent/instances/{instance}.json"


# --- the account ----------------------------------------------------------------------------------


def passwd(name: str = "alice", uid: Optional[int] = None, home: str = "/home/alice") -> str:
    uid = os.getuid() if uid is None else uid
    return f"{name}:x:{uid}:{os.getgid()}::{home}:/bin/sh\n"


ALICES_SHADOW = "alice:!:19000:0:99999:7:::\n"
NO_ACCOUNT = "there is no account alice in .*/etc/passwd"

# name: (etc/passwd, etc/shadow, {datum: reason}), each datum not named is applied.
ACCOUNTS: Dict[str, Tuple[str, str, Dict[str, str]]] = {
    "missing": ("", "", {"ssh_keys": NO_ACCOUNT, "password": NO_ACCOUNT}),
    "in LDAP only": ("", ALICES_SHADOW, {"ssh_keys": NO_ACCOUNT, "password": NO_ACCOUNT}),
    "line cut short": ("alice:x:1000\n", "", {"ssh_keys": NO_ACCOUNT, "password": NO_ACCOUNT}),
    "uid no number": (
        "alice:x:-1:0::/home/alice:/bin/sh\n",
        ALICES_SHADOW,
        {"ssh_keys": NO_ACCOUNT, "password": NO_ACCOUNT},
    ),
    "shadow line missing": (passwd(), "", {"password": "alice has no entry in .*/etc/shadow"}),
    "shadow line cut short": (passwd(), "alice:\n", {"password": "is not what was written|no such field"}),
    "home missing": (passwd(home="/home/gone"), ALICES_SHADOW, {"ssh_keys": "/home/gone of alice: No such"}),
    "no home": (passwd(home=""), ALICES_SHADOW, {"ssh_keys": "alice has no home directory"}),
    "home not absolute": (passwd(home="home/alice"), ALICES_SHADOW, {"ssh_keys": "has no home directory"}),
    "locked": (passwd(), ALICES_SHADOW, {}),
    "locked with a password": (passwd(), "alice:!$6$EXAMPLE$x:19000:0:99999:7:::\n", {}),
    "never a password": (passwd(), "alice:*:19000:0:99999:7:::\n", {}),
    "nologin": (passwd().replace("/bin/sh", "/usr/sbin/nologin"), ALICES_SHADOW, {}),
    "two lines each": (
        passwd() + passwd(home="/home/second"),
        ALICES_SHADOW + "alice:$6$EXAMPLE$x:1::::::\n",
        {},
    ),
    "uid 0 by another name": (passwd(uid=0), ALICES_SHADOW, {}),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_odd_accounts(guest: Tree, case: str) -> None:
    """What the account lacks fails for itself; once it is as usual, the next pass does the rest."""
    if case == "uid 0 by another name" and os.geteuid() != 0:
        pytest.skip("its files belong to root")
    users, shadows, wrong = ACCOUNTS[case]
    guest.settings("user: alice\n")
    root = passwd("root", home="/root")
    (guest.root / "etc/passwd").write_text(root + users)
    (guest.root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n" + shadows)
    first = guest.apply()
    assert first.code == (3 if wrong else 0), first
    assert first.states == {datum: "failed" if datum in wrong else "applied" for datum in DATA}, first
    for datum, words in wrong.items():
        first.says(datum, words)
    assert guest.router.acknowledged == ([] if "password" in wrong else ["127.0.0.1"])
    assert guest.shadow("root") == "*"
    if not wrong:
        assert all(
            libcrypt.matches(Secret(PASSWORD.encode()), line.split(":")[1])
            for line in (guest.root / "etc/shadow").read_text().splitlines()
            if line.startswith("alice:")
        ), "every line of the account: whichever a program reads, it is this password's"
    (guest.root / "etc/passwd").write_text(root + passwd())
    if "password" in wrong:
        (guest.root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n" + ALICES_SHADOW)
    second = guest.apply()
    second.is_well()
    assert {datum for datum, state in second.states.items() if state == "applied"} == set(wrong)
    assert guest.password_is(user="alice") and len(guest.router.acknowledged) == 1
    assert make_key(1) in (guest.root / "home/alice/.ssh/authorized_keys").read_text()


def test_home_is_the_root_directory(guest: Tree) -> None:
    """Small images say so: the file is /.ssh/authorized_keys then."""
    guest.settings("user: alice\n")
    (guest.root / "etc/passwd").write_text(passwd(home="/"))
    guest.apply().is_well()
    assert make_key(1) in (guest.root / ".ssh/authorized_keys").read_text()


# --- what the owner of the home directory puts in our way -------------------------------------------


def test_nothing_is_read_through_the_owners_links(guest: Tree) -> None:
    """plan does not show what a link in ~/.ssh leads to, and a link is no marker of an old script."""
    secret = guest.root / "etc/secret"
    secret.write_text("0123456789abcdef0123456789abcdef EXAMPLE-secret\n")
    (guest.root / "root/.ssh").mkdir(mode=0o700)
    (guest.root / "root/.ssh/authorized_keys").symlink_to("/etc/secret")
    (guest.root / "root/.password.md5").symlink_to("/etc/secret")
    plan = guest.run("plan", *guest.places)
    assert plan.returncode == 0 and "EXAMPLE-secret" not in plan.stdout and "0123456789" not in plan.stdout
    assert "links are not followed" in " ".join(plan.stdout.split())
    assert applied.load(System.at(str(guest.root)), INSTANCE, "/root").script_markers == ()


# --- /var/lib/csagent -----------------------------------------------------------------------------


def _state_is_a_file(root: Path) -> None:
    (root / "var/lib").mkdir(exist_ok=True)
    (root / "var/lib/csagent").write_text("in the way")


def _state_leads_nowhere(root: Path) -> None:
    (root / "var/lib").mkdir(exist_ok=True)
    (root / "var/lib/csagent").symlink_to("/nonexistent/csagent")


def _state_is_a_loop(root: Path) -> None:
    (root / "var/lib").mkdir(exist_ok=True)
    (root / "var/lib/csagent").symlink_to("csagent")


def _instances_is_a_file(root: Path) -> None:
    (root / "var/lib/csagent").mkdir(parents=True)
    (root / "var/lib/csagent/instances").write_text("in the way")


def _memory_is_a_directory(root: Path) -> None:
    (root / f"var/lib/csagent/instances/{INSTANCE}.json").mkdir(parents=True)


UNREAD = f"not touched: .*/{INSTANCE}.json cannot be read .[A-Za-z]"
UNWRITTEN = f"not changed: cannot remember in .*/{INSTANCE}.json: [A-Z]"


@pytest.mark.parametrize(
    ("spoil", "state", "words"),
    [
        (_state_is_a_file, "refused", UNREAD),
        (_state_leads_nowhere, "failed", UNWRITTEN),
        (_state_is_a_loop, "refused", UNREAD),
        (_instances_is_a_file, "refused", UNREAD),
        (_memory_is_a_directory, "refused", UNREAD),
    ],
)
def test_what_cannot_be_remembered_is_not_done(guest: Tree, spoil: Spoil, state: str, words: str) -> None:
    """Nothing is changed, and it is said; the next pass that can remember does it."""
    before = guest.shadow()
    spoil(guest.root)
    first = guest.apply()
    assert first.code == 1 and set(first.states.values()) == {state}, first
    for datum in ("hostname", "ssh_keys", "password"):
        first.says(datum, words)
    assert guest.router.acknowledged == [] and guest.router.waiting("127.0.0.1") == PASSWORD
    assert guest.shadow() == before and not (guest.root / "root/.ssh").exists()
    assert (guest.root / "etc/hostname").read_text() == "debian\n"
    kept = guest.root / "var/lib/csagent"
    kept.unlink() if kept.is_symlink() or kept.is_file() else shutil.rmtree(kept)
    second = guest.apply()
    second.is_well()
    assert second.states == dict.fromkeys(DATA, "applied")
    assert guest.password_is() and len(guest.router.acknowledged) == 1
    assert guest.litter() == []


def test_a_state_directory_that_has_gone_is_made(guest: Tree) -> None:
    """Removed between two passes, it is a first run again."""
    guest.apply().is_well()
    shutil.rmtree(guest.root / "var/lib/csagent")
    guest.apply().is_well()
    assert memory_of(guest).stat().st_mode & 0o777 == 0o600


MEMORIES: Dict[str, Tuple[Spoil, str]] = {
    "empty": (lambda path: path.write_bytes(b"") and None, "is damaged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]) and None, "is damaged"),
    "binary": (lambda path: path.write_bytes(os.urandom(4096)) and None, "is damaged"),
    "zeros after a power cut": (lambda path: path.write_bytes(bytes(700)) and None, "is damaged"),
    "nested 200,000 deep": (lambda path: path.write_bytes(b'{"a":[' + b"[" * 200_000) and None, "is damaged"),
    "nested deep in order": (
        lambda path: path.write_bytes(b"[" * 9_000 + b"]" * 9_000) and None,
        "is damaged",
    ),
    "100 MB": (lambda path: os.truncate(path, 100 << 20), "is damaged"),
    "a huge number": (
        lambda path: path.write_bytes(b'{"schema": ' + b"9" * 10_000 + b"}") and None,
        "is dam",
    ),
    "another form": (lambda path: path.write_text('{"schema": 1, "passwords": {}}') and None, "is damaged"),
}


@pytest.mark.parametrize("case", MEMORIES)
def test_a_memory_that_is_damaged(guest: Tree, case: str) -> None:
    """It is taken for a first run, and said so; a password that was offered meanwhile is not lost."""
    spoil, words = MEMORIES[case]
    guest.apply().is_well()
    spoil(memory_of(guest))
    guest.router.change(password="EXAMPLE-second", ssh_keys=(make_key(3),))
    second = guest.apply()
    note = str(second.status["note"])
    assert re.search(words, note) and "first run" in note and note in second.error
    second.is_well()
    assert guest.password_is("EXAMPLE-second") and len(guest.router.acknowledged) == 2
    keys = (guest.root / "root/.ssh/authorized_keys").read_text()
    assert make_key(3) in keys and make_key(1) not in keys
    third = guest.apply()
    third.is_well()
    assert third.status["note"] is None and "applied" not in third.states.values()


UNREADABLE: Dict[str, Spoil] = {
    "a fifo": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("/nowhere"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_memory_that_cannot_be_read(guest: Tree, case: str) -> None:
    """It may yet come back: no older password is set for it, and no name and key of the owner's is undone."""
    guest.apply().is_well()
    path = memory_of(guest)
    before = path.read_bytes()
    (guest.root / "etc/hostname").write_text("mine\n")
    guest.router.change(password="EXAMPLE-second")
    guest.apply().is_well()
    kept, shadow = path.read_bytes(), guest.shadow()
    assert kept != before
    path.unlink()
    UNREADABLE[case](path)
    guest.router.change(password=PASSWORD)  # a stale one
    done = guest.apply()
    assert done.code == 1 and set(done.states.values()) == {"refused"}, done
    for datum in DATA:
        link = f"not touched: .*/{INSTANCE}.json is a link, which csagent has not made: see where it leads"
        file = f"{UNREAD}.*mend that, or remove the file for a first run"
        done.says(datum, file if case == "a fifo" else link)
    assert guest.shadow() == shadow and (guest.root / "etc/hostname").read_text() == "mine\n"
    assert len(guest.router.acknowledged) == 2
    assert [one.name for one in path.parent.glob("*.json*")] == [path.name]
    path.unlink()
    path.write_bytes(kept)
    done = guest.apply()
    assert done.states["password"] == "refused" and (guest.root / "etc/hostname").read_text() == "mine\n"
    assert "a stale copy" in done.reason("password")


NEWER: Dict[str, Callable[[Dict[str, Any]], Dict[str, Any]]] = {
    "another form of fingerprints": lambda known: {
        **known,
        "passwords": [{"algorithm": "argon2id", "mark": mark} for mark in known["passwords"]],
    },
    "another name for them": lambda known: {
        "prints" if name == "passwords" else name: value for name, value in known.items()
    },
}


@pytest.mark.parametrize("case", NEWER)
def test_a_newer_memory_that_we_do_not_understand(guest: Tree, case: str) -> None:
    """Nothing is changed, set again, revoked or acknowledged, and the file stays as it is, byte for byte."""
    guest.apply().is_well()
    path = memory_of(guest)
    path.write_text(json.dumps({**NEWER[case](json.loads(path.read_text())), "schema": 2}))
    before = path.read_bytes()
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    keys = (guest.root / "root/.ssh/authorized_keys").read_text()
    guest.router.change(ssh_keys=(make_key(3),), hostname="web02")
    guest.router._done.clear()  # the password that was set is offered again
    plan = json.loads(guest.run("plan", "--json", *guest.places).stdout)
    assert plan["changes"] is False
    done = guest.apply()
    assert done.code == 1 and set(done.states.values()) == {"refused"}, done
    for datum in DATA:
        done.says(datum, "not touched: .* written by a newer csagent .schema 2.; install that one again")
    assert path.read_bytes() == before and not path.with_name(path.name + ".damaged").exists()
    assert guest.shadow() == "$6$owner$x" and len(guest.router.acknowledged) == 1
    assert (guest.root / "root/.ssh/authorized_keys").read_text() == keys
    path.unlink()
    guest.apply().is_well()
    assert guest.password_is() and len(guest.router.acknowledged) == 2


def test_a_newer_memory_that_we_do_understand(guest: Tree) -> None:
    """What it says was applied counts, and what we do not know in it is kept."""
    guest.apply().is_well()
    path = memory_of(guest)
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "schema": 2, "future": {"a": 1}, "forgotten_by": {}})
    )
    (guest.root / "etc/shadow").write_text("root:$6$owner$x:1:0:99999:7:::\n")
    guest.router._done.clear()
    guest.router.change(hostname="web02")
    done = guest.apply()
    done.is_well()
    assert done.states["password"] == "unchanged" and guest.shadow() == "$6$owner$x"
    kept = json.loads(path.read_text())
    assert (kept["schema"], kept["future"], kept["hostname"]) == (2, {"a": 1}, "web02")


def test_a_clone_with_the_originals_memory(guest: Tree) -> None:
    """The other instance's password, keys and name are applied as at a first boot; its memory stays."""
    guest.apply().is_well()
    before = memory_of(guest).read_bytes()
    guest.router.change(
        instance_id=ANOTHER, hostname="clone01", ssh_keys=(make_key(3),), password="EXAMPLE-c"
    )
    done = guest.apply()
    done.is_well()
    assert [done.states[datum] for datum in ("hostname", "ssh_keys", "password")] == ["applied"] * 3
    keys = (guest.root / "root/.ssh/authorized_keys").read_text()
    assert make_key(3) in keys and make_key(1) not in keys, "the original's keys are revoked"
    assert guest.password_is("EXAMPLE-c") and memory_of(guest).read_bytes() == before
    assert applied.last_instance(System.at(str(guest.root))) == ANOTHER


# --- /run/csagent ---------------------------------------------------------------------------------


def _run_is_a_file(root: Path) -> None:
    (root / "run/csagent").write_text("in the way")


def _run_leads_nowhere(root: Path) -> None:
    (root / "run/csagent").symlink_to("/nonexistent/csagent")


def _lock_is_a_directory(root: Path) -> None:
    (root / "run/csagent/lock").mkdir(parents=True)


def _run_is_gone(root: Path) -> None:
    (root / "run").rmdir()


def _run_is_elsewhere(root: Path) -> None:
    (root / "run").rmdir()
    (root / "run").symlink_to("/var/run")
    (root / "var/run").mkdir()


@pytest.mark.parametrize(
    ("spoil", "recorded"),
    [
        (_run_is_a_file, False),
        (_run_leads_nowhere, False),
        (_lock_is_a_directory, True),
        (_run_is_gone, True),
        (_run_is_elsewhere, True),
    ],
)
def test_a_broken_run_directory_keeps_nobody_out(guest: Tree, spoil: Spoil, recorded: bool) -> None:
    """The pass is made all the same; where it cannot be recorded, that is said. The next one records."""
    spoil(guest.root)
    done = guest.run("apply", "--json", *guest.places)
    assert done.returncode == 0, done.stderr
    assert guest.password_is() and len(guest.router.acknowledged) == 1
    assert ("record of this pass could not be written" in done.stderr) is not recorded
    for path in (guest.root / "run/csagent", guest.root / "run"):
        with contextlib.suppress(OSError):
            path.unlink()
    guest.run("apply", *guest.places)
    assert json.loads(guest.run("status", "--json").stdout)["exit_code"] == 0


def test_without_a_lock_file_passes_take_turns_all_the_same(guest: Tree) -> None:
    """Something stands where the lock file belongs, and two passes at once: acknowledged once."""
    _lock_is_a_directory(guest.root)
    assert [code for code, _error in together(guest, 2)] == [0, 0]
    assert len(guest.router.acknowledged) == 1


def of_others(root: Path) -> Iterator[Path]:
    """What any user may open: whoever can do that may lock it, and keep it locked."""
    yield root
    for path in sorted(root.iterdir()):
        if not path.is_symlink() and path.stat().st_mode & 0o004:
            if path.is_dir():
                yield from of_others(path)
            else:
                yield path


@pytest.mark.parametrize(
    "spoil", [lambda _root: None, _run_is_a_file, _run_leads_nowhere, _lock_is_a_directory]
)
def test_no_lock_of_another_users_holds_up_a_pass(
    guest: Tree, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever he may open he has locked, `/` first of all: csagent waits for what is root's alone."""
    import fcntl

    spoil(guest.root)
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    with contextlib.ExitStack() as held:
        for path in of_others(guest.root):
            descriptor = os.open(path, os.O_RDONLY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert in_process(guest, Clock()).exit_code == 0
    assert guest.password_is() and len(guest.router.acknowledged) == 1


# --- the clock ------------------------------------------------------------------------------------


class Wild(Clock):
    """A wall clock that jumps with every look at it; the monotonic clock is real."""

    def __init__(self, step: float, now: float) -> None:
        self.time, self.step = now, step

    def now(self) -> float:
        self.time += self.step
        return self.time


def in_process(guest: Tree, clock: Clock) -> Report:
    """A pass with another clock."""
    system = replace(System.at(str(guest.root)), clock=clock)
    options = Options(router=("127.0.0.1", guest.router.port), password_port=guest.router.password_port)
    return agent.run_pass(PassRequest(system, Settings(), options, DEADLINE))


def states(report: Report) -> Set[str]:
    """Of all but the network, which no router has."""
    return {outcome.state for outcome in report.outcomes if outcome.datum != "network"}


@pytest.mark.parametrize("years", [10, -10])
def test_the_clock_jumps_during_a_pass(guest: Tree, years: int) -> None:
    """Ten years with every look at it, either way: all is applied, and no wait is for years."""
    report = in_process(guest, Wild(years * YEAR, time.time()))
    assert report.exit_code == 0 and states(report) == {"applied"}
    assert guest.password_is() and report.status["seconds"] >= 0
    assert guest.run("status").returncode == 0
    days = (guest.root / "etc/shadow").read_text().split(":")[2]
    assert days == "" or int(days) > 0, "0 would ask for another password at the next login"
    guest.apply().is_well()


@pytest.mark.parametrize("now", [0.0, -5.0, 1e9, 4e9, 9.9e10, 1e18, -1e18])
def test_the_clock_is_anywhere(guest: Tree, now: float) -> None:
    """Before the epoch or beyond the calendar: a pass, a status, and no expired password afterwards."""
    report = in_process(guest, Wild(0.0, now))
    assert report.exit_code == 0 and states(report) == {"applied"}
    assert guest.password_is()
    days = (guest.root / "etc/shadow").read_text().split(":")[2]
    assert days == (str(int(now) // 86400) if now >= 86400 else "")
    assert guest.run("status").returncode == 0
    guest.router.change(password="EXAMPLE-second")
    guest.apply().is_well()
    assert guest.password_is("EXAMPLE-second") and len(guest.router.acknowledged) == 2


def test_a_memory_from_the_future_is_not_the_latest(guest: Tree) -> None:
    """A clone's original was written by a clock years ahead; with nobody to say the id, ours still counts."""
    guest.apply().is_well()
    guest.router.change(instance_id=ANOTHER, password="EXAMPLE-c")
    guest.apply().is_well()
    ahead = time.time() + 40 * YEAR
    os.utime(memory_of(guest), (ahead, ahead))
    os.utime(memory_of(guest, ANOTHER), (0, 0))
    assert applied.last_instance(System.at(str(guest.root))) == ANOTHER
    (guest.root / "var/lib/csagent/latest-instance").unlink()
    assert applied.last_instance(System.at(str(guest.root))) == INSTANCE, "an earlier csagent had only times"
    (guest.root / "var/lib/csagent/latest-instance").write_bytes(b"\xff\0../../x\n")
    assert applied.last_instance(System.at(str(guest.root))) == INSTANCE


DAEMON = """
import sys, time
from csagent import settings
from csagent.sources.request import Options, PassRequest
from csagent.daemon.loop import Daemon
from csagent.log import Log
from csagent.system.seams import Clock, Runner, System

class Wild(Clock):
    step, count = float(sys.argv[4]), 0
    def now(self):
        Wild.count += 1
        return time.time() + self.step * self.count

system = System.at(sys.argv[1])._replace(clock=Wild())
options = Options(router=("127.0.0.1", int(sys.argv[2])), password_port=int(sys.argv[3]))
known = settings.Settings()._replace(poll=0.3)
sys.exit(Daemon(lambda plain: (system, known, options), Log(1)).run())
"""


@pytest.mark.parametrize("years", [10, -10])
def test_the_daemons_timers_do_not_follow_the_wall_clock(guest: Tree, years: int) -> None:
    """While the clock jumps by years, the poll neither stops nor runs wild, and a reset is applied."""
    words = [str(guest.root), str(guest.router.port), str(guest.router.password_port), str(years * YEAR)]
    with background([sys.executable, "-c", DAEMON, *words]) as process:
        until(lambda: len(guest.router.acknowledged) == 1)
        start = time.monotonic()
        asked = len(guest.router.requests)
        until(lambda: len(guest.router.requests) > asked + 20)
        assert time.monotonic() - start > 0.2
        guest.router.change(password="EXAMPLE-second")
        until(lambda: len(guest.router.acknowledged) == 2)
        assert guest.password_is("EXAMPLE-second")
        process.terminate()
        assert process.wait(DEADLINE) == 0


# --- signals --------------------------------------------------------------------------------------


def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextlib.contextmanager
def background(command: List[str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the test."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=ENVIRONMENT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=300)


def processes_of(root: Path) -> List[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{root}\0".encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def no_half_state(guest: Tree) -> None:
    """Every file is what it was or what it shall be, never in between."""
    assert (guest.root / "etc/hostname").read_text() in ("debian\n", "web01\n")
    assert guest.shadow() == "*" or guest.password_is()
    assert (guest.root / "etc/shadow").read_text().endswith("\nalice:!:19000:0:99999:7:::\n")
    keys = guest.root / "root/.ssh/authorized_keys"
    if keys.exists():
        assert [line for line in keys.read_text().splitlines() if line[0] != "#"] == list(CLOUD.ssh_keys)
    if guest.router.acknowledged:
        known = applied.load(System.at(str(guest.root)), INSTANCE)
        assert guest.password_is() and known.age_of(Secret(PASSWORD.encode())) == "newest"


@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda one: one.name)
def test_apply_is_stopped_at_any_moment(guest: Tree, number: signal.Signals) -> None:
    """Nothing is half done and no child lives on; Ctrl-C is one line; the next pass finishes the job."""
    dice = random.Random(f"csagent {number.name}")
    pristine = guest.root.parent / f"{guest.root.name}-pristine"
    shutil.copytree(guest.root, pristine)
    stopped = 0
    guest.router.latency = 0.05  # seconds of each answer, so that a pass is long enough to be stopped
    for moment in (0.0, *[dice.uniform(0.0, 0.5) for _ in range(MOMENTS - 1)]):
        shutil.rmtree(guest.root)
        shutil.copytree(pristine, guest.root)
        guest.router._done.clear()
        guest.router.acknowledged.clear()
        asked = len(guest.router.requests)
        with background(guest.command("apply", *guest.places)) as process:
            until(lambda: len(guest.router.requests) > asked or process.poll() is not None)  # noqa: B023
            time.sleep(moment)
            process.send_signal(number)
            _out, error = process.communicate(timeout=DEADLINE)
        stopped += process.returncode != 0
        assert process.returncode in (0, 130 if number == signal.SIGINT else -number), error
        assert "Traceback" not in error and PASSWORD not in error
        if process.returncode == 130:
            assert error.count("\n") == 1 and "interrupted" in error
        until(lambda: processes_of(guest.root) == [])
        no_half_state(guest)
        after = guest.apply()
        after.is_well()
        assert guest.password_is() and len(guest.router.acknowledged) == 1
        assert (guest.root / "etc/hostname").read_text() == "web01\n"
        assert guest.litter() == []
    assert stopped, "some moment was one at which it was not done yet"


def test_the_daemon_is_reloaded_and_stopped_at_any_moment(guest: Tree) -> None:
    """A storm of SIGHUP, then SIGTERM: it ends with 0, what it did is whole, a pass by hand finishes."""
    dice = random.Random("csagent daemon")
    pristine = guest.root.parent / f"{guest.root.name}-pristine"
    shutil.copytree(guest.root, pristine)
    for _ in range(MOMENTS):
        shutil.rmtree(guest.root)
        shutil.copytree(pristine, guest.root)
        guest.router._done.clear()
        guest.router.acknowledged.clear()
        asked = len(guest.router.requests)
        with background(guest.command("daemon", *guest.places)) as process:
            until(lambda: len(guest.router.requests) > asked)  # noqa: B023
            for _ in range(dice.randrange(6)):
                time.sleep(dice.uniform(0.0, 0.15))
                process.send_signal(signal.SIGHUP)
            time.sleep(dice.uniform(0.0, 0.3))
            process.terminate()
            _out, error = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0 and "Traceback" not in error and PASSWORD not in error, error
        until(lambda: processes_of(guest.root) == [])
        no_half_state(guest)
        guest.apply().is_well()
        assert guest.password_is() and len(guest.router.acknowledged) == 1 and guest.litter() == []


def test_a_signal_in_the_middle_of_a_later_pass(guest: Tree) -> None:
    """Once the close look is over too, SIGTERM and SIGHUP that come while it reads are not put off."""
    guest.settings("poll: 600\n")
    with background(guest.command("daemon", *guest.places)) as process:
        until(lambda: len(guest.router.acknowledged) == 1)
        time.sleep(0.3)
        guest.router.latency = 0.3
        for _ in range(3):
            asked = len(guest.router.requests)
            process.send_signal(signal.SIGHUP)
            until(lambda: len(guest.router.requests) > asked)  # noqa: B023
        process.terminate()
        assert process.wait(DEADLINE) == 0


# --- commands ---


def test_a_command_that_talks_for_ever_is_heard_in_little_memory() -> None:
    """What it says beyond the limits is thrown away while it goes on, and its deadline ends it."""
    tracemalloc.start()
    try:
        done = Runner().run(["sh", "-c", "yes & yes >&2"], timeout=0.5, limit=1000)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert done.code is None and done.error == b"no end after 0.5 s"
    done = Runner().run(["sh", "-c", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"], limit=1000)
    assert (done.code, len(done.output), len(done.error)) == (0, 1000, 4096)


def test_a_command_that_does_not_listen() -> None:
    """More than a pipe holds is said to one that reads nothing, or half of it: it ends as it ends."""
    assert Runner().run(["sh", "-c", "exit 7"], stdin=b"x" * 1_000_000).code == 7
    done = Runner().run(["head", "-c", "200000"], stdin=b"x" * 1_000_000)
    assert done.code == 0 and len(done.output) == 200_000
    assert len(Runner().run(["cat"], stdin=b"x" * 200_000).output) == 200_000


# --- two at once ----------------------------------------------------------------------------------


def together(guest: Tree, count: int) -> List[Tuple[int, str]]:
    """Passes side by side: exit code and standard error of each."""
    done: List[Tuple[int, str]] = []

    def one() -> None:
        ended = guest.run("apply", *guest.places, *ENOUGH)
        done.append((ended.returncode, ended.stderr))

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    return done


class Watch:
    """Notes every password field that root's shadow entry ever has."""

    def __init__(self, guest: Tree) -> None:
        self.seen: List[str] = []
        self._guest, self._over = guest, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            self._note()
            time.sleep(0.001)

    def _note(self) -> None:
        value = self._guest.shadow()
        if value not in self.seen:
            self.seen.append(value)

    def __enter__(self) -> "Watch":
        self._note()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(300)
        self._note()


def test_apply_beside_a_pass_of_the_daemon(guest: Tree) -> None:
    """Started at the same moment, the password is set once and acknowledged once, and both are content."""
    guest.router.latency = 0.02
    with Watch(guest) as watch, background(guest.command("daemon", *guest.places)) as process:
        assert [code for code, _error in together(guest, 2)] == [0, 0]
        until(lambda: guest.router.acknowledged != [])
        time.sleep(0.5)
        process.terminate()
        assert process.wait(DEADLINE) == 0
    assert len(watch.seen) == 2 and watch.seen[0] == "*" and guest.password_is()
    assert len(guest.router.acknowledged) == 1 and guest.litter() == []


def test_two_passes_of_which_one_hangs(guest: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the lock, hangs and does not let go costs the other pass a minute, and one line."""
    import fcntl

    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    (guest.root / "run/csagent").mkdir()
    system = System.at(str(guest.root))
    options = Options(router=("127.0.0.1", guest.router.port), password_port=guest.router.password_port)
    with (guest.root / "run/csagent/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(CsagentError, match=r"another csagent holds .*; try again when it is done"):
            agent.run_pass(PassRequest(system, Settings(), options, DEADLINE))
        assert guest.shadow() == "*" and guest.router.acknowledged == []
    guest.apply().is_well()


# --- values as large as they may be ---------------------------------------------------------------


def test_as_many_keys_as_there_may_be(guest: Tree) -> None:
    """A set of nearly a MiB is read, written, and answered for; nothing else suffers from it."""
    keys = tuple(make_key(number, "c" * 900) for number in range(1000))
    guest.router.cloud = replace(CLOUD, ssh_keys=keys)
    guest.apply().is_well()
    assert guest.run("query", "ssh_keys").stdout.splitlines() == list(keys)


def test_as_much_metadata_as_there_may_be(guest: Tree) -> None:
    """What a pass leaves in /run can be read again, by query and by templates, in any language."""
    values = {f"var{number}": "\U0001f600" * 16000 for number in range(40)}
    document = b"## template: jinja\n#cloud-config\n"
    document += b"write_files: [{path: /etc/x, content: '{{ ds.meta_data.var7 }}'}]"
    guest.router.cloud = replace(CLOUD, metadata={**CLOUD.metadata, **values}, user_data=document)
    guest.apply().is_well()
    shown = guest.run("query", "var7")
    assert (shown.returncode, shown.stdout) == (0, values["var7"] + "\n"), shown.stderr[:300]
    assert guest.run("user-data", "run").returncode == 0
    assert (guest.root / "etc/x").read_text() == values["var7"]
