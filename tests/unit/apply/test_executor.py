"""Carrying out a plan: every action, every failure, and being told to stop while at it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from support.samples import INSTANCE, make_key

from csagent.apply import hostname, keep_user_data, libcrypt, password, ssh_keys
from csagent.apply.executor import PlanExecutor
from csagent.cli.plan import diff
from csagent.decide import decide
from csagent.errors import ApplyError, Interrupted
from csagent.model import Endpoint, Observation, Place, Secret, UserData
from csagent.plan import (
    Acknowledge,
    Action,
    FinishHostname,
    KeepUserData,
    Leave,
    Outcome,
    Plan,
    RevokeFormer,
    SetHostname,
    SetPassword,
    WriteKeys,
)
from csagent.settings import Settings
from csagent.state import applied
from csagent.state.applied import Memory
from csagent.system.seams import System
from csagent.system.tree import Tree

WORD = Secret(b"EXAMPLE-word")
SERVER = Endpoint("10.1.1.1", 8080, "10.1.1.42", "eth0")
OK = Place("password server 10.1.1.1:8080", "", "ok")


class Router:
    """Password servers that are told that a password is set."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.answers: Tuple[Place, ...] = (OK,)
        self.told: List[Tuple[bytes, Tuple[Endpoint, ...]]] = []
        self.remembered: List[bool] = []

    def __call__(self, value: Secret, endpoints: Tuple[Endpoint, ...]) -> Tuple[Place, ...]:
        self.told.append((value.reveal(), endpoints))
        self.remembered.append(known(self.system).age_of(value) == "newest")
        return self.answers


@pytest.fixture
def router(system: System) -> Router:
    return Router(system)


def known(system: System) -> Memory:
    return applied.load(system, INSTANCE)


def carry_out(
    system: System, router: Router, *actions: Action, memory: Optional[Memory] = None
) -> Tuple[Outcome, ...]:
    executor = PlanExecutor(system, memory or known(system), lambda *_line, **_fields: None, router)
    outcomes = executor.carry_out(Plan(actions))
    router.reset_meanwhile = executor.reset_meanwhile  # type: ignore[attr-defined]
    return outcomes


def name(**fields: Any) -> SetHostname:
    return SetHostname("hostname", "new", "router 10.1.1.1", name="web01", **fields)


def keys(*numbers: int, **fields: Any) -> WriteKeys:
    lines = tuple(map(make_key, numbers))
    return WriteKeys("ssh_keys", "new", "router 10.1.1.1", user="root", keys=lines, **fields)


def word(value: Secret = WORD, **fields: Any) -> SetPassword:
    return SetPassword("password", "new", "router 10.1.1.1", "root", value, (SERVER,), **fields)


def again(**fields: Any) -> Acknowledge:
    return Acknowledge("password", "applied before", "router 10.1.1.1", WORD, (SERVER,), **fields)


def data() -> KeepUserData:
    kept = UserData(Secret(b"#!/bin/sh\n# marker-EXAMPLE\n"), "script", 28, "ab" * 32)
    return KeepUserData("user_data", "new", "router 10.1.1.1", kept)


def shadow(tree: Path) -> str:
    return (tree / "etc/shadow").read_text().split("\n")[0].split(":")[1]


# --- every action ---


def test_a_hostname_is_set_and_remembered(tree: Path, system: System, router: Router) -> None:
    """The name is the machine's and the memory's, and the outcome says so."""
    (outcome,) = carry_out(system, router, name())
    assert outcome == Outcome("hostname", "applied", "new", "router 10.1.1.1")
    assert (tree / "etc/hostname").read_text() == "web01\n" and known(system).hostname == "web01"


def test_keys_are_written_and_remembered(tree: Path, system: System, router: Router) -> None:
    """They stand in the account's file, and memory knows whose they are."""
    carry_out(system, router, keys(1, 2))
    text = (tree / "root/.ssh/authorized_keys").read_text()
    assert make_key(1) in text and make_key(2) in text
    assert (known(system).ssh_keys, known(system).ssh_user) == ((make_key(1), make_key(2)), "root")


