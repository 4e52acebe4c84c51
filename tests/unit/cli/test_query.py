"""What `query` answers from: CloudStack's own keys, and the instance's variables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from csagent.cli.status import query
from csagent.errors import CsagentError

VARIABLES = {"VM-ID": "EXAMPLE-1", "Cloud-Name": "EXAMPLE-2", "Role": "EXAMPLE-3"}


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A tree whose last pass has left these variables."""
    (tmp_path / "run/csagent").mkdir(parents=True)
    (tmp_path / "run/csagent/variables.json").write_text(json.dumps({"schema": 1, "metadata": VARIABLES}))
    return str(tmp_path)


@pytest.mark.parametrize("key", ["vm-id", "cloud-name", "Vm-Id"])
def test_no_variable_answers_for_a_key_of_cloudstacks(root: str, key: str) -> None:
    """Whoever sets variables does not say which VM this is, where CloudStack says nothing."""
    with pytest.raises(CsagentError, match="knows no"):
        query(root, key, {"metadata": {}})


@pytest.mark.parametrize(
    ("key", "value"), [("VM-ID", "EXAMPLE-1"), ("Cloud-Name", "EXAMPLE-2"), ("role", "EXAMPLE-3")]
)
def test_a_variable_answers_as_it_is_spelled(root: str, key: str, value: str) -> None:
    """That name is its own; the case of any other does not matter."""
    assert query(root, key, {"metadata": {}}) == f"{value}\n".encode()


def test_cloudstacks_own_key_answers_in_any_case(root: str) -> None:
    """Before a variable of that very name."""
    assert query(root, "VM-ID", {"metadata": {"vm-id": "42"}}) == b"42\n"
