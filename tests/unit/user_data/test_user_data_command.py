"""`csagent user-data check|plan|run`: exit codes, JSON, whose document it is, who else runs it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterator, Tuple

import pytest
from support.samples import INSTANCE

from csagent.apply import keep_user_data as copies
from csagent.cli.main import main
from csagent.model import Secret
from csagent.sources.user_data_kind import describe
from csagent.state import applied, user_data_mark, user_data_record
from csagent.system.seams import System

WHOLE = b"#cloud-config\nwrite_files: [{path: /etc/a, content: EXAMPLE-marker}]\n"
PART = b"#cloud-config\nruncmd: a\nwrite_files: [{path: /etc/a}]\n"
NOTHING = b"# cloud-config\n"


@pytest.fixture
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("document") / "user-data"


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def keep(system: System, content: bytes, doubt: str = "") -> None:
    """As a pass keeps it."""
    sha256 = hashlib.sha256(content).hexdigest()
    memory = applied.load(system, INSTANCE)
    applied.save(system, memory._replace(user_data=sha256, user_data_doubt=doubt))
    copies.keep(system, INSTANCE, describe(content))
    user_data_mark.leave(system, sha256)


@pytest.mark.parametrize(
    ("content", "code", "outcome"),
    [
        (WHOLE, 0, "runs"),
        (PART, 3, "partly"),
        (NOTHING, 1, "nothing"),
        (b"a=b\n", 1, "ignored"),
    ],
)
def test_check(
    tree: Path, document: Path, capsys: pytest.CaptureFixture[str], content: bytes, code: int, outcome: str
) -> None:
    """0 all of it runs, 3 part of it, 1 nothing; each complaint with its line, no secret."""
    document.write_bytes(content)
    found, out, err = call(capsys, "--root", str(tree), "user-data", "check", str(document), "--json")
    said = json.loads(out)
    assert (found, said["schema"], said["outcome"], err) == (code, 1, outcome, "")
    assert "marker" not in out
    if content == PART:
        (problem,) = said["parts"][0]["problems"]
        assert (problem["line"], problem["key"], problem["severity"]) == (2, "runcmd", "error")
        (step,) = said["parts"][0]["steps"]
        assert (step["stage"], step["key"]) == ("early", "write_files")
    found, out, err = call(capsys, "--root", str(tree), "user-data", "check", str(document))
    assert (found, err, "marker" in out) == (code, "", False)
    assert list((tree / "var").iterdir()) == []


def test_bad_files(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    code, out, err = call(capsys, "--root", str(tree), "user-data", "check", "/nowhere/x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "No such file" in err


def test_metadata_for_templates(tree: Path, document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML or JSON of keys; anything else is named with its line. Without any, names are None: a warning."""
    document.write_bytes(b"## template: jinja\n#cloud-config\nfqdn: {{ local_hostname }}.example.com\n")
    metadata = document.with_name("metadata")
    words = ("--root", str(tree), "user-data", "check", str(document), "--metadata", str(metadata))
    code, out, _err = call(capsys, *words[:-2])
    assert code == 0 and "called None" in out and "warning: local_hostname: None" in out
    for text in ("local-hostname: web01\n", '{"local-hostname": "web01"}'):
        metadata.write_text(text)
        code, out, _err = call(capsys, *words)
        assert (code, "web01" in out, "warning" in out) == (0, True, False)
    metadata.write_text("a: 1\nlocal-hostname: [[a]]\n")
    code, _out, err = call(capsys, *words)
    assert code == 2
    assert "line 2" in err


