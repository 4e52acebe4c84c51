"""Known reasons of a failed change: each is recognised, has its own advice, and the advice can be run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from support.samples import make_key

from csagent.apply import failures, hostname, password, ssh_keys
from csagent.apply.executor import PlanExecutor
from csagent.errors import ApplyError
from csagent.plan import Outcome, Plan, SetHostname
from csagent.state import applied
from csagent.system import accounts
from csagent.system.seams import System

PAM = (
    "chpasswd failed with 1: chpasswd: (user root) pam_chauthtok() failed, error:; Authentication token "
    "manipulation error; chpasswd: (line 1, user root) password not changed"
)
LOCK = "chpasswd failed with 1: chpasswd: cannot lock /etc/shadow; try again later."
REASONS: Dict[str, Tuple[str, str, str]] = {
    # reason, what it comes to, in the advice
    "a lock left behind": (LOCK, "left its lock", "rm -f /etc/passwd.lock /etc/shadow.lock"),
    "a lock file without a PID": (
        "chpasswd failed with 1: chpasswd: existing lock file /etc/passwd.lock without a PID",
        *("left its lock", "lslocks | grep /etc/"),
    ),
    "somebody holds PAM's lock": ("chpasswd: no end after 30 s", "another program", "lslocks"),
    "PAM's lock": ("chpasswd failed with 1: Authentication token lock busy", "left its lock", "pgrep -a"),
    "a module that denies": (PAM, "PAM refused it", "journalctl -b -t chpasswd"),
    "a rule for passwords": (
        f"{PAM}; BAD PASSWORD: The password is shorter than 14 characters",
        *("a rule for passwords", "vm.password.length"),
    ),
    "read-only, said by PAM": (
        f"{PAM}; /etc: Read-only file system",
        *("read-only", "findmnt -fno TARGET --target /etc | xargs mount -o remount,rw"),
    ),
    "an immutable file, said by PAM": (
        f"{PAM}; /etc/shadow: Operation not permitted",
        *(
            "immutable",
            "lsattr -d /etc/shadow /etc; where one has an i or an a: chattr -ia /etc/shadow /etc;",
        ),
    ),
    "read-only, nobody says where": (
        f"{LOCK} Read-only file system",
        *("read-only", "findmnt -fno TARGET --target / | xargs mount -o remount,rw"),
    ),
    "a host name on a read-only one": (
        "cannot write /etc/hostname: Read-only file system",
        *("read-only", "findmnt -fno TARGET --target /etc/hostname | xargs mount -o remount,rw"),
    ),
    "full, without PAM": (
        "chpasswd failed with 1: chpasswd: /etc/passwd.9701 file write error: No space left on device; "
        "chpasswd: cannot lock /etc/passwd; try again later.",
        *("full", "df -h; df -i"),
    ),
    "a quota": ("OSError: Disk quota exceeded", "full", "df -i"),
    "no such user": (
        "chpasswd failed with 1: chpasswd: line 1: user 'bob' does not exist; chpasswd: error detected, "
        "changes ignored",
        *("no such user", "useradd --create-home bob, with --gid bob where that is a group, or"),
    ),
    "no root": ("there is no account root: see the setting user", "line of root is gone", "pwck -r; grep -w"),
    "no root, says chpasswd": ("line 1: user 'root' does not exist", "line of root is gone", "grep -w root"),
    "no such account": (
        "there is no account bob: see the setting user",
        "no such user",
        "--create-home bob,",
    ),
    "no such account in a tree": (
        "there is no account bob in /x/etc/passwd: see the setting user",
        *("no such user", "--create-home bob,"),
    ),
    "immutable, nobody says which": (
        "OSError: Operation not permitted",
        *("immutable", "lsattr -d /etc /etc/hostname /etc/hosts /etc/shadow; where one has an i"),
    ),
    "a directory in the way": (
        "cannot write /etc/hostname: Is a directory",
        *("something else stands where", "namei -l /etc/hostname; give"),
    ),
    "a directory in the way, of /etc/hosts": (
        "CloudStack says web01; but cannot write /etc/hosts: not a regular file: the next pass tries again",
        *("something else stands where", "namei -l /etc/hosts; give"),
    ),
    "a file in the way": (
        "/root/.ssh/authorized_keys: the home directory /root of root: Not a directory",
        *("something else stands where", "namei -l /root; give"),
    ),
    "a file in the way, or a link": (
        "/root/.ssh/authorized_keys: .ssh is not a directory of its own; links are not followed",
        *("something else stands where", "namei -l /root/.ssh/authorized_keys; give"),
    ),
    "a directory in the way, or a link": (
        "/root/.ssh/authorized_keys: it is not a regular file; links are not followed",
        *("something else stands where", "namei -l /root/.ssh/authorized_keys; give"),
    ),
    "in the way, nobody says where": (
        "OSError: Is a directory",
        *("something else", "ls -ld /etc/hostname /etc/hosts /etc/shadow; give"),
    ),
    "read-only, while chpasswd writes": (
        "chpasswd failed with 1: chpasswd: /etc/passwd.9701 file write error: Read-only file system",
        *("read-only", "findmnt -fno TARGET --target / | xargs mount -o remount,rw"),
    ),
    "a blank in the name": (
        "/home/a b/.ssh: Not a directory",
        *("something else stands where", "namei -l '/home/a b/.ssh'; give"),
    ),
    "blanks and more in the name of a home": (
        "/a of {way};b:c/.ssh/authorized_keys: the home directory /a of {way};b:c of bob: Not a directory",
        *("something else stands where", "namei -l '/a of {way};b:c'; give"),
    ),
    "a blank in the name of a tree, with a link": (
        "/srv/a b/root/.ssh/authorized_keys: .ssh is not a directory of its own; links are not followed",
        *("something else stands where", "namei -l '/srv/a b/root/.ssh/authorized_keys'; give"),
    ),
    "a blank in a name on a read-only one": (
        "cannot write /srv/a b/etc/hostname: Read-only file system",
        *("read-only", "findmnt -fno TARGET --target '/srv/a b/etc/hostname' | xargs"),
    ),
    "a blank in the name of what is immutable": (
        "chpasswd failed with 1; /srv/a b/etc/shadow: Operation not permitted",
        *("immutable", "chattr -ia '/srv/a b/etc/shadow' '/srv/a b/etc'; then"),
    ),
    "immutable": ("cannot write /etc/hosts: Operation not permitted", "immutable", "chattr -ia /etc/hosts"),
}
OTHERS = ("chpasswd failed with 3: cannot today", "the shadow entry of root did not change", "")
PROGRAMS = {
    "dmesg",
    "findmnt",
    "mount",
    "df",
    "useradd",
    "lslocks",
    "pgrep",
    "rm",
    "journalctl",
    "grep",
    "ls",
    "lsattr",
    "namei",
}
PROGRAMS |= {"csagent"}


@pytest.mark.parametrize("name", REASONS)
def test_a_known_reason_has_its_own_advice(name: str) -> None:
    """It is explained, and with the explanation behind it still the same one; the advice comes off again."""
    reason, means, advice = REASONS[name]
    known = failures.find(reason)
    assert known is not None and means in known.means and advice in known.advice
    explained = failures.explained(reason)
    assert explained == f"{reason}: {known.means}; do: {known.advice}"
    assert failures.find(explained) == known
    assert failures.without_advice(explained) == f"{reason}: {known.means}"


def test_every_entry_of_the_table_is_told_of() -> None:
    """None of them is without a reason above that leads to it."""
    found = [failures.find(reason) for reason, _means, _advice in REASONS.values()]
    assert {one.means for one in found if one is not None} == {one.means for one in failures.KNOWN}


@pytest.mark.parametrize("name", REASONS)
def test_an_explained_reason_is_a_line_that_can_be_read(name: str) -> None:
    """At most 500 characters, with as much of chpasswd's own words as are shown; cut, it comes off."""
    reason, means, _advice = REASONS[name]
    known = failures.find(reason)
    assert known is not None and means in known.means
    shown = f"{'x' * (password.SHOWN_LIMIT + 23 - len(reason))}{reason}"
    explained = failures.explained(shown)
    assert len(explained) <= 500 and "\n" not in explained
    assert failures.without_advice(explained[: len(explained) - 20]).endswith(known.means)


