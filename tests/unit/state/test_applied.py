from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any, Tuple

import pytest
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent.errors import ApplyError
from csagent.model import Endpoint, Secret
from csagent.state import applied, instances, user_data_mark, user_data_record
from csagent.system import trusted_path
from csagent.system.seams import System


def test_round_trip(system: System, tree: Path) -> None:
    """What is saved is what the next pass loads; file 0600 in directories 0700."""
    known = applied.load(system, INSTANCE)
    assert known.passwords == () and known.hostname is None and len(known.salt) == 16
    known = replace(known, hostname="web01", ssh_keys=(make_key(1),), ssh_user="root", user_data="ab")
    known = replace(known, passed_over={"hostname": ("stale",), "ssh_keys": ("0f" * 32,)})
    known = known.with_password(Secret(b"EXAMPLE-1"), "alice")
    applied.save(system, known)
    assert applied.load(system, INSTANCE) == known and known.password_users == ("alice",)
    assert stat.S_IMODE((tree / f"var/lib/csagent/instances/{INSTANCE}.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tree / "var/lib/csagent").stat().st_mode) == 0o700
    assert not list((tree / "var/lib/csagent/instances").glob(".*"))


@pytest.mark.root
@pytest.mark.parametrize("whose", ["var/lib/csagent", "var/lib/csagent/instances", INSTANCE])
def test_somebody_elses_word_is_no_memory(system: System, tree: Path, whose: str) -> None:
    """What user 1001 may have written is not believed, not even where nothing is said of this instance."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    file = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    theirs = file if whose == INSTANCE else tree / whose
    os.chown(theirs, 1001, 1001)
    known = applied.load(system, INSTANCE)
    assert known.withheld == (
        f"not touched: {theirs} belongs to user 1001: see what is there, "
        f"then: chown -R 0:0 {tree}/var/lib/csagent/ && chmod -R go-w {tree}/var/lib/csagent/"
    )
    with pytest.raises(ApplyError, match="belongs to user 1001"):
        applied.save(system, known)
    subprocess.run(known.withheld.split("then: ")[1], shell=True, check=True, timeout=300)
    assert applied.load(system, INSTANCE).passwords
    if whose != INSTANCE:
        file.unlink()
        os.chown(tree / whose, 1001, 1001)
        assert applied.load(system, INSTANCE).withheld == known.withheld


@pytest.mark.parametrize("opened", ["var/lib/csagent", "var/lib/csagent/instances"])
def test_an_opened_state_directory_is_closed(system: System, tree: Path, opened: str) -> None:
    """By a pass, which has the lock; who only looks says what is wrong."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    for mode in (0o777, 0o770, 0o1777):
        (tree / opened).chmod(mode)
        assert f"others than root can write {tree / opened}: " in applied.load(system, INSTANCE).withheld
        trusted_path.close_own(system, instances.STATE)
        assert stat.S_IMODE((tree / opened).stat().st_mode) == mode & ~0o022
        assert applied.load(system, INSTANCE).passwords


def test_what_others_could_write_in_place_is_no_memory(system: System, tree: Path) -> None:
    """After chmod -R nobody knows who has written it: closing the directories does not make it ours."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    file = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    for mode in (0o666, 0o620):
        file.chmod(mode)
        trusted_path.close_own(system, instances.STATE)
        withheld = applied.load(system, INSTANCE).withheld
        assert withheld.startswith(f"not touched: others than root can write {file}: see")
        subprocess.run(withheld.split("then: ")[1], shell=True, check=True, timeout=300)
        assert applied.load(system, INSTANCE).passwords


@pytest.mark.parametrize("what", ["instances", "network", f"instances/{INSTANCE}.json"])
def test_links_in_the_state_directory_are_nobodys(system: System, tree: Path, what: str) -> None:
    """csagent makes none: they are not followed, and nothing where they lead is changed."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    state, led = tree / "var/lib/csagent", tree / "srv/led"
    led.parent.mkdir()
    if (state / what).exists():
        (state / what).rename(led)
    else:
        led.mkdir()
    (state / what).symlink_to("/srv/led")
    led.chmod(0o1777)
    state.chmod(0o777)
    trusted_path.close_own(system, instances.STATE)
    assert stat.S_IMODE(state.stat().st_mode) == 0o755
    assert stat.S_IMODE(led.stat().st_mode) == 0o1777
    known = applied.load(system, INSTANCE)
    assert known.withheld == (
        ""
        if what == "network"
        else f"not touched: {state / what} is a link, which csagent has not made: see where it leads, and "
        "remove it"
    )


@pytest.mark.root
def test_a_state_directory_elsewhere_is_mended_by_the_same_command(system: System, tree: Path) -> None:
    """/var/lib/csagent itself may be its owner's link to another disk."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    state = tree / "var/lib/csagent"
    state.rename(tree / "disk")
    state.symlink_to("../../disk")
    assert applied.load(system, INSTANCE).passwords
    os.chown(tree / "disk", 1001, 1001)
    withheld = applied.load(system, INSTANCE).withheld
    subprocess.run(withheld.split("then: ")[1], shell=True, check=True, timeout=300)
    assert applied.load(system, INSTANCE).passwords


@pytest.mark.root
def test_somebody_elses_list_of_the_latest_does_not_count(system: System, tree: Path) -> None:
    """It says whose memory is pruned."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    os.chown(tree / "var/lib/csagent/latest-instance", 1001, 1001)
    applied.save(system, applied.load(system, "i-2-3-VM").with_password(Secret(b"EXAMPLE-2")))
    assert instances.known(system)[0] == "i-2-3-VM"
    assert (tree / "var/lib/csagent/latest-instance").stat().st_uid == 0


def test_another_instance_starts_afresh(system: System) -> None:
    """A clone that carries another VM's memory is a first run (field/cloudstack#edge-48)."""
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1")))
    other = applied.load(system, "aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f")
    assert other.passwords == ()


def test_no_password_and_no_fast_hash_on_disk(system: System, tree: Path) -> None:
    """The file holds neither the password nor a digest that can be computed without the salt."""
    secret = b"EXAMPLE-marker"
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(secret)))
    text = (tree / f"var/lib/csagent/instances/{INSTANCE}.json").read_text()
    for form in (secret, secret + b"\n"):
        for name in ("md5", "sha1", "sha256", "sha512"):
            assert hashlib.new(name, form).hexdigest() not in text
    assert secret.decode() not in text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"schema": "x"}',
        b'{"schema": 1, "salt": "zz"}',
        b'{"schema": 1, "passwords": 5}',
        b"[" * 100000,
    ],
)
def test_damage_is_a_first_run(system: System, tree: Path, raw: bytes) -> None:
    """A memory that says nothing is replaced, and the note says so."""
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    known = applied.load(system, INSTANCE)
    assert known.passwords == () and "first run" in known.note
    applied.save(system, known)
    assert applied.load(system, INSTANCE).note == ""