def test_keys_leave_the_former_account(tree: Path, system: System, router: Router) -> None:
    """Where the setting user has changed, CloudStack's keys do not stay behind in the old account."""
    old = keys(1)._replace(user="alice")
    carry_out(system, router, old)
    assert make_key(1) in (tree / "home/alice/.ssh/authorized_keys").read_text()
    carry_out(system, router, keys(1, previous=old.keys, former_user="alice"))
    assert make_key(1) not in (tree / "home/alice/.ssh/authorized_keys").read_text()
    assert make_key(1) in (tree / "root/.ssh/authorized_keys").read_text()


@pytest.mark.parametrize("home", ["/root", "/home/../root/", "/home/admin"])
def test_keys_stay_in_a_file_that_is_also_the_former_accounts(
    tree: Path, system: System, router: Router, home: str
) -> None:
    """Two names with one home, as of root's: what was taken from the former one would be the new one's."""
    (tree / "home/admin").symlink_to("/root")
    with (tree / "etc/passwd").open("a") as passwd:
        passwd.write(f"admin:x:0:0::{home}:/bin/sh\n")
    old = keys(1)._replace(user="admin")
    carry_out(system, router, old)
    (outcome,) = carry_out(system, router, keys(1, previous=old.keys, former_user="admin"))
    assert (outcome.state, outcome.wrong, known(system).former_users) == ("applied", False, ())
    assert (tree / "root/.ssh/authorized_keys").read_text().count(make_key(1)) == 1


def test_a_former_account_that_is_gone_is_no_failure(system: System, router: Router) -> None:
    """Its access went with it."""
    (outcome,) = carry_out(system, router, keys(1, former_user="nobody-of-this-name"))
    assert outcome.state == "applied"


def test_user_data_is_kept_for_root(tree: Path, system: System, router: Router) -> None:
    """A copy of mode 0600, and its sum in memory."""
    carry_out(system, router, data())
    path = tree / applied.user_data_path(INSTANCE).lstrip("/")
    assert path.read_bytes().startswith(b"#!/bin/sh") and path.stat().st_mode & 0o777 == 0o600
    assert known(system).user_data == known(system).whole_user_data == "ab" * 32
    carry_out(system, router, data()._replace(doubt="cut off"))
    assert known(system).user_data == "ab" * 32
    assert (known(system).user_data_doubt, known(system).whole_user_data) == ("cut off", None)


def test_a_password_is_set_then_remembered_then_acknowledged(
    tree: Path, system: System, router: Router
) -> None:
    """When the router is told, the hash is in /etc/shadow and memory is on disk."""
    (outcome,) = carry_out(system, router, word())
    assert libcrypt.matches(WORD, shadow(tree))
    assert router.told == [(b"EXAMPLE-word", (SERVER,))] and router.remembered == [True]
    assert (outcome.state, outcome.acknowledged, outcome.wrong) == ("applied", "yes", False)