@pytest.mark.parametrize("name", [".ssh", ".ssh/authorized_keys", "."])
def test_what_is_said_of_something_in_the_way_is_in_the_table(name: str, system: System, tree: Path) -> None:
    """A home, its .ssh and the keys themselves, each of the other kind than it is to be."""
    account = accounts.find(system, "root")
    there = tree / account.home.strip("/") / name
    if there.is_dir():
        shutil.rmtree(there)
    if name.endswith("keys"):
        there.mkdir(parents=True)
    else:
        there.write_text("EXAMPLE")
    with pytest.raises(ApplyError) as caught:
        ssh_keys.write_keys(system, account, [make_key(1)], [])
    known = failures.find(f"{tree}/root/.ssh/authorized_keys: {caught.value}")
    assert known is not None and known.advice.startswith(f"namei -l {tree}/root")


@pytest.mark.parametrize("reason", OTHERS)
def test_an_unknown_reason_stays_as_it_is(reason: str) -> None:
    """Nothing is made up."""
    assert failures.find(reason) is None and failures.explained(reason) == reason
    assert failures.without_advice(reason) == reason


def test_the_accounts_own_words_are_in_the_table(system: System) -> None:
    """What is said of a missing account is what the table knows."""
    with pytest.raises(ApplyError) as caught:
        accounts.find(system, "bob")
    known = failures.find(str(caught.value))
    assert known is not None and known.advice.startswith("useradd --create-home bob, ")