def test_what_could_not_be_read_again_is_not_written(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a first run at every pass: the memory before stays, and nothing is changed."""
    known = remember(system, INSTANCE, ssh_keys=(make_key(1),))
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    before = path.read_bytes()
    monkeypatch.setattr(applied, "SIZE_LIMIT", len(before) + 2000)
    keys = tuple(make_key(number, "\u0436" * 200) for number in range(3))
    for change in (
        lambda: applied.save(
            system, replace(known, instance_id="i-2-9-VM", moved_from=INSTANCE, ssh_keys=keys)
        ),
        lambda: applied.save(system, replace(known, rest={"future": [[]] * 60_000})),
        lambda: applied.reserve(system, known, 100, keys),
    ):
        with pytest.raises(ApplyError, match=r"cannot remember in .*: it could not be read again"):
            change()
    assert [one.name for one in path.parent.iterdir()] == [path.name] and path.read_bytes() == before
    assert applied.reserve(system, known, 100, keys[:1]) == known


def test_outdone_keys_of_an_earlier_csagent(system: System, tree: Path) -> None:
    """It wrote their lines."""
    remember(system, INSTANCE)
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    lines = {"ssh_keys": [[make_key(1), make_key(2)]], "hostname": ["stale"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "passed_over": lines}))
    known = applied.load(system, INSTANCE)
    marks = (known.as_passed_over((make_key(1), make_key(2))),)
    assert known.passed_over == {"ssh_keys": marks, "hostname": ("stale",)}


def _fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad block, or a file server that is gone."""
    opens = trusted_path.open_own

    def opened(system: System, base: str, name: str) -> int:
        if path.name in name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return opens(system, base, name)

    monkeypatch.setattr(trusted_path, "open_own", opened)


@pytest.mark.parametrize("written_as", [INSTANCE, "i-2-3-VM", applied.NO_INSTANCE])
def test_what_cannot_be_read_now_is_no_first_run(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch, written_as: str
) -> None:
    """Also where it lies under another id of this machine, or under none: nothing is changed, all is kept."""
    applied.save(system, applied.load(system, written_as).with_password(Secret(b"EXAMPLE-1")))
    path = tree / f"var/lib/csagent/instances/{written_as}.json"
    before = path.read_bytes()
    with monkeypatch.context() as spoilt:
        _fails(path, spoilt)
        known = applied.load(system, INSTANCE, None, ("i-2-3-VM", INSTANCE))
        assert known.withheld.startswith(f"not touched: {path} cannot be read (Input/output error)")
        assert (known.note, known.is_new) == ("", False)
        with pytest.raises(ApplyError, match="cannot be read"):
            applied.save(system, known)
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]
    known = applied.load(system, INSTANCE, None, ("i-2-3-VM", INSTANCE))
    assert known.age_of(Secret(b"EXAMPLE-1")) == "newest"