def test_a_password_that_is_set_already_is_not_hashed_again(
    tree: Path, system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that was killed before it could remember goes on where that one ended."""
    carry_out(system, router, word())
    before = shadow(tree)
    monkeypatch.setattr(password, "set_password", lambda *_: pytest.fail("set again"))
    carry_out(system, router, word(), memory=Memory(instance_id=INSTANCE, salt=b"s" * 16))
    assert shadow(tree) == before and len(router.told) == 2


def test_a_password_of_a_drive_is_told_to_nobody(system: System, router: Router) -> None:
    """A drive has no endpoints: there is nobody to acknowledge to."""
    (outcome,) = carry_out(system, router, word()._replace(endpoints=()))
    assert router.told == [] and outcome.acknowledged == "not needed"


def test_outranked_passwords_are_known_as_older(system: System, router: Router) -> None:
    """What a less trusted place offers beside is taken for stale from now on."""
    other = Secret(b"EXAMPLE-other")
    carry_out(system, router, word(outranked=(other,)))
    assert known(system).age_of(other) == "older" and known(system).age_of(WORD) == "newest"


def test_an_acknowledgement_alone(tree: Path, system: System, router: Router) -> None:
    """What was applied before is only told; memory lies on disk before that."""
    carry_out(system, router, word())
    before = shadow(tree)
    (outcome,) = carry_out(system, router, again())
    assert (outcome.state, outcome.acknowledged) == ("unchanged", "yes")
    assert router.remembered == [True, True] and shadow(tree) == before


def test_what_an_older_script_has_set_is_remembered(system: System, router: Router) -> None:
    """Its password becomes ours without being set again."""
    carry_out(system, router, again(remember=True))
    assert known(system).age_of(WORD) == "newest" and known(system).is_by_script(WORD)
    carry_out(system, router, word())
    assert not known(system).is_by_script(WORD)


def test_what_is_left_alone_changes_nothing(tree: Path, system: System, router: Router) -> None:
    """Its state, reason and source become the outcome's."""
    leave = Leave("password", "a stale copy", "drive /dev/sr0", state="refused", wrong=True)
    assert carry_out(system, router, leave) == (
        Outcome("password", "refused", "a stale copy", "drive /dev/sr0", wrong=True),
    )
    assert not (tree / "var/lib/csagent").exists() and router.told == []


def test_a_doubtful_value_is_applied_and_wrong(system: System, router: Router) -> None:
    """What was not read whole counts in the exit code."""
    (outcome,) = carry_out(system, router, name(wrong=True))
    assert (outcome.state, outcome.wrong) == ("applied", True)


def test_a_doubtful_set_revokes_nothing_even_where_memory_is_lost(
    tree: Path, system: System, router: Router
) -> None:
    """Lines of an earlier pass stay, which is remembered: the next whole set revokes what it lacks."""
    carry_out(system, router, keys(1, 2))
    shutil.rmtree(tree / "var/lib/csagent")
    carry_out(system, router, keys(3)._replace(only_add=True))
    text = (tree / "root/.ssh/authorized_keys").read_text()
    assert [make_key(number) in text for number in (1, 2, 3)] == [True, True, True]
    assert (known(system).ssh_keys, known(system).keys_beside) == ((make_key(3),), True)
    for doubts in ({"ssh_keys": "cut"}, {}):
        seen = Observation(instance_id=INSTANCE, ssh_keys=(make_key(3),), doubts=doubts)
        carry_out(system, router, *decide(seen, known(system), Settings()).actions)
        text = (tree / "root/.ssh/authorized_keys").read_text()
        assert [make_key(number) in text for number in (1, 2, 3)] == [bool(doubts), bool(doubts), True]
    assert not known(system).keys_beside
    (action,) = [one for one in decide(seen, known(system), Settings()).actions if one.datum == "ssh_keys"]
    assert not action.changes


@pytest.mark.parametrize("before", ["root", None])
def test_keys_written_for_an_account_that_memory_does_not_know_yet(
    tree: Path, system: System, router: Router, monkeypatch: pytest.MonkeyPatch, before: Optional[str]
) -> None:
    """Stopped before memory is written, and the setting put back: they do not stay with it for good."""
    if before:
        carry_out(system, router, keys(1))

    def cut(*_words: Any, **_more: Any) -> None:
        write_keys(*_words, **_more)
        raise KeyboardInterrupt

    write_keys = ssh_keys.write_keys
    with monkeypatch.context() as patch:
        patch.setattr(ssh_keys, "write_keys", cut)
        with pytest.raises(KeyboardInterrupt):
            carry_out(system, router, keys(1, former_user=before)._replace(user="alice"))
    path = tree / "home/alice/.ssh/authorized_keys"
    assert make_key(1) in path.read_text() and known(system).ssh_user == before
    for number in (1, 2):
        seen = Observation(instance_id=INSTANCE, ssh_keys=(make_key(number),))
        carry_out(system, router, *decide(seen, known(system), Settings()).actions)
        assert (path.read_text(), known(system).former_users, known(system).ssh_user) == ("", (), "root")


def test_an_account_whose_file_could_not_be_written_had_no_keys_of_ours(
    tree: Path, system: System, router: Router
) -> None:
    """Nothing is tried, and told, of it again once the setting names another."""
    (tree / "home/alice/.ssh").symlink_to("/elsewhere")
    (failed,) = carry_out(system, router, keys(1)._replace(user="alice"))
    assert failed.state == "failed" and "links are not followed" in failed.reason
    assert known(system).former_users == ()
    (done,) = carry_out(system, router, keys(1))
    assert (done.state, done.wrong) == ("applied", False)


def test_what_an_owner_puts_into_our_block_comes_into_no_other_file(
    tree: Path, system: System, router: Router
) -> None:
    """A doubtful set leaves it where it stands: it is not remembered, and not given to the next account."""
    carry_out(system, router, keys(1)._replace(user="alice"))
    path = tree / "home/alice/.ssh/authorized_keys"
    status = path.stat()
    path.write_text(path.read_text().replace("# csagent end", f"{make_key(66)}\n\033[31m,,,\n# csagent end"))
    os.chown(path, status.st_uid, status.st_gid)
    doubt = {"ssh_keys": "line 2: a line that is no key"}
    seen = Observation(instance_id=INSTANCE, ssh_keys=(make_key(1), make_key(2)), doubts=doubt)
    for user in ("alice", "root"):
        plan = decide(seen, known(system), Settings(user=user))
        carry_out(system, router, *(one for one in plan.actions if one.datum == "ssh_keys"))
        assert known(system).ssh_keys == (make_key(1), make_key(2))
        assert known(system).keys_beside is (user == "alice")
        assert (make_key(66) in path.read_text()) is (user == "alice")
    assert (tree / "root/.ssh/authorized_keys").read_text().split("\n")[1:-2] == [make_key(1), make_key(2)]


# --- every failure ---

BROKEN = {
    "hostname": (hostname, "set_hostname", name()),
    "ssh_keys": (ssh_keys, "write_keys", keys(1)),
    "password": (password, "set_password", word()),
    "user_data": (keep_user_data, "keep", data()),
}


@pytest.mark.parametrize("datum", BROKEN)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ApplyError("cannot write it: no space"), "cannot write it: no space"),
        (PermissionError(13, "Permission denied"), "PermissionError: Permission denied"),
        (MemoryError(), "MemoryError: unexpected"),
        (ValueError("marker-EXAMPLE"), "ValueError: unexpected"),
        (RecursionError(), "RecursionError: unexpected"),
    ],
)
def test_an_action_that_fails_fails_alone(
    datum: str,
    error: Exception,
    reason: str,
    tree: Path,
    system: System,
    router: Router,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line without the text of the exception; it is not remembered; the others are done."""

    def fail(*_args: Any, **_more: Any) -> None:
        raise error

    module, function, action = BROKEN[datum]
    monkeypatch.setattr(module, function, fail)
    others = [one for other, (_, _, one) in BROKEN.items() if other != datum]
    failed, *done = carry_out(system, router, action, *others)  # type: ignore[arg-type]
    assert (failed.state, failed.reason, failed.wrong) == ("failed", reason, True)
    assert [one.state for one in done] == ["applied"] * 3
    memory = known(system)
    missing: Dict[str, bool] = {
        "hostname": memory.hostname is None,
        "ssh_keys": memory.ssh_keys is None,
        "password": not memory.passwords,
        "user_data": memory.user_data is None,
    }
    assert [one for one, gone in missing.items() if gone] == [datum]
    assert bool(router.told) == (datum != "password")


def test_an_account_that_does_not_exist(system: System, router: Router) -> None:
    """It costs its keys and its password, and says which setting to look at."""
    outcomes = carry_out(
        system, router, keys(1)._replace(user="nobody-here"), word()._replace(user="nobody-here"), name()
    )
    assert [one.state for one in outcomes] == ["failed", "failed", "applied"]
    assert all("see the setting user" in one.reason for one in outcomes[:2]) and router.told == []


def test_memory_that_cannot_be_written_is_not_acknowledged(
    system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that a password is safe that the next boot would not know."""

    def fail(*_args: Any) -> None:
        raise ApplyError("cannot remember in /var/lib/csagent: No space left on device")

    monkeypatch.setattr(applied, "save", fail)
    (outcome,) = carry_out(system, router, word())
    assert outcome.state == "failed" and router.told == []
    (outcome,) = carry_out(system, router, again())
    assert outcome.state == "failed" and router.told == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (OK._replace(outcome="timeout", detail="no answer in time"), "no answer in time"),
        (OK._replace(outcome="failed"), "failed"),
        (None, "nobody answered"),
    ],
)
def test_a_router_that_cannot_be_told(
    place: Optional[Place], told: str, system: System, router: Router
) -> None:
    """The password is set all the same; who was not told, and why, is in the reason."""
    router.answers = () if place is None else (place,)
    (outcome,) = carry_out(system, router, word())
    assert (outcome.state, outcome.acknowledged, outcome.wrong) == ("applied", "no", True)
    assert told in outcome.reason and "the next pass tries again" in outcome.reason


