"""User-data at a boot at which nobody answers: the copy that is kept, where it is this machine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest
from support.samples import INSTANCE

from csagent.agent import tell_user_data
from csagent.cli.main import main
from csagent.decide import decide
from csagent.errors import EXIT_NO_SOURCE
from csagent.model import Observation, Place, Refusal
from csagent.plan import OtherOwner, Plan
from csagent.settings import Settings
from csagent.sources.user_data_kind import describe
from csagent.state import applied, user_data_mark
from csagent.state.applied import Memory
from csagent.state.status_files import INSTANCE as PUBLISHED
from csagent.state.status_files import READY
from csagent.system.seams import System

MEMORY = Memory(instance_id=INSTANCE, salt=b"s" * 16, user_data="kept")
OTHER = "0" + INSTANCE[1:] if INSTANCE[0] != "0" else "1" + INSTANCE[1:]


def runs(observation: Observation, *, proven: bool = True, settings: Optional[Settings] = None) -> str:
    return decide(observation, MEMORY, settings or Settings(), proven=proven).run


def test_in_silence_the_copy_runs_where_it_is_this_machines() -> None:
    """Not where a source says that there is none, nor of another machine, nor where none is to run."""
    data = describe(b"#!/bin/sh\n")
    assert runs(Observation()) == "kept"
    assert runs(Observation(), proven=False) == ""
    assert runs(Observation(source_found=True)) == ""
    assert runs(Observation(source_found=True, user_data=data)) == data.sha256
    assert runs(Observation(), settings=Settings(user_data="keep")) == ""
    left = OtherOwner(runs_user_data="cloud-init runs it")
    assert decide(Observation(), MEMORY, Settings(), proven=True, other=left).run == ""


def boot(
    system: System, tree: Path, uuid: str, vendor: str = "Apache Software Foundation", doubt: str = ""
) -> Optional[str]:
    """A pass that finds nobody, on a machine with this DMI; the document of the mark that it leaves."""
    known = applied.load(system, INSTANCE)
    applied.save(system, known._replace(user_data="kept", user_data_doubt=doubt))
    names = {"product_uuid": uuid, "sys_vendor": vendor, "product_name": "KVM"}
    (tree / "sys/class/dmi/id").mkdir(parents=True, exist_ok=True)
    for name, text in names.items():
        (tree / "sys/class/dmi/id" / name).write_text(f"{text}\n")
    assert main(["--root", str(tree), "apply", "--wait", "0"]) == EXIT_NO_SOURCE
    mark = tree / READY.lstrip("/")
    return json.loads(mark.read_text())["sha256"] if mark.exists() else None


@pytest.mark.parametrize(
    ("uuid", "vendor", "told"),
    [
        (INSTANCE, "Apache Software Foundation", "kept"),
        (OTHER, "Apache Software Foundation", None),
        (INSTANCE, "QEMU", None),
    ],
)
def test_a_pass_marks_it(system: System, tree: Path, uuid: str, vendor: str, told: Optional[str]) -> None:
    """This machine by CloudStack's DMI: bootcmd runs. A copy of its disk, or a DMI that says nothing: not."""
    assert boot(system, tree, uuid, vendor) == told


def test_a_copy_that_is_not_surely_whole_is_marked_by_nobody(system: System, tree: Path) -> None:
    """Half a script at the boot after, and the mark of another document that is there still."""
    user_data_mark.leave(system, "another")
    assert boot(system, tree, INSTANCE, doubt="cut off") is None
    doubtful = MEMORY._replace(user_data_doubt="cut off")
    for observation in (Observation(), Observation(source_found=True, doubts={"user_data": "cut off"})):
        user_data_mark.leave(system, "another")
        tell_user_data(system, Plan(), doubtful, observation)
        assert not system.tree.exists(READY)
    # It has come whole, and that could not be written down.
    tell_user_data(system, Plan(run="kept"), doubtful, Observation(source_found=True))
    assert not system.tree.exists(READY)


def test_only_a_source_that_has_none_takes_the_mark_away(system: System) -> None:
    """A router that answers for all else and is too busy for this leaves it: the final stage looks for it."""
    refused = (Refusal("user_data", "router 10.1.1.1", "HTTP 503", True),)
    cases = [
        (Observation(source_found=True, refusals=refused), True),
        (Observation(source_found=True, doubts={"user_data": "cut off"}), True),
        (Observation(), True),
        (Observation(source_found=True), False),
    ]
    for observation, stays in cases:
        user_data_mark.leave(system, "kept")
        tell_user_data(system, Plan(), MEMORY, observation)
        assert system.tree.exists(READY) is stays
    user_data_mark.leave(system, "kept")
    tell_user_data(system, Plan(run="not kept"), MEMORY, Observation(source_found=True))
    assert not system.tree.exists(READY)
    tell_user_data(system, Plan(run="kept"), MEMORY, Observation(source_found=True))
    assert system.tree.exists(READY)


def test_a_drive_that_says_nothing_of_it_does_not_speak_for_a_silent_router(system: System) -> None:
    """Beside a drive with the network alone a router that is slow for one pass has taken nothing away."""
    system.tree.mkdir(PUBLISHED.rsplit("/", 1)[0], 0o755)
    came = {"user_data": "router 10.1.1.1", "network": "drive /dev/sr0"}
    system.tree.write(PUBLISHED, json.dumps({"provenance": came}).encode(), 0o644)
    drive = Place("drive /dev/sr0", "has the label", "ok")
    for outcome, stays in (("timeout", True), ("ok", False)):
        user_data_mark.leave(system, "kept")
        places = (Place("router 10.1.1.1", "named by the lease", outcome), drive)
        tell_user_data(system, Plan(), MEMORY, Observation(source_found=True, places=places))
        assert system.tree.exists(READY) is stays


def test_silence_after_an_answer(system: System, tree: Path) -> None:
    """It neither brings back what a source took away nor takes a mark from before the final stage."""
    (tree / PUBLISHED.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (tree / PUBLISHED.lstrip("/")).write_text("{}")
    assert boot(system, tree, INSTANCE) is None
    user_data_mark.leave(system, "answered")
    assert boot(system, tree, INSTANCE) == "answered"
