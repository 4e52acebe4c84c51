"""User-data on a Debian that its own systemd has booted: the path, the two stages, and who waits for whom."""

from __future__ import annotations

import json
from typing import Iterator, Tuple

import pytest
from support.debian_image import Installed
from support.network_segment import Segment, isolated
from support.replace_fields import replace
from support.systemd_guest import Booted
from support.vm_cloud import describe

from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.1.1.1", "10.1.1.42"
DOCUMENT = b"""\
#cloud-config
hostname: named
users:
  - name: root
  - name: eve
    sudo: ALL=(ALL) NOPASSWD:ALL
write_files:
  - path: /etc/systemd/system/demo.service
    content: |
      [Unit]
      After=multi-user.target
      [Service]
      ExecStart=/bin/sleep 1000000
      [Install]
      WantedBy=multi-user.target
bootcmd:
  - echo bootcmd >> /var/tmp/order
runcmd:
  - systemctl is-active multi-user.target >> /var/tmp/order
  - systemctl enable --now demo.service && systemctl is-active demo.service >> /var/tmp/order
  - nohup sleep 1000001 >/dev/null 2>&1 &
  - echo EXAMPLE-output
  - "false"
"""
CLOUD = replace(describe("web-01", 1), user_data=DOCUMENT)


@pytest.fixture(scope="module")
def booted(
    image: Installed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tuple[Booted, Segment, LabRouter]]:
    """Booted, with a document that waits for it."""
    directory = tmp_path_factory.mktemp("booted")
    guest = Booted(image, directory / "guest")
    with isolated(guest, directory, SERVER, ADDRESS) as segment:
        router = segment.router(CLOUD, SERVER, port=80, password_port=8080)
        yield guest, segment, router


