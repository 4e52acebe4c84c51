"""30 documents run in a real Debian 12 by csagent, each with the state that it must lead to.

tests/fixtures/user-data: each was run by cloud-init too, of three versions, and leads to the same state
there, but for what its expected.yaml names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

import pytest
import yaml
from support.requirements import require
from support.user_data_state import differences, report_differences
from support.user_data_tree import TOOLS, Scratch, tree

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/user-data"
NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
EXIT_CODES = {"done": (0,), "ignored": (0,), "failed": (1, 3), "refused": (1,)}

pytestmark = [pytest.mark.root, pytest.mark.netns]


@pytest.fixture(scope="module")
def debian() -> Path:
    """A Debian 12 tree."""
    require(TOOLS, "runs documents in a Debian tree")
    return tree()


@pytest.fixture
def scratch(debian: Path, tmp_path: Path) -> Iterator[Scratch]:
    """An overlay of it."""
    made = Scratch(debian, tmp_path)
    yield made
    made.close()


def test_there_are_thirty() -> None:
    """None has been lost on the way."""
    assert len(NAMES) == 30


@pytest.mark.parametrize("name", NAMES)
def test_document(scratch: Scratch, name: str) -> None:
    """It leads to its state, and is reported as what it is."""
    expected = yaml.safe_load((FIXTURES / name / "expected.yaml").read_text("utf-8"))
    document = (FIXTURES / name / "user-data").read_bytes()
    done = scratch.csagent(document, count=expected.get("boot", {}).get("count", 1))
    error = done.stderr.decode(errors="replace")
    assert "Traceback" not in error
    report = json.loads(scratch.told("status.json"))
    log = scratch.text("/var/log/csagent-user-data.log") + scratch.console()
    wrong = differences(scratch, expected, log)
    wrong += report_differences(report, expected, json.dumps(report) + error)
    assert wrong == []
    assert done.returncode in EXIT_CODES[expected["outcome"]]