def test_a_link_to_nothing_is_no_first_run(system: System, tree: Path) -> None:
    """What it leads to may only be not mounted yet."""
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    path.parent.mkdir(parents=True)
    path.symlink_to("/not-mounted/memory.json")
    assert "is a link, which csagent has not made" in applied.load(system, INSTANCE).withheld
    path.unlink()
    assert applied.load(system, INSTANCE).withheld == ""


def test_members_of_a_newer_version_are_kept(system: System, tree: Path) -> None:
    """What a newer csagent remembered survives a downgrade and an upgrade."""
    applied.save(system, applied.load(system, INSTANCE))
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2, "future": [1, 2]}))
    applied.save(system, replace(applied.load(system, INSTANCE), hostname="web01"))
    document = json.loads(path.read_text())
    assert document["future"] == [1, 2] and document["schema"] == 2 and document["hostname"] == "web01"


def test_script_markers_are_found(system: System, tree: Path) -> None:
    """Both places of the old scripts' MD5s are read, in md5sum's format too; nonsense is not."""
    first = hashlib.md5(b"EXAMPLE-1\n").hexdigest()
    second = hashlib.md5(b"EXAMPLE-2\n").hexdigest()
    (tree / "var/vmpasswordmd5sum").write_text(f"{first}  -\n")
    (tree / "root/.password.md5").write_text(second.upper())
    known = applied.load(system, INSTANCE, "/root")
    assert known.set_by_script(Secret(b"EXAMPLE-1")) and known.set_by_script(Secret(b"EXAMPLE-2"))
    assert not known.set_by_script(Secret(b"EXAMPLE-3"))
    (tree / "var/vmpasswordmd5sum").write_text("not a digest")
    assert applied.load(system, INSTANCE).script_markers == ()


def test_odd_instance_ids_stay_inside(system: System, tree: Path) -> None:
    """An id is never a path."""
    applied.save(system, applied.load(system, "../../../etc/passwd"))
    assert [path.name for path in (tree / "var/lib/csagent/instances").iterdir()] == [
        "_________etc_passwd.json"
    ]


def test_a_failed_save_is_an_error(system: System, tree: Path) -> None:
    """Where it cannot be remembered the pass must know."""
    known = applied.load(system, INSTANCE)
    (tree / "var/lib").mkdir()
    (tree / "var/lib/csagent").write_text("a file in the way")
    with pytest.raises(ApplyError, match="cannot remember"):
        applied.save(system, known)
    with pytest.raises(ApplyError, match="Not a directory"):
        applied.save(system, applied.load(system, INSTANCE))