def test_it_runs_when_the_machine_is_up(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """Early, then final behind multi-user.target; a unit may be started and waited for; status says all."""
    guest = booted[0]
    guest.wait("test", "-e", "/run/csagent/status.json")
    status = guest.csagent("status", "--wait", "120", "--user-data")
    assert guest.do("cat", "/var/tmp/order").split() == ["bootcmd", "active", "active"]
    found = status["user_data"]
    assert (found["state"], found["stages"]) == ("failed", {"early": "ended", "final": "ended"})
    (part,) = found["parts"]
    assert (part["outcome"], part["exit"]) == ("failed", 1)
    assert part["keys"]["runcmd"] == "failed, exit 1"
    assert part["keys"]["write_files"] == "done"
    assert "runcmd: failed, exit 1" in guest.do("csagent", "status")


def test_units_end_as_their_stages_did(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """What failed is a failed unit; the early one is not begun again by the mark; the target is reached."""
    guest = booted[0]
    guest.wait("systemctl", "is-active", "csagent-user-data.target")
    assert guest.run("systemctl", "is-active", "csagent-user-data-early.service").stdout == "active\n"
    assert guest.run("systemctl", "is-failed", "csagent-user-data.service").stdout == "failed\n"
    count = guest.do("systemctl", "show", "--value", "-p", "NRestarts", "csagent-user-data-early.service")
    assert count.strip() == "0"
    assert "ordering cycle" not in guest.run("journalctl", "-b", "--no-pager").stdout


def test_a_reload_begins_nothing_again(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """systemd looks at its path units anew then, and the mark is still there."""
    guest = booted[0]
    guest.wait("systemctl", "is-failed", "csagent-user-data.service")
    began = ("systemctl", "show", "--value", "-p", "ExecMainStartTimestampMonotonic")
    units = tuple(f"csagent-user-data{name}.service" for name in ("-early", "-after-boot", ""))
    before = guest.do(*began, *units)
    guest.do("systemctl", "daemon-reload")
    guest.do("sleep", "5")
    assert guest.do(*began, *units) == before
    guest.do("systemctl", "restart", units[0])
    guest.wait(
        "sh",
        "-c",
        f"[ $(systemctl show --value -p ExecMainStartTimestampMonotonic {units[2]}) -gt "
        f"{before.split()[2]} ]",
    )


def test_a_machine_without_a_console_misses_its_line(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """There is no /dev/console here: nothing fails for it, and nothing is tried again and again."""
    guest = booted[0]
    assert guest.run("test", "-e", "/dev/console").returncode == 1
    guest.wait("test", "-e", "/run/csagent/console")
    said = guest.run("systemctl", "is-active", "csagent-console.path", "csagent-console.service").stdout
    assert said.split()[0] == "active" and "failed" not in said
    assert guest.run("test", "-e", "/run/csagent/console-due").returncode == 1
    assert guest.run("test", "-e", "/dev/console").returncode == 1


def test_children_outlive_the_unit(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """What a script leaves running goes on, and so does what it has started as a unit."""
    guest = booted[0]
    assert guest.do("pgrep", "-fc", "sleep 1000001").strip() == "1"
    guest.do("systemctl", "is-active", "demo.service")


def test_cloudstacks_password_is_not_locked_away(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """The document locks root, as it does where nothing else is said; it came with a password of its own."""
    guest = booted[0]
    fields = guest.do("getent", "shadow", "root").split(":")
    assert fields[1].startswith("$")
    status = guest.csagent("status")
    warnings = status["user_data"]["parts"][0]["warnings"]
    assert "root has CloudStack's own password, which stays" in warnings
    assert guest.do("getent", "shadow", "eve").split(":")[1].startswith("!")


def test_the_documents_name_stays(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """The next pass leaves it, also where CloudStack's has changed (field/user-data#U78)."""
    guest, _segment, router = booted
    assert guest.do("hostname").strip() == "named"
    router.cloud = replace(CLOUD, hostname="web-02")
    guest.csagent("apply", "--wait", "20")
    assert guest.do("hostname").strip() == "named"
    assert "user-data has named this machine" in guest.csagent("status")["data"]["hostname"]["reason"]


def test_the_journal_has_a_line_a_step(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """With fields, and nothing of the document or of what a script has said."""
    guest = booted[0]
    units = ("csagent-user-data-early.service", "csagent-user-data.service")
    words = ("journalctl", "-b", "-o", "json", "--no-pager", *(f"--unit={unit}" for unit in units))
    lines = [json.loads(line) for line in guest.do(*words).splitlines()]
    steps = [line for line in lines if line.get("CSAGENT_DATUM") == "user_data"]
    told = [(line["CSAGENT_EVENT"], line["MESSAGE"].split(" (", 1)[0]) for line in steps]
    assert told == [
        ("done", "user_data, bootcmd"),
        ("done", "user_data, write_files"),
        ("done", "user_data, hostname"),
        ("done", "user_data, users"),
        ("done", "user_data, users"),
        ("failed", "user_data, runcmd"),
    ]
    assert not [line for line in lines if "EXAMPLE" in str(line)]
    log = guest.do("cat", "/var/log/csagent-user-data.log")
    assert "EXAMPLE-output" in log
    assert guest.do("stat", "-c", "%a %U:%G", "/var/log/csagent-user-data.log") == "640 root:adm\n"


def test_a_changed_document_is_told_and_not_run(booted: Tuple[Booted, Segment, LabRouter]) -> None:
    """On the same instance (field/user-data#U25); `run --again` runs it."""
    guest, _segment, router = booted
    router.cloud = replace(CLOUD, user_data=b"#!/bin/sh\necho changed >> /var/tmp/order\n")
    guest.csagent("apply", "--wait", "20")
    status = guest.csagent("status")
    assert status["user_data"]["state"] == "changed"
    assert "changed" not in guest.do("cat", "/var/tmp/order")
    guest.csagent("user-data", "run")
    assert "changed" not in guest.do("cat", "/var/tmp/order")
    assert guest.csagent("user-data", "run", "--again")["state"] == "done"
    assert guest.do("cat", "/var/tmp/order").split()[-1] == "changed"
    assert guest.csagent("status")["user_data"]["state"] == "done"