def test_the_instances_own_document(system: System, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, run once, and shown with what has run of it."""
    words = ("--root", str(tree), "user-data")
    code, out, _err = call(capsys, *words, "plan")
    assert (code, "there is no user-data here" in out) == (0, True)
    keep(system, WHOLE)
    code, out, _err = call(capsys, *words, "plan", "--json")
    assert (code, json.loads(out)["parts"][0]["steps"][0]["state"]) == (0, "waiting")
    code, out, _err = call(capsys, *words, "run", "--json")
    assert (code, json.loads(out)["state"]) == (0, "done")
    assert (tree / "etc/a").read_text() == "EXAMPLE-marker"
    (tree / "etc/a").write_text("changed")
    code, out, _err = call(capsys, *words, "run")
    assert code == 0
    assert (tree / "etc/a").read_text() == "changed"
    code, out, _err = call(capsys, *words, "plan", "--json")
    assert json.loads(out)["parts"][0]["steps"][0]["state"] == "done"
    code, out, _err = call(capsys, *words, "run", "--again")
    assert (tree / "etc/a").read_text() == "EXAMPLE-marker"


def test_exit_codes_of_run(tree: Path, document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """3 some steps failed, 1 all of them."""
    words = ("--root", str(tree), "user-data", "run", "--again", "--document", str(document))
    document.write_bytes(PART)
    assert call(capsys, *words)[0] == 3
    document.write_bytes(NOTHING)
    assert call(capsys, *words)[0] == 1


def test_what_was_run_by_hand_is_kept_of_the_last_three_ids(
    tree: Path, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the order of the runs, not by times; what runs once for an id that is kept does not run again."""
    document.write_bytes(WHOLE)
    metadata, records = document.with_name("metadata"), tree / "var/lib/csagent/user-data/by-hand"

    def run(number: int) -> None:
        metadata.write_text(json.dumps({"instance-id": f"i-2-{number}-VM"}))
        words = ("--document", str(document), "--metadata", str(metadata))
        assert call(capsys, "--root", str(tree), "user-data", "run", *words)[0] == 0

    for number in range(10):
        run(number)
        os.utime(records / f"i-2-{number}-VM", (4e9 - number, 4e9 - number))
    run(7)
    run(10)
    left = {path.name for path in records.iterdir() if path.is_dir()}
    assert left == {"i-2-10-VM", "i-2-7-VM", "i-2-9-VM"}
    (tree / "etc/a").write_text("changed")
    run(7)
    assert (tree / "etc/a").read_text() == "changed"
    (records / ".latest").unlink()  # as an earlier csagent has left it
    run(11)
    assert {path.name for path in records.iterdir() if path.is_dir()} >= {"i-2-11-VM", "i-2-9-VM"}
    assert len(list(records.iterdir())) == 4


@pytest.mark.parametrize("setting", ["keep", "false"])
def test_a_setting_keeps_it_from_running(
    system: System, tree: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    """And says so; nothing is waited for."""
    (tree / "etc/csagent").mkdir()
    (tree / "etc/csagent/csagent.yaml").write_text(f"user_data: {setting}\n")
    keep(system, WHOLE)
    code, out, _err = call(capsys, "--root", str(tree), "user-data", "run")
    assert (code, f"the setting user_data is {setting}" in " ".join(out.split())) == (0, True)
    assert not (tree / "etc/a").exists()
    published = json.loads((tree / "run/csagent/user-data.json").read_text())
    assert (published["state"], published["stages"]["final"]) == ("ignored", "ended")


def test_what_cloud_init_has_run_before_is_not_run(
    system: System, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A VM that is moved to csagent; --again runs it, and it is csagent's from then on."""
    keep(system, WHOLE)
    (tree / f"var/lib/cloud/instances/{INSTANCE}/sem").mkdir(parents=True)
    words = ("--root", str(tree), "user-data", "run")
    (tree / f"var/lib/cloud/instances/{INSTANCE}/sem/config_scripts_user").touch()
    code, out, _err = call(capsys, *words)
    assert (code, "cloud-init has run" in out) == (0, True)
    assert not (tree / "etc/a").exists()
    assert call(capsys, *words, "--again")[0] == 0
    assert (tree / "etc/a").exists()
    assert "cloud-init has run" not in call(capsys, *words)[1]


def test_the_password_of_an_account_that_never_had_cloudstacks_is_the_documents(
    system: System, tree: Path, document: Path, capsys: Any
) -> None:
    """The setting user has changed since the newest was set."""
    keep(system, b"#cloud-config\nchpasswd: {users: [{name: root, password: '$6$EXAMPLE$other'}]}\n")
    applied.save(system, applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-own"), "alice"))
    assert call(capsys, "--root", str(tree), "user-data", "run")[0] == 0
    assert "root:$6$EXAMPLE$other:" in (tree / "etc/shadow").read_text()


def test_cloudstacks_password_stays(system: System, tree: Path, document: Path, capsys: Any) -> None:
    """Of the account that has one, or may have one: no document locks or replaces it."""
    users = b"#cloud-config\nusers: [{name: root}]\nchpasswd: {list: ['root:EXAMPLE-other']}\n"
    keep(system, users)
    memory = applied.load(system, INSTANCE).with_password(Secret(b"EXAMPLE-own"))
    applied.save(system, memory)
    shadow = (tree / "etc/shadow").read_text().replace("root:*:", "root:$6$EXAMPLE$own:")
    (tree / "etc/shadow").write_text(shadow)
    code, out, _err = call(capsys, "--root", str(tree), "user-data", "run")
    assert code == 0
    assert out.count("root has CloudStack's own password, which stays") >= 2
    assert (tree / "etc/shadow").read_text() == shadow
    path = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    path.unlink()
    os.mkfifo(path)  # cannot be read
    call(capsys, "--root", str(tree), "user-data", "run", "--again")
    assert (tree / "etc/shadow").read_text() == shadow
    path.unlink()
    applied.save(system, memory._replace(passwords=()))
    call(capsys, "--root", str(tree), "user-data", "run", "--again")
    assert (tree / "etc/shadow").read_text() != shadow


def test_the_name_that_a_document_gives_is_remembered(system: System, tree: Path, capsys: Any) -> None:
    """For the passes that come; one that is run by hand is not this instance's."""
    keep(system, b"#cloud-config\nhostname: named\n")
    call(capsys, "--root", str(tree), "user-data", "run")
    assert (tree / "etc/hostname").read_text() == "named\n"
    assert user_data_mark.name_given(system, INSTANCE) == "named"
    assert user_data_mark.name_given(system, "other") == ""


def remembered_as_cut(system: System) -> None:
    keep(system, WHOLE, "cut off")


def kept_and_not_remembered(system: System) -> None:
    """As a power cut between the two leaves it."""
    keep(system, b"#!/bin/sh\n")
    copies.keep(system, INSTANCE, describe(WHOLE))


def memory_damaged(system: System) -> None:
    keep(system, WHOLE)
    system.tree.write(f"/var/lib/csagent/instances/{INSTANCE}.json", b"x", 0o600)


@pytest.mark.parametrize("spoil", [remembered_as_cut, kept_and_not_remembered, memory_damaged])
@pytest.mark.parametrize(
    "words",
    [("plan",), ("run",), ("run", "--stage", "early"), ("run", "--stage", "final"), ("run", "--again")],
)
def test_a_copy_that_is_not_surely_whole_runs_in_no_way(
    system: System,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[System], None],
    words: Tuple[str, ...],
) -> None:
    """Not by hand, not by the units though somebody left their mark; once it has come whole, it does."""
    spoil(system)
    code, out, err = call(capsys, "--root", str(tree), "user-data", *words)
    assert (code, out, "not surely whole" in err, len(err.splitlines())) == (1, "", True, 1)
    assert not (tree / "etc/a").exists()
    keep(system, WHOLE)
    assert call(capsys, "--root", str(tree), "user-data", "run")[0] == 0
    assert (tree / "etc/a").exists()


def test_metadata_goes_with_a_document(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The instance's own has its own."""
    code, _out, err = call(capsys, "--root", str(tree), "user-data", "plan", "--metadata", "/x")
    assert (code, "--metadata goes with --document" in err) == (2, True)


def test_a_document_that_is_sealed_away_meanwhile_is_not_run(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The final part had been started, and waited for `csagent seal`: nothing of it comes back."""
    system = System.at(str(tree))
    keep(system, WHOLE)
    waited_for = user_data_record.locked

    @contextlib.contextmanager
    def sealing(*words: Any) -> Iterator[None]:
        with waited_for(*words):
            system.tree.remove(applied.user_data_path(INSTANCE))
            yield

    monkeypatch.setattr(user_data_record, "locked", sealing)
    code, out, _err = call(capsys, "--root", str(tree), "user-data", "run", "--stage", "early")
    assert (code, "no user-data" in out) == (0, True)
    assert not (tree / "etc/a").exists()
