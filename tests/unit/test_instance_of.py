"""Under which id things are remembered."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from support.samples import INSTANCE

from csagent.agent import instance_of, recall
from csagent.model import Found, Observation, Observed, Platform
from csagent.settings import Settings
from csagent.state import applied
from csagent.system.seams import System

TURNED = "-".join(
    (*(bytes.fromhex(one)[::-1].hex() for one in INSTANCE.split("-")[:3]), *INSTANCE.split("-")[3:])
)


@pytest.mark.parametrize(
    ("dmi", "expected"), [(INSTANCE, INSTANCE), (TURNED, INSTANCE), ("a" + INSTANCE[1:], "a" + INSTANCE[1:])]
)
def test_dmi_in_the_other_byte_order_is_the_same_memory(system: System, dmi: str, expected: str) -> None:
    """Where nobody says the id, what was remembered under the sources' spelling of it is found again."""
    applied.save(system, applied.load(system, INSTANCE))
    seen = Observed(Found(platform=Platform(uuid=dmi, cloudstack=True)), Observation())
    assert instance_of(system, seen) == expected


@pytest.mark.parametrize(("user", "looked_at"), [("root", True), ("daemon", True), ("alice", False)])
def test_a_persons_home_is_not_looked_into_by_root(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch, user: str, looked_at: bool
) -> None:
    """It may lie on a file server that does not answer, which would hold up host name and password, too."""
    (tree / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/srv/daemon:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
    )
    seen: List[str] = []

    def read(_system: System, path: str, *_arguments: object, **_words: object) -> bytes:
        seen.append(path)
        raise FileNotFoundError

    monkeypatch.setattr(applied.trusted_path, "read", read)
    recall(system, Settings(user=user), Observed(Found(), Observation()))
    assert ([path for path in seen if path.endswith(".password.md5")] != []) == looked_at