def test_a_password_applied_before_the_id_was_known(system: System) -> None:
    """Once the id is told, the fingerprints are carried over; nothing else is."""
    applied.save(
        system, replace(applied.load(system, None), hostname="web01").with_password(Secret(b"EXAMPLE-1"))
    )
    known = applied.load(system, INSTANCE)
    assert known.age_of(Secret(b"EXAMPLE-1")) == "newest" and known.hostname is None


def test_what_is_carried_over_keeps_its_meaning(system: System) -> None:
    """A marker's word stays that, a server has forgotten it still, and the instance is new all the same."""
    word, server = Secret(b"EXAMPLE-1"), Endpoint("10.1.1.1", 8080)
    nameless = applied.save(system, applied.load(system, None).with_scripts_password(word))
    known = applied.load(system, INSTANCE)
    assert known.is_by_script(word) and known.is_new
    applied.save(system, nameless.with_password(word).with_forgotten_by([server]))
    known = applied.load(system, INSTANCE)
    assert known.is_forgotten_by([server]) and not known.is_by_script(word) and known.is_new
    assert not known.with_password(Secret(b"EXAMPLE-2")).is_new
    assert not applied.save(system, known).is_new and not applied.load(system, INSTANCE).is_new


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("where", ["home/alice", "home/alice/.password.md5"])
def test_a_marker_that_others_could_have_written(system: System, tree: Path, where: str) -> None:
    """The account's owner may not say that a password was set already."""
    (tree / "home/alice").mkdir(parents=True, exist_ok=True)
    os.chown(tree / "home/alice", 0, 0)
    (tree / "home/alice/.password.md5").write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    for path in ("home", "home/alice", "home/alice/.password.md5"):
        (tree / path).chmod(0o755)
    assert applied.load(system, INSTANCE, "/home/alice").script_markers
    os.chown(tree / where, 1000, 1000)
    assert applied.load(system, INSTANCE, "/home/alice").script_markers == ()


OLD_ID = "i-2-3-VM"


def remember(system: System, instance: str, **fields: Any) -> applied.Memory:
    return applied.save(system, replace(applied.load(system, instance), hostname="web01", **fields))


def test_memory_moves_along_when_the_id_takes_another_form(system: System, tree: Path) -> None:
    """From i-2-3-VM to a UUID, on the machine whose DMI was and is that UUID, with all that is kept."""
    remember(system, OLD_ID, known_as=(INSTANCE,))
    (tree / applied.user_data_path(OLD_ID).lstrip("/")).write_text("#!/bin/sh")
    ran = tree / "var/lib/csagent/user-data"
    (ran / OLD_ID / "scripts").mkdir(parents=True)
    (ran / OLD_ID / "record").write_text("{}\n")
    (ran / OLD_ID / "scripts/part-001").write_text("#!/bin/sh")
    (ran / OLD_ID / "hostname").write_text("mine\n")
    known = applied.load(system, INSTANCE, None, (INSTANCE,))
    assert (known.hostname, known.instance_id, known.moved_from) == ("web01", INSTANCE, OLD_ID)
    assert applied.save(system, known).moved_from == ""
    assert (tree / applied.user_data_path(INSTANCE).lstrip("/")).read_text() == "#!/bin/sh"
    assert sorted(path.name for path in (tree / "var/lib/csagent/instances").iterdir()) == [
        f"{INSTANCE}.json",
        f"{INSTANCE}.user-data",
    ]
    assert applied.last_instance(system) == INSTANCE
    assert [path.name for path in ran.iterdir()] == [INSTANCE], "what has run of it does not run again"
    assert (ran / INSTANCE / "record").read_text() == "{}\n"
    assert (ran / INSTANCE / "scripts/part-001").read_text() == "#!/bin/sh"
    assert user_data_mark.name_given(system, INSTANCE) == "mine"
    # And back, where a router of the older kind says so: DMI still shows who this is.
    assert applied.load(system, OLD_ID, None, (INSTANCE,)).hostname == "web01"


@pytest.mark.parametrize(
    ("known_as", "same"),
    [((), ()), ((), (INSTANCE,)), (("aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f",), (INSTANCE,))],
)
def test_memory_stays_where_nothing_shows_that_it_is_the_same_machine(
    system: System, known_as: Tuple[str, ...], same: Tuple[str, ...]
) -> None:
    """A clone carries its original's memory, known by the original's DMI."""
    remember(system, OLD_ID, known_as=known_as)
    known = applied.load(system, INSTANCE, None, same)
    assert (known.hostname, known.moved_from) == (None, "")


