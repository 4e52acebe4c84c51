"""Carrying a plan out, once: what runs again, what was cut short, what has changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, List, Optional

import pytest

from csagent.errors import ApplyError
from csagent.model import Secret
from csagent.settings import Settings
from csagent.state import applied
from csagent.state import user_data_record as records
from csagent.system.files import TEMPORARY_SUFFIX
from csagent.system.seams import System
from csagent.system.tree import Tree
from csagent.user_data import reading, runner
from csagent.user_data.source import Source, own
from csagent.user_data.surroundings import Facts

FACTS = Facts(instance_id="i-2-3-VM", user="root")
DOCUMENT = b"""\
#cloud-config
bootcmd: [echo marker-EXAMPLE]
write_files:
  - {path: /etc/one, content: EXAMPLE-marker, append: true}
  - {path: /etc/two, content: EXAMPLE-marker, append: true, defer: true}
"""


class Cut(BaseException):
    """The power goes."""


def source(document: bytes = DOCUMENT, facts: Facts = FACTS) -> Source:
    return Source(Secret(document), facts, records.folder_of(facts.instance_id), False, "test")


def run(system: System, document: bytes = DOCUMENT, stage: Optional[str] = None, **more: Any) -> runner.Ran:
    chosen = source(document)
    plan = reading.read(system, document, FACTS)
    return runner.Runner(system, chosen, plan).run(stage, **more)


def states(ran: runner.Ran) -> List[str]:
    return [f"{key} {state}" for key, state in ran.status["parts"][0]["keys"].items()]


def test_each_step_once(system: System, tree: Path) -> None:
    """The second run finds nothing to do; what is run at each boot waits for the next one."""
    first = run(system)
    assert (first.exit_code, first.status["state"]) == (0, "shown")
    second = run(system)
    assert (second.done, second.failed, second.exit_code) == (0, 0, 0)
    assert (tree / "etc/one").read_text() == "EXAMPLE-marker"
    assert (tree / "etc/two").read_text() == "EXAMPLE-marker"


def test_stages(system: System, tree: Path) -> None:
    """The early one leaves the final one's; the final one takes what the early one has not begun."""
    ran = run(system, stage="early")
    assert (tree / "etc/one").exists()
    assert not (tree / "etc/two").exists()
    assert ran.status["state"] == "waiting"
    run(system, stage="final")
    assert (tree / "etc/two").exists()


def test_the_final_stage_alone_does_both(system: System, tree: Path) -> None:
    """Where the early unit did not run."""
    run(system, stage="final")
    assert (tree / "etc/one").exists()


def test_a_changed_document(system: System, tree: Path) -> None:
    """Is said to be changed and not run, but for what runs at each boot; --again runs it."""
    run(system)
    other = DOCUMENT.replace(b"/etc/one", b"/etc/three")
    ran = run(system, other)
    assert ran.changed
    assert ran.status["state"] == "changed"
    assert not (tree / "etc/three").exists()
    assert run(system, other, again=True).status["state"] == "shown"
    assert (tree / "etc/three").exists()
    assert (tree / "etc/two").read_text() == "EXAMPLE-marker" * 2


def test_a_new_instance_runs_all_of_it(system: System, tree: Path) -> None:
    """On top of what the old one has left (field/user-data#U67)."""
    run(system)
    facts = FACTS._replace(instance_id="i-2-4-VM")
    plan = reading.read(system, DOCUMENT, facts)
    runner.Runner(system, source(facts=facts), plan).run()
    assert (tree / "etc/one").read_text() == "EXAMPLE-marker" * 2