def test_one_of_two_routers_that_cannot_be_told(system: System, router: Router) -> None:
    """One that was told does not make up for the other."""
    router.answers = (OK, OK._replace(place="password server 10.1.1.2:8080", outcome="refused"))
    (outcome,) = carry_out(system, router, word())
    assert outcome.acknowledged == "no" and "10.1.1.2" in outcome.reason


def test_a_reset_meanwhile_asks_for_another_pass(system: System, router: Router) -> None:
    """Who has another password by now is not told, and the pass begins again (field/cloudstack#edge-40)."""
    router.answers = (OK._replace(outcome="changed"),)
    carry_out(system, router, word())
    assert router.reset_meanwhile  # type: ignore[attr-defined]


def test_what_failed_is_passed_over_as_before(
    system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a datum that failed, the values that were outdone stay what they were."""

    def fail(*_args: Any, **_more: Any) -> None:
        raise ApplyError("no")

    memory = known(system)._replace(passed_over={"hostname": ("old",)})
    executor = PlanExecutor(system, memory, lambda *_line, **_fields: None, router)
    monkeypatch.setattr(hostname, "set_hostname", fail)
    executor.carry_out(Plan((name(), keys(1)), {"hostname": ("new",), "ssh_keys": ("a digest",)}))
    assert known(system).passed_over == {"hostname": ("old",), "ssh_keys": ("a digest",)}


def test_keys_that_could_not_be_remembered_are_not_written(
    tree: Path, system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that is larger than what is read of it would be a first run at every pass."""
    monkeypatch.setattr(applied, "SIZE_LIMIT", 3000)
    outcomes = carry_out(system, router, name(), keys(*range(1, 50)), word())
    assert [one.state for one in outcomes] == ["applied", "failed", "applied"]
    assert outcomes[1].reason.startswith("not changed: cannot remember in ")
    assert not (tree / "root/.ssh").exists()
    assert known(system).hostname == "web01" and known(system).age_of(WORD) == "newest"


def test_nothing_is_changed_where_it_cannot_be_remembered(
    tree: Path, system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full /var: the owner's choice would be undone at every pass."""
    write = Tree.write

    def full(self: Tree, path: str, *rest: Any, **more: Any) -> bool:
        if path.startswith(applied.STATE):
            raise OSError(28, "No space left on device")
        return write(self, path, *rest, **more)

    before = {path: (tree / path).read_bytes() for path in ("etc/hostname", "etc/hosts", "etc/shadow")}
    with monkeypatch.context() as patched:
        patched.setattr(Tree, "write", full)
        outcomes = carry_out(system, router, name(), keys(1), word(), data())
    assert [one.state for one in outcomes] == ["failed"] * 4
    assert all(one.reason.startswith("not changed: cannot remember in") for one in outcomes)
    assert {path: (tree / path).read_bytes() for path in before} == before
    assert not (tree / "root/.ssh").exists() and router.told == []
    assert [one.state for one in carry_out(system, router, name(), keys(1), word(), data())] == [
        "applied"
    ] * 4


def test_a_name_whose_hosts_file_fails_is_remembered_and_finished_later(
    tree: Path, system: System, router: Router
) -> None:
    """The name stands; /etc/hosts is a warning, tried again alone, and the owner's rename is not undone."""
    (tree / "etc/hosts").unlink()
    (tree / "etc/hosts").mkdir()
    (outcome,) = carry_out(system, router, name())
    assert (outcome.state, outcome.wrong) == ("applied", True) and "/etc/hosts" in outcome.reason
    memory = known(system)
    assert memory.hostname == "web01" and set(memory.hostname_todo) == {"/etc/hosts"}
    finish = FinishHostname("hostname", "again", "router 10.1.1.1", "web01", None, memory.hostname_todo)
    (outcome,) = carry_out(system, router, finish)
    assert (outcome.state, outcome.wrong) == ("unchanged", True)
    (tree / "etc/hosts").rmdir()
    (outcome,) = carry_out(system, router, finish)
    assert (outcome.state, outcome.wrong) == ("applied", False) and known(system).hostname_todo == {}
    assert "web01" in (tree / "etc/hosts").read_text()
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (tree / "etc/hostname").write_text("owners\n")
    carry_out(system, router, finish)
    assert (tree / "etc/hostname").read_text() == "owners\n" and "web01" not in (
        tree / "etc/hosts"
    ).read_text()


def test_a_former_account_that_cannot_be_written_is_tried_again_alone(
    tree: Path, system: System, router: Router
) -> None:
    """The keys are written and remembered; the former account's are a warning until they are gone."""
    old = keys(1)._replace(user="alice")
    carry_out(system, router, old)
    (tree / "home/alice/.ssh").rename(tree / "home/alice/away")
    (tree / "home/alice/.ssh").symlink_to("away")
    (outcome,) = carry_out(system, router, keys(1, previous=old.keys, former_user="alice"))
    assert (outcome.state, outcome.wrong) == ("applied", True) and "stay with alice" in outcome.reason
    memory = known(system)
    assert (memory.ssh_user, memory.former_users) == ("root", ("alice",))
    revoke = RevokeFormer("ssh_keys", "again", "router 10.1.1.1", ("alice",), old.keys)
    assert carry_out(system, router, revoke)[0].state == "unchanged"
    (tree / "home/alice/.ssh").unlink()
    (tree / "home/alice/away").rename(tree / "home/alice/.ssh")
    (outcome,) = carry_out(system, router, revoke)
    assert (outcome.state, outcome.wrong) == ("applied", False) and known(system).former_users == ()
    assert make_key(1) not in (tree / "home/alice/.ssh/authorized_keys").read_text()


@pytest.mark.parametrize(("outcome", "forgotten"), [("ok", True), ("timeout", False), ("changed", False)])
def test_a_confirmed_acknowledgement_is_remembered(
    outcome: str, forgotten: bool, system: System, router: Router
) -> None:
    """Which of the servers has forgotten the newest password."""
    router.answers = (OK._replace(outcome=outcome),)
    carry_out(system, router, word())
    assert known(system).is_forgotten_by([SERVER]) is forgotten
    assert not known(system).is_forgotten_by([SERVER._replace(address="10.1.1.2")])


def test_nothing_waiting_is_remembered_as_forgotten(system: System, router: Router) -> None:
    """The confirmation was lost: the next pass hears it."""
    router.answers = ()
    carry_out(system, router, word())
    executor = PlanExecutor(system, known(system), lambda *_line, **_fields: None, router)
    executor.carry_out(Plan(forgotten_by=(SERVER,)))
    assert known(system).is_forgotten_by([SERVER])


def test_the_ids_of_this_machine_are_remembered(system: System, router: Router) -> None:
    """So that a later id of it finds what was applied, once something was."""
    for actions, ids in (((), ()), ((name(),), ("i-2-3-VM",))):
        executor = PlanExecutor(
            system, known(system), lambda *_line, **_fields: None, router, same=(INSTANCE, "i-2-3-VM")
        )
        executor.carry_out(Plan(actions))
        assert known(system).known_as == ids


# --- told to stop ---


class Stop:
    """What becomes readable when csagent is told to stop."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.reading

    def tell(self, *_line: Any, **_fields: str) -> None:
        os.write(self.writing, b"x")


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    os.close(made.reading)
    os.close(made.writing)


def test_told_to_stop_it_finishes_the_action_it_is_at(
    tree: Path, system: System, router: Router, stop: Stop
) -> None:
    """That one is whole and remembered, the others are left to the next pass."""
    executor = PlanExecutor(system, known(system), stop.tell, router, stop)
    with pytest.raises(Interrupted):
        executor.carry_out(Plan((name(), keys(1))))
    assert (tree / "etc/hostname").read_text() == "web01\n" and not (tree / "root/.ssh").exists()
    assert (known(system).hostname, known(system).ssh_keys) == ("web01", None)
    carry_out(system, router, keys(1))
    assert (tree / "root/.ssh/authorized_keys").exists() and known(system).hostname == "web01"


def completed() -> FinishHostname:
    """The domain has come after the name."""
    source = "router 10.1.1.1"
    return FinishHostname("hostname", "it has come", source, "web01", "x.example", {"/etc/hosts": "web01"})


def test_the_domain_completes_the_name_later(tree: Path, system: System, router: Router) -> None:
    """Our line in /etc/hosts gets the domain, memory knows it, and the host's name is not touched."""
    carry_out(system, router, name())
    assert "127.0.1.1\tweb01\t# csagent" in (tree / "etc/hosts").read_text()
    line = "127.0.1.1\tweb01.x.example web01\t# csagent"
    assert diff(system, completed()) == ["-127.0.1.1\tweb01\t# csagent", f"+{line}"]
    (outcome,) = carry_out(system, router, completed())
    assert outcome.state == "applied" and known(system).domain == "x.example"
    assert diff(system, completed()) == []
    assert "127.0.1.1\tweb01.x.example web01\t# csagent" in (tree / "etc/hosts").read_text()


@pytest.mark.parametrize("path", ["etc/hosts", "etc/hostname"])
def test_the_owners_own_line_or_name_stays(tree: Path, system: System, router: Router, path: str) -> None:
    """What was changed inside the VM is not completed."""
    carry_out(system, router, name())
    text = (tree / path).read_text().replace("web01", "mine")
    (tree / path).write_text(text)
    hosts = (tree / "etc/hosts").read_text()
    assert diff(system, completed()) == []
    (outcome,) = carry_out(system, router, completed())
    assert outcome.state == "unchanged" and known(system).domain == "x.example"
    assert (tree / "etc/hosts").read_text() == hosts and (tree / path).read_text() == text


def test_a_domain_that_cannot_be_written_fails_nothing(
    tree: Path, system: System, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is told, and the next pass tries again."""
    carry_out(system, router, name())

    def refuse(*_words: Any) -> bool:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(system.tree, "change", refuse)
    (outcome,) = carry_out(system, router, completed())
    assert outcome.state == "unchanged" and "Read-only" in outcome.reason and not outcome.wrong
    assert known(system).domain is None and known(system).hostname_todo == {"/etc/hosts": "web01"}
    monkeypatch.undo()
    again = completed()._replace(todo=known(system).hostname_todo)
    assert carry_out(system, router, again)[0].state == "applied"
    assert known(system).domain == "x.example" and known(system).hostname_todo == {}
    assert "127.0.1.1\tweb01.x.example web01\t# csagent" in (tree / "etc/hosts").read_text()