def test_a_drive_shows_that_two_ids_are_one_machine(system: System) -> None:
    """It calls the VM by the id under which things were remembered, and the router by the other."""
    remember(system, OLD_ID)
    assert applied.load(system, INSTANCE, None, (OLD_ID, INSTANCE)).hostname == "web01"


def test_a_former_instance_whose_memory_is_damaged_goes_too(system: System, tree: Path) -> None:
    """By its file's name, with its user-data, and at once: those that can be read are the last three."""
    directory = tree / "var/lib/csagent/instances"
    for number in range(1, 9):
        name = f"i-2-{number}-VM"
        applied.save(system, applied.load(system, name)._replace(hostname="web"))
        system.tree.write(applied.user_data_path(name), b"marker", 0o600)
        system.tree.mkdir(user_data_record.folder_of(name), 0o700)
        if number <= 4:
            (directory / f"{name}.json").write_bytes(b"{damaged")
    kept = {path.name.split(".")[0] for path in directory.iterdir()}
    assert kept == {"i-2-6-VM", "i-2-7-VM", "i-2-8-VM"}
    assert {path.name for path in (tree / "var/lib/csagent/user-data").iterdir()} == kept
    (tree / "var/lib/csagent/latest-instance").unlink()
    (directory / "i-2-9-VM.json").write_bytes(b"{damaged")
    assert applied.last_instance(system) != "i-2-9-VM", "its memory says nothing"


def test_what_a_power_cut_left_of_a_former_instance_goes_too(system: System, tree: Path) -> None:
    """A file or folder that was still in the making has that instance's user-data, too."""
    applied.save(system, applied.load(system, "i-2-1-VM")._replace(hostname="web"))
    system.tree.mkdir(user_data_record.folder_of("i-2-1-VM") + instances.IN_THE_MAKING, 0o700)
    directory = tree / "var/lib/csagent/instances"
    (directory / ".i-2-1-VM.user-data.csagent-new").write_bytes(b"marker")
    for number in (12, 2, 3):
        applied.save(system, applied.load(system, f"i-2-{number}-VM")._replace(hostname="web"))
    assert {path.name for path in directory.iterdir()} == {f"i-2-{number}-VM.json" for number in (12, 2, 3)}
    assert list((tree / "var/lib/csagent/user-data").iterdir()) == []


def test_a_copy_of_a_memory_takes_nothing_from_it(system: System, tree: Path) -> None:
    """Whose memory a file is says its name: with another one it is not the instance that it tells of."""
    directory = tree / "var/lib/csagent/instances"
    for number in range(1, 4):
        applied.save(system, applied.load(system, f"i-2-{number}-VM")._replace(hostname="web"))
    copied = (directory / "i-2-3-VM.json").read_bytes()
    (directory / "before.json").write_bytes(copied)
    applied.save(system, applied.load(system, "i-2-3-VM")._replace(domain="example.net"))
    assert {path.name for path in directory.iterdir()} == {f"i-2-{number}-VM.json" for number in (1, 2, 3)}


def test_three_instances_are_kept(system: System, tree: Path) -> None:
    """The memory and the user-data of those before go; what nobody gave an id for stays."""
    remember(system, applied.NO_INSTANCE)
    for number in range(6):
        (tree / applied.user_data_path(f"i-2-{number}-VM").lstrip("/")).write_text("#!/bin/sh")
        user_data_record.make_folder(system, user_data_record.folder_of(f"i-2-{number}-VM"))
        remember(system, f"i-2-{number}-VM")
    directory = tree / "var/lib/csagent/instances"
    kept = {path.name.split(".")[0] for path in directory.iterdir()}
    assert kept == {"unknown", "i-2-3-VM", "i-2-4-VM", "i-2-5-VM"}
    assert {path.name for path in (tree / "var/lib/csagent/user-data").iterdir()} == kept - {"unknown"}
    # An instance that is in use again is the latest again.
    remember(system, "i-2-3-VM")
    remember(system, "i-2-9-VM")
    assert {path.name.split(".")[0] for path in directory.iterdir()} == {
        "unknown",
        "i-2-3-VM",
        "i-2-5-VM",
        "i-2-9-VM",
    }