def test_a_failed_action_is_explained(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed says what that comes to and what to do, whether it was foreseen or not."""
    errors: List[Exception] = [
        ApplyError("cannot write /etc/hostname: Read-only file system"),
        OSError(28, "No space left on device"),
    ]

    def broken(*_words: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(hostname, "set_hostname", broken)
    known = applied.load(system, "i-2-3-VM")
    action = SetHostname("hostname", "new", "router 10.1.1.1", name="web01")
    told: List[Outcome] = []
    for _ in range(2):
        executor = PlanExecutor(system, known, lambda *_line, **_fields: None, lambda *_words: ())
        told += executor.carry_out(Plan((action,)))
    assert [one.state for one in told] == ["failed", "failed"]
    assert "is read-only; do: dmesg" in told[0].reason and "is full; do: df -h" in told[1].reason


# --- the advice ---


def commands(advice: str) -> List[str]:
    """The shell commands in an advice: what stands between semicolons, or behind "runs: ", in English."""
    said = [re.sub(r"^.*\b(?:then|runs): ", "", part.strip()) for part in advice.split("; ")]
    known = [re.split(r", or |, and |, with ", part)[0] for part in said]
    return [part for part in known if part.split(" ")[0] in PROGRAMS]


def run(command: str, root: Path) -> "subprocess.CompletedProcess[str]":
    """Run it with the paths of a tree."""
    there = re.sub(r"(?<= )/(?=etc)", f"{root}/", command)
    return subprocess.run(["sh", "-ec", there], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("known", failures.KNOWN, ids=[one.means for one in failures.KNOWN])
def test_the_advice_is_of_commands_that_a_shell_understands(known: failures.Failure) -> None:
    """At least one command each, and csagent's own at the end."""
    found = commands(known.advice)
    assert len(found) > 1 and found[-1] == "csagent apply"
    for command in found:
        assert subprocess.run(["sh", "-nc", command], check=False, timeout=600).returncode == 0, command


@pytest.mark.parametrize("name", REASONS)
def test_the_advice_that_looks_can_be_run(name: str, tmp_path: Path) -> None:
    """Each command that changes nothing, in a tree, takes its options and knows them."""
    for directory in ("etc/pam.d", "etc/security", "var/lib", "run"):
        (tmp_path / directory).mkdir(parents=True)
    for file in ("hostname", "hosts", "passwd", "passwd-", "shadow", ".pwd.lock", "pam.d/chpasswd"):
        (tmp_path / "etc" / file).write_text("password required pam_deny.so\n")
    known = failures.find(REASONS[name][0])
    assert known is not None
    ran = 0
    for command in commands(known.advice):
        program = command.split(" ")[0]
        if (
            program not in ("dmesg", "df", "lslocks", "pgrep", "grep", "ls", "lsattr", "namei")
            or shutil.which(program) is None
        ):
            continue
        done = run(command, tmp_path)
        # grep, pgrep: 1 where there is nobody.
        assert done.returncode in (0, 1) and "sage" not in done.stderr, done.stderr
        assert "invalid option" not in done.stderr and "unrecognized" not in done.stderr, done.stderr
        ran += 1
    assert ran or "useradd" in known.advice


def test_the_advice_finds_the_module_that_denies(tmp_path: Path) -> None:
    """The grep of the advice about PAM names file and line."""
    (tmp_path / "etc/pam.d").mkdir(parents=True)
    (tmp_path / "etc/pam.d/chpasswd").write_text("#%PAM-1.0\npassword required pam_deny.so\n")
    known = failures.find(PAM)
    assert known is not None
    (command,) = [one for one in commands(known.advice) if one.startswith("grep")]
    assert "etc/pam.d/chpasswd:2:password required pam_deny.so" in run(command, tmp_path).stdout


def test_the_advice_takes_left_locks_away(tmp_path: Path) -> None:
    """Both lock files go, the accounts stay."""
    (tmp_path / "etc").mkdir()
    for file in ("passwd", "shadow", "passwd.lock", "shadow.lock"):
        (tmp_path / "etc" / file).write_text("x")
    known = failures.find(LOCK)
    assert known is not None
    (command,) = [one for one in commands(known.advice) if one.startswith("rm")]
    assert run(command, tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == ["passwd", "shadow"]
