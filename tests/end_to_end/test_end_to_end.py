"""`./dev end-to-end` without its machines: the table, how machines are compared, and the name server."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Dict

import comparison
import pytest
from cases import CASES
from comparison import Where
from facts import facts
from machine import Report
from support.name_server import answer

TABLE = """
- what: the message
  cloud-init: none
  csagent: one
  because: it is asked for
  differences:
    - {fact: message, csagent: "yes", cloud-init: "no", case: [c], boot: 1}
"""
ROUTER = socket.inet_aton("10.1.1.1")


@pytest.fixture
def table(tmp_path: Path) -> "list[comparison.Row]":
    """One row, about the first boot of one case."""
    (tmp_path / "table.yaml").write_text(TABLE)
    return comparison.rows(tmp_path / "table.yaml")


def test_table_in_the_documentation_is_the_one_that_is_checked() -> None:
    """docs/from-cloud-init.md has what expected_differences.yaml makes; `--write-docs` writes it."""
    text = comparison.PAGE.read_text("utf-8")
    assert text == comparison.page_with(text, comparison.rows())
    assert all(row.because and row.differences for row in comparison.rows())


def test_difference_is_meant_only_where_a_row_says_so(table: "list[comparison.Row]") -> None:
    """Another case, boot or value, and a fact that one machine lacks, are differences without a row."""
    ours, theirs = {"message": "yes", "name": "web"}, {"message": "no", "name": "web"}
    first = comparison.compare(Where(12, "c", "router", 1), ours, theirs, table)
    assert first.wrong == [] and [row.what for row, _, _ in first.meant] == ["the message"]
    for place in (Where(12, "a", "router", 1), Where(12, "c", "router", 2)):
        assert comparison.compare(place, ours, theirs, table).wrong == [
            "message: csagent 'yes', cloud-init 'no'"
        ]
    other = comparison.compare(Where(12, "c", "drive", 1), {}, theirs, table)
    assert other.wrong == [
        "message: csagent 'absent', cloud-init 'no'",
        "name: csagent 'absent', cloud-init 'web'",
    ]


def test_row_that_nothing_shows_is_told(table: "list[comparison.Row]") -> None:
    """After a whole run the table has nothing that no machine has shown."""
    used = {difference for row in table for difference in row.differences}
    assert comparison.unused(table, used) == []
    assert comparison.unused(table, set()) == ["the message: message is in the table and was not seen"]


def test_what_a_case_expects_is_looked_for_at_each_boot() -> None:
    """`(each boot)` is the count at that boot; a fact that is missing is not as expected."""
    expected = {"ran, in this order": "bootcmd (each boot); script (1)", "outcome": "done"}
    found = {"ran, in this order": "bootcmd (2); script (1)", "outcome": "done"}
    assert comparison.unmet(2, expected, found) == []
    assert comparison.unmet(1, expected, {"outcome": "done"}) == [
        "ran, in this order: 'absent', expected 'bootcmd (1); script (1)'"
    ]


def test_each_case_has_a_document_and_a_machine_of_its_own() -> None:
    """No two machines share an instance id, whichever release, agent and source they are of."""
    clouds = [
        case.cloud(release, agent, source)
        for case in CASES
        for source in case.sources
        for agent in ("csagent", "cloud-init")
        for release in (12, 13)
    ]
    assert len({cloud.instance_id for cloud in clouds}) == len(clouds)
    assert all(cloud.user_data for cloud in clouds)


def _report(files: Dict[str, str]) -> Report:
    """Of a machine that has these files, as guest/look tells them, and nothing else."""
    texts = ("order", "kernel_name", "file_name", "full_name", "hosts", "time_zone", "dns", "fstab", "failed")
    named = ("host_keys", "accounts", "groups", "packages", "mounts", "sizes", "disks")
    guest: Dict[str, Any] = {name: "" for name in texts}
    guest.update({name: {} for name in named})
    guest.update(status={"status": "done"}, app="", address=[], route=[], files=files)
    return Report(guest, "", 0, [], 1.0)


def test_instance_id_in_a_file_is_no_difference() -> None:
    """Each machine has its own, in the text of a file, too; another machine's there is another text."""
    path = "/run/kubeadm/kubeadm-join-config.yaml"
    own, other = (
        "2f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e01",
        "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e02",
    )
    text = "0640 root:root 'provider-id: cloudstack:///{}'"
    ours = facts(_report({path: text.format(own)}), own)
    theirs = facts(_report({path: text.format(other)}), other)
    assert ours == theirs
    assert ours[f"file {path}"] == "0640 root:root 'provider-id: cloudstack:///ITS-ID'"
    assert facts(_report({path: text.format(other)}), own) != ours


@pytest.mark.parametrize(
    ("name", "kind", "flags", "address"),
    [
        (b"\x0bdata-server\x08cs2cloud\x08internal\x00", b"\x00\x01", b"\x85\x80", ROUTER),
        (b"\x0bData-Server\x00", b"\x00\x01", b"\x85\x80", ROUTER),
        (b"\x0bdata-server\x00", b"\x00\x1c", b"\x85\x80", b""),
        (b"\x03www\x07example\x00", b"\x00\x01", b"\x85\x83", b""),
    ],
)
def test_name_server_knows_the_router_and_nobody_else(
    name: bytes, kind: bytes, flags: bytes, address: bytes
) -> None:
    """Its IPv4 address, none of another kind, no such name; what follows the question is not sent back."""
    question = name + kind + b"\x00\x01"
    asked = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" + question
    reply = answer(asked + b"\x00\x00\x29\x05\xac\x00\x00\x00\x00\x00\x00", ROUTER)
    assert reply[:4] == b"\x12\x34" + flags and reply[4:8] == b"\x00\x01" + bytes([0, bool(address)])
    assert reply[12 : 12 + len(question)] == question
    assert reply[12 + len(question) :][-4:] == address