@pytest.mark.parametrize(
    "odd", ["instances/i-2-0-VM.user-data", "instances/i-2-0-VM.json", "user-data/i-2-0-VM"]
)
def test_what_is_no_file_or_no_folder_goes_too(odd: str, system: System, tree: Path) -> None:
    """A directory where a file of a former instance should be, or a file where its folder should be."""
    path = tree / "var/lib/csagent" / odd
    path.parent.mkdir(parents=True, exist_ok=True)
    if odd.startswith("user-data"):
        path.touch()
    else:
        (path / "below").mkdir(parents=True)
    for number in range(odd.endswith(".json"), 4):
        remember(system, f"i-2-{number}-VM")
    assert not path.exists()
    assert len(list((tree / "var/lib/csagent/instances").iterdir())) == 3


def test_what_cannot_be_removed_keeps_nothing_else(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the rest of that instance goes but its memory, by which the next pass finds it."""
    directory = tree / "var/lib/csagent/instances"
    remember(system, "i-2-0-VM")
    for ending in ("a", "z"):
        (directory / f"i-2-0-VM.{ending}").touch()
    user_data_record.make_folder(system, user_data_record.folder_of("i-2-0-VM"))
    really = os.unlink

    def unlink(name: Any, **options: Any) -> None:
        if name == "i-2-0-VM.a":
            raise PermissionError(errno.EPERM, "Operation not permitted", name)
        really(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        for number in range(1, 4):
            remember(system, f"i-2-{number}-VM")
    left = {path.name for path in directory.iterdir() if path.name.startswith("i-2-0")}
    assert left == {"i-2-0-VM.a", "i-2-0-VM.json"}
    assert not (tree / "var/lib/csagent/user-data/i-2-0-VM").exists()
    remember(system, "i-2-3-VM")
    assert len(list(directory.iterdir())) == 3


def test_what_an_earlier_csagent_piled_up_goes(system: System, tree: Path) -> None:
    """It kept every instance, and named only the latest."""
    directory = tree / "var/lib/csagent/instances"
    for number in range(5):
        remember(system, f"i-2-{number}-VM")
        for path in directory.glob("*.json"):
            path.rename(path.with_suffix(".kept"))
    for path in directory.glob("*.kept"):
        path.rename(path.with_suffix(".json"))
        os.utime(path.with_suffix(".json"), (int(path.name[4]) * 1000, int(path.name[4]) * 1000))
    (tree / "var/lib/csagent/latest-instance").write_text("i-2-0-VM\n")
    remember(system, "i-2-0-VM")
    assert {path.name for path in directory.iterdir()} == {
        "i-2-0-VM.json",
        "i-2-4-VM.json",
        "i-2-3-VM.json",
    }


def test_servers_that_forgot_are_few(system: System) -> None:
    """Routers come and go for years; only what was said of the newest password counts."""
    known = applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-1"))
    for number in range(100):
        known = known.with_forgotten_by([Endpoint(f"10.1.1.{number}", 8080)])
    assert len(known.forgotten_by) == applied.SERVERS_KEPT
    known = known.with_password(Secret(b"EXAMPLE-2")).with_forgotten_by([Endpoint("10.1.1.1", 8080)])
    assert list(known.forgotten_by) == ["10.1.1.1:8080"]


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("latest-instance", True),
        (f"instances/{INSTANCE}.json", True),
        (f"instances/{INSTANCE}.json.room", True),
        ("instances", False),
    ],
)
def test_what_is_in_the_way_is_named(system: System, tree: Path, path: str, directory: bool) -> None:
    """A directory where a file is written, or a file where a directory is, is not the memory's fault."""
    there = tree / "var/lib/csagent" / path
    there.parent.mkdir(parents=True, exist_ok=True)
    there.mkdir() if directory else there.touch()
    with pytest.raises(ApplyError, match=rf"/var/lib/csagent/{path}: (Is|Not) a directory$"):
        applied.reserve(system, applied.Memory(instance_id=INSTANCE, salt=b"s" * 16), 100)