def appends(system: System, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Let the power go before the record's entry of that number."""
    whole = records.Record._append
    count = [0]

    def append(self: records.Record, entry: Any) -> None:
        count[0] += 1
        if count[0] == limit:
            raise Cut
        whole(self, entry)

    monkeypatch.setattr(records.Record, "_append", append)


@pytest.mark.parametrize("number", range(1, 8))
def test_cut_short_at_each_entry_of_the_record(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nothing runs twice; what began and did not end is interrupted; what is behind it runs."""
    with monkeypatch.context() as patch:
        appends(system, patch, number)
        with pytest.raises(Cut):
            run(system)
    ran = run(system)
    found = states(ran)
    for name in ("one", "two"):
        text = (tree / "etc" / name).read_text() if (tree / "etc" / name).exists() else ""
        assert text in ("", "EXAMPLE-marker")
    written = [(tree / "etc" / name).exists() for name in ("one", "two")]
    began = number in (3, 5, 7)  # the entries are: document, then begun and ended of each step
    assert ("write_files interrupted" in found) == (number in (5, 7))
    assert ran.status["state"] == ("interrupted" if began else "shown")
    assert all(written)
    assert run(system).done == 0


def test_a_torn_line_is_passed_over(system: System) -> None:
    """A power cut in the middle of a write: what stands before it counts, and what is written behind it."""
    record = records.Record(system, "/var/lib/csagent/user-data/x")
    record.start("abc")
    record.begin("a")
    path = system.tree.shown("/var/lib/csagent/user-data/x/record")
    with open(path, "ab") as stream:
        stream.write(b'\n{"step": "a", "state": "do')
    again = records.Record(system, "/var/lib/csagent/user-data/x")
    assert again.steps["a"].state == records.BEGUN
    again.begin("b")
    again.end("b", records.StepState(records.DONE, warnings=("w",), count=(1, 3)))
    third = records.Record(system, "/var/lib/csagent/user-data/x")
    assert (third.document, third.steps["a"].state) == ("abc", records.BEGUN)
    assert (third.steps["b"].state, third.steps["b"].warnings, third.steps["b"].count) == (
        records.DONE,
        ("w",),
        (1, 3),
    )


def test_the_record_is_roots(system: System, tree: Path) -> None:
    """Mode 0600 in directories of 0700; scripts 0700; nothing of the document in what is published."""
    run(system)
    folder = tree / "var/lib/csagent/user-data"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert (tree / "var/log/csagent-user-data.log").stat().st_mode & 0o777 == 0o640
    published = (tree / "run/csagent/user-data.json").read_text()
    assert "marker" not in published
    assert json.loads(published)["state"] == "shown"


def test_nothing_starts_where_nothing_can_be_recorded(system: System, tree: Path) -> None:
    """A step that could not be remembered could run twice."""
    (tree / "var/lib").mkdir()
    (tree / "var/lib/csagent").write_text("in the way")
    with pytest.raises(ApplyError):
        run(system)
    assert not (tree / "etc/one").exists()


def test_a_failing_step_does_not_stop_the_next(system: System, tree: Path) -> None:
    """Exit code 3, and each with its reason."""
    (tree / "etc/dir").mkdir()
    ran = run(
        system,
        b"#cloud-config\nwrite_files:\n  - {path: /etc/dir}\n  - {path: /etc/b, owner: nobody-here}\n"
        b"  - {path: /etc/c}\n",
    )
    assert (ran.exit_code, ran.status["state"]) == (3, "failed")
    assert states(ran) == ["write_files failed, 2 of 3"]
    reasons = ran.status["parts"][0]["reasons"]["write_files"]
    assert "Is a directory" in reasons
    assert "there is no account nobody-here" in reasons
    assert (tree / "etc/c").exists()
    assert not (tree / "etc/b").exists()


def test_all_failed(system: System, tree: Path) -> None:
    """Exit code 1."""
    (tree / "etc/dir").mkdir()
    assert run(system, b"#cloud-config\nwrite_files: [{path: /etc/dir}]\n").exit_code == 1
    assert run(system, b"#cloud-config\n- a\n", again=True).exit_code == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_the_log_is_there_for_adm(system: System, tree: Path) -> None:
    """0640, also where it was there with another mode (CVE-2021-3429)."""
    (tree / "var/log").mkdir()
    (tree / "var/log/csagent-user-data.log").write_text("before\n")
    (tree / "var/log/csagent-user-data.log").chmod(0o666)
    (tree / "etc/group").write_text("root:x:0:\nadm:x:4:\n")
    run(system)
    status = (tree / "var/log/csagent-user-data.log").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, 4)


ONCE = b"""\
MIME-Version: 1.0
Content-Type: text/x-shellscript-per-once

#!/bin/sh
"""


def test_once_for_a_machine(system: System) -> None:
    """Another instance on the same disk finds it done, and is told so; --again runs it."""
    first = run(system, ONCE)
    assert first.status["parts"][0]["outcome"] == "shown"
    facts = FACTS._replace(instance_id="i-2-4-VM")
    plan = reading.read(system, ONCE, facts)
    other = source(ONCE, facts)
    ran = runner.Runner(system, other, plan).run()
    assert (ran.done, ran.status["parts"][0]["outcome"]) == (0, "done")
    assert runner.Runner(system, other, plan).run(again=True).done == 1


def test_what_was_half_written_is_cleared_up(system: System, tree: Path) -> None:
    """The temporary file of a step that was cut short; what lies elsewhere stays."""
    run(system)
    record = records.Record(system, records.folder_of(FACTS.instance_id))
    step = next(step for step in record.steps if step.startswith("write_files/1"))
    record.begin(step)
    for name in (
        "etc/.one.csagent-new",
        "etc/.shadow.csagent-new",
        "root/.x.csagent-new",
        "etc/one.csagent-new",
    ):
        (tree / name).write_text("EXAMPLE")
    run(system)
    left = sorted(str(path.relative_to(tree)) for path in tree.rglob("*csagent-new"))
    assert left == ["etc/one.csagent-new", "root/.x.csagent-new"]


def test_a_template_is_given_the_instances_own_variables(system: System, tree: Path) -> None:
    """What CloudStack says of the VM is public, what its owner has put there is root's: it gets both."""
    (tree / "run/csagent").mkdir(parents=True)
    public = {"memory_id": "i-2-3-VM", "metadata": {"local-hostname": "web01"}}
    (tree / "run/csagent/instance.json").write_text(json.dumps(public))
    variables = {"metadata": {"colour": "green", "local-hostname": "not this one"}}
    (tree / "run/csagent/variables.json").write_text(json.dumps(variables))
    kept = tree / applied.user_data_path("i-2-3-VM").lstrip("/")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(DOCUMENT)
    sha256 = hashlib.sha256(DOCUMENT).hexdigest()
    applied.save(system, applied.load(system, "i-2-3-VM")._replace(user_data=sha256))
    found = own(system, Settings())
    assert found is not None and found.facts.metadata["colour"] == "green"
    assert found.facts.metadata["local-hostname"] == "web01"
    (tree / "run/csagent/variables.json").unlink()
    found = own(system, Settings())
    assert found is not None and "colour" not in found.facts.metadata


def test_a_pipe_that_nobody_reads_holds_up_nobody(system: System, tree: Path) -> None:
    """Whoever may write in a directory can put one there before the document's file."""
    os.mkfifo(tree / "etc/one")
    ran = run(system)
    assert ran.status["parts"][0]["reasons"]["write_files"].endswith("etc/one: No such device or address")
    assert (tree / "etc/two").read_text() == "EXAMPLE-marker"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("hard", [False, True])
def test_parents_are_given_to_nobody_through_a_link(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch, hard: bool
) -> None:
    """A directory that its owner swaps for a link meanwhile: what that leads to keeps its own."""
    (tree / "etc/shadow").write_text("root:*:1::::::\n")
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:12345:12345::/home/alice:/bin/sh\n")
    (tree / "home/alice").mkdir(parents=True, exist_ok=True)
    os.chown(tree / "home/alice", 12345, 12345)
    mkdir = Tree.mkdir

    def swapped(self: Tree, path: str, mode: int, *, durable: bool = True) -> None:
        if path == "/home/alice/new":
            if hard:  # where fs.protected_hardlinks is not set
                os.link(tree / "etc/shadow", tree / "home/alice/new")
            else:
                (tree / "home/alice/new").symlink_to("/etc")
        else:
            mkdir(self, path, mode, durable=durable)

    monkeypatch.setattr(Tree, "mkdir", swapped)
    run(system, b"#cloud-config\nwrite_files: [{path: /home/alice/new/x, owner: alice}]\n")
    assert (tree / "etc").stat().st_uid == (tree / "etc/shadow").stat().st_uid == 0


def test_what_is_new_is_labelled(system: System, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SELinux: a file, or the highest of the directories that were made for it; the sudo rules, too."""
    labelled: List[str] = []
    monkeypatch.setattr("csagent.user_data.machine.relabel", lambda system, path: labelled.append(path))
    (tree / "srv").mkdir()
    run(
        system,
        b"""#cloud-config
write_files:
  - {path: /etc/one, content: EXAMPLE}
  - {path: /srv/new/deep/two, content: EXAMPLE}
users:
  - {name: alice, sudo: "ALL=(ALL) ALL"}
""",
    )
    assert (tree / "srv/new/deep/two").read_text() == "EXAMPLE"
    assert set(labelled) >= {"/etc/one", "/srv/new", "/etc/sudoers.d/90-cloud-init-users"}


def test_our_own_lines_steer_no_console(system: System, tree: Path) -> None:
    """What the document has in a name is shown as text on the console, to which the log is copied."""
    run(system, b'#cloud-config\nwrite_files: [{path: "/etc/\\e[2Ja", owner: "\\e[2Jb"}]\n')
    (log,) = (tree / "var/log").iterdir()
    assert "there is no account  [2Jb" in log.read_text()
    assert "\x1b" not in log.read_text()


def test_the_record_has_an_end(system: System, tree: Path) -> None:
    """What runs at each boot leaves lines at each boot; the next run writes anew what counts of them."""
    run(system)
    path = tree / "var/lib/csagent/user-data/i-2-3-VM/record"
    entries = [json.loads(line) for line in path.read_text().split("\n") if line]
    bootcmd = [one for one in entries if one.get("step") == entries[1]["step"]]
    before = {one["step"]: one["state"] for one in entries if "step" in one}
    with open(path, "a") as stream:
        for boot in range(1500):
            stream.writelines(f"\n{json.dumps({**one, 'boot': str(boot)})}\n" for one in bootcmd)
    assert path.stat().st_size > records.COMPACT_FROM
    ran = run(system)
    assert (ran.done, ran.failed) == (1, 0)  # bootcmd: the last boot was another one
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert len(lines) < 2 * len(entries)
    assert {one["step"]: one["state"] for one in lines if "step" in one} == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(system).done == 0
    assert (tree / "etc/one").read_text() == "EXAMPLE-marker"


def test_an_interrupted_step_stays_so_in_a_record_that_is_written_anew(system: System) -> None:
    """Also its boot, its reason and its warnings."""
    record = records.Record(system, "/var/lib/csagent/user-data/x")
    record.start("abc")
    record.begin("a")
    record.begin("b")
    record.end("b", records.StepState(records.FAILED, exit=3, reason="r", warnings=("w",), count=(1, 3)))
    kept = {step: [getattr(state, name) for name in state.__slots__] for step, state in record.steps.items()}
    for _boot in range(4000):
        record._append({"step": "c", "state": records.BEGUN, "boot": "old", "at": 1.0})
    records.Record(system, "/var/lib/csagent/user-data/x").compact()
    again = records.Record(system, "/var/lib/csagent/user-data/x")
    assert again.steps.pop("c").boot == "old"
    assert again.document == "abc"
    assert {
        step: [getattr(state, name) for name in state.__slots__] for step, state in again.steps.items()
    } == kept


EDITED = {
    "etc/fstab": "mounts: [[/dev/vdb, /mnt/a, ext4]]",
    "etc/ssh/sshd_config": "ssh_pwauth: false",
    "etc/sudoers": "users: [{name: alice, sudo: 'ALL=(ALL) ALL'}]",
    "etc/sudoers.d/90-cloud-init-users": "users: [{name: alice, sudo: 'ALL=(ALL) ALL'}]",
    "etc/hosts": "hostname: web-9\nmanage_etc_hosts: localhost",
    "etc/locale.conf": "locale: xx_XX.UTF-8",
}


def edit(system: System, keys: str) -> runner.Ran:
    return run(system, f"#cloud-config\n{keys}\n".encode())


@pytest.mark.parametrize("size", [5 << 20, 17 << 20])
@pytest.mark.parametrize("path", EDITED)
def test_what_is_large_is_edited_whole_or_not_at_all(
    system: System, tree: Path, path: str, size: int
) -> None:
    """The owner's last line stays, however much stands before it."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    (tree / "etc/os-release").write_text("ID=fedora\n")
    file.write_text("# a line\n" * (size // 9) + "# the owner's\n")
    ran = edit(system, EDITED[path])
    assert "\n# the owner's\n" in file.read_text()
    assert ("not touched" in json.dumps(ran.status)) == (size == 17 << 20)


@pytest.mark.parametrize("path", EDITED)
def test_what_others_write_meanwhile_stays(
    system: System, tree: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that another program appends between csagent's look and its writing."""
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    (tree / "etc/os-release").write_text("ID=fedora\n")
    file.write_text("# the owner's\n")
    added: List[str] = []
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        fsync(descriptor)
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith(f".{file.name}{TEMPORARY_SUFFIX}") and not added:
            added.append(name)
            with open(file, "a") as stream:
                stream.write("# another's\n")

    monkeypatch.setattr(os, "fsync", slow)
    edit(system, EDITED[path])
    text = file.read_text()
    assert added
    assert text.startswith("# the owner's\n# another's\n") and len(text) > 26


def test_only_a_line_feed_ends_a_line(system: System, tree: Path) -> None:
    """A form feed in a comment does not make an option of what stands behind it."""
    (tree / "etc/ssh").mkdir(parents=True, exist_ok=True)
    (tree / "etc/ssh/sshd_config").write_text("# see\x0cPermitRootLogin yes\n# b\u2028Port 23\n")
    edit(system, "ssh_pwauth: false")
    text = (tree / "etc/ssh/sshd_config").read_text()
    assert text == "# see\x0cPermitRootLogin yes\n# b\u2028Port 23\nPasswordAuthentication no\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_mount_point_that_is_anothers_link_stands_nowhere(system: System, tree: Path) -> None:
    """Neither in /etc/fstab, for the next boot, nor in the way of the others."""
    (tree / "home/alice").mkdir(parents=True, exist_ok=True)
    (tree / "home/alice/data").symlink_to("/etc")
    for path in (tree / "home/alice", tree / "home/alice/data"):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    ran = edit(system, "mounts: [[/dev/vdb, /home/alice/data, ext4], [/dev/vdc, /mnt/good, ext4]]")
    assert "a link of user 12345" in ran.status["parts"][0]["reasons"]["mounts"]
    text = (tree / "etc/fstab").read_text()
    assert "/mnt/good" in text and "alice" not in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_nothing_is_appended_to_anothers_file_in_a_directory_for_everybody(
    system: System, tree: Path
) -> None:
    """Who has put it there could go on writing into what a script then runs; a home is its owner's."""
    (tree / "tmp").mkdir(exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    (tree / "home/alice").mkdir(parents=True, exist_ok=True)
    os.chown(tree / "home/alice", 12345, 12345)
    for path in (tree / "tmp/setup", tree / "home/alice/notes"):
        path.write_text("theirs\n")
        os.chown(path, 12345, 12345)
    ran = edit(
        system,
        "write_files:\n- {path: /tmp/setup, append: true, content: EXAMPLE}\n"
        "- {path: /home/alice/notes, append: true, content: EXAMPLE}",
    )
    assert (tree / "tmp/setup").read_text() == "theirs\n"
    assert (tree / "tmp/setup").stat().st_uid == 12345
    assert "in a directory for everybody" in ran.status["parts"][0]["reasons"]["write_files"]
    assert (tree / "home/alice/notes").read_text() == "theirs\nEXAMPLE"
