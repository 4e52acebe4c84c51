"""What a document includes is kept for as long as it is included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import pytest
from support.replace_fields import replace

from csagent.model import Secret
from csagent.state import user_data_record as records
from csagent.system.seams import System
from csagent.system.tree import Tree
from csagent.user_data import fetch, includes
from csagent.user_data.message import Fetched
from csagent.user_data.source import Source
from csagent.user_data.surroundings import Facts

ENTRY = "http://192.0.2.1/list"
FACTS = Facts(instance_id="i-2-3-VM")
SOURCE = Source(Secret(f"#include\n{ENTRY}\n".encode()), FACTS, records.folder_of("i-2-3-VM"), False, "test")


class LiveTree(Tree):
    """A scratch directory that passes for the running system."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.live = True


@pytest.fixture
def machine(tree: Path) -> System:
    return replace(System.at(str(tree)), tree=LiveTree(str(tree)))


def serve(monkeypatch: pytest.MonkeyPatch, pages: Mapping[str, str]) -> None:
    """Answer for these URLs; no other can be had."""

    def answer(_system: System, urls: Sequence[str], *_more: Any) -> Dict[str, Fetched]:
        known = {url: Fetched(page.encode()) for url, page in pages.items()}
        return {url: known.get(url, Fetched(problem="no answer in time")) for url in urls}

    monkeypatch.setattr(fetch, "fetch", answer)


def kept(tree: Path) -> List[str]:
    return sorted(path.read_text() for path in (tree / SOURCE.folder[1:] / includes.FOLDER).iterdir())


def test_a_list_that_names_others_at_each_boot(
    machine: System, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it named before goes: the state has an end."""
    for number in range(3):
        page, script = f"#include\nhttp://192.0.2.1/{number}\n", f"#!/bin/sh\necho {number}\n"
        serve(monkeypatch, {ENTRY: page, f"http://192.0.2.1/{number}": script})
        assert len(includes.read_all(machine, SOURCE).steps) == 1
        assert kept(tree) == [script, page]


def test_a_server_that_is_away(machine: System, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept serves, and stays, what is named in what was kept too."""
    pages = {ENTRY: "#include\nhttp://192.0.2.1/1\n", "http://192.0.2.1/1": "#!/bin/sh\necho 1\n"}
    serve(monkeypatch, pages)
    includes.read_all(machine, SOURCE)
    serve(monkeypatch, {})
    assert len(includes.read_all(machine, SOURCE).steps) == 1
    assert kept(tree) == sorted(pages.values())
