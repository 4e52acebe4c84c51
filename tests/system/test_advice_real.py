"""The commands that csagent advises are run, where it advises them: afterwards it no longer complains.

One Debian that its own systemd has booted, on an isolated network with a router; the table is in
`support.advice`. The cases of a round break the machine together, and are mended together.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from support.advice import ROUNDS
from support.advice_case import CLOUD, HAND, OWNER, Case
from support.debian_image import Installed, run
from support.network_segment import SEARCH_PATH, Segment, isolated
from support.requirements import require
from support.samples import make_key
from support.systemd_guest import Booted
from support.vm_cloud import describe

from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.1.1.1", "10.1.1.42"


def small_key() -> str:
    """An RSA key of 1024 bits, as old key pairs have."""
    fields = [b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xc5" * 128]
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"ssh-rsa {base64.b64encode(blob).decode()} old@example"


NAME, USER_DATA = "web-01", b"#!/bin/sh\necho EXAMPLE\n"
CHANGES: Dict[str, Dict[str, Any]] = {
    "older": {"password": "marker-older-EXAMPLE"},
    "a small key": {"ssh_keys": (small_key(),)},
    "a cut key": {"ssh_keys": (make_key(1), "ssh-ed25519 AAAAC3NzaC1 cut")},
    "no name": {"hostname": "no_name_!"},
    "user-data": {"user_data": b"#!/bin/sh\necho changed\n"},
    "user-data that fails": {"user_data": b"#!/bin/sh\necho EXAMPLE-it-fails\nexit 3\n"},
    "user-data that is none": {"user_data": b"#cloud-config\nruncmd: [\n"},
    "user-data that is slow": {"user_data": b"#!/bin/sh\necho EXAMPLE-slow\nsleep 600\n"},
    "user-data that is cut short": {
        "user_data": b"#!/bin/sh\n[ -e /run/once ] && exit 0\ntouch /run/once\nkill -9 $PPID\nsleep 9\n"
    },
}
ANSWERS = {"a page to log in": (200, b"<html>"), "a router that fails": (500, b"")}
OF_THE_HOST = ("nft ", "curl ", "ping ")  # run in the guest's network; it has none of these


class Machine:
    """The guest, and what is done in CloudStack."""

    def __init__(self, guest: Booted, segment: Segment, router: LabRouter) -> None:
        self.guest, self.segment, self.router = guest, segment, router
        self._number = 0

    def sh(self, command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command as root in a shell inside, with this on its standard input."""
        if command.startswith(OF_THE_HOST):
            enter = ["nsenter", f"--target={self.guest.pid}", "--net", "--"]
        else:
            enter = self.guest._enter()
        return subprocess.run(
            [*enter, "env", SEARCH_PATH, "HOME=/root", "sh", "-c", command],
            input=given,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def cloud(self, what: str) -> None:
        """Reset something in CloudStack."""
        self._number += 1
        if what == "password":
            self.router.change(password=f"marker-{self._number}-EXAMPLE")
        elif what == "keys":
            self.router.change(ssh_keys=(make_key(1000 + self._number),))
        elif what in CHANGES:
            self.router.change(**CHANGES[what])
        elif what == "a router that is slow":
            page = self.router.page

            def slow(path: str, source: str) -> Any:
                time.sleep(2.5 if path.endswith("/instance-id") else 0)
                return page(path, source)

            self.router.page = slow  # type: ignore[method-assign]
        elif what in ANSWERS:
            answer = ANSWERS[what]
            self.router.page = lambda *_words: answer  # type: ignore[method-assign]
        elif what.endswith("cable"):
            words = ("link", "set", "eth0", "down" if what == "no cable" else "up")
            run(self.segment.namespace.command(["ip", *words]), 10)
        else:
            assert what == ""

    def as_before(self) -> None:
        """The router, its cable, and what CloudStack says of the name and the user-data."""
        vars(self.router).pop("page", None)
        self.cloud("cable")
        if self.router.cloud.hostname != NAME or self.router.cloud.user_data != USER_DATA:
            self.router.change(hostname=NAME, user_data=USER_DATA)

    def daemon(self, wanted: bool) -> None:
        """Have it run, its first pass done, or not: it would take a password before the machine is broken."""
        if wanted:
            start = (
                "systemctl reset-failed csagent; rm -f /run/csagent/status.json; systemctl restart csagent"
            )
            self.guest.do("sh", "-c", f"{start}; csagent status --wait 300 >/dev/null")
        else:
            self.guest.do("systemctl", "stop", "csagent")

    def findings(self, wait: int) -> List[Dict[str, Any]]:
        """What doctor finds."""
        done = self.sh(f"csagent doctor --json --wait {wait}")
        assert done.returncode in (0, 1, 4) and done.stderr == "", done
        found: List[Dict[str, Any]] = json.loads(done.stdout)["findings"]
        return found


@pytest.fixture(scope="module")
def machine(image: Installed) -> Iterator[Machine]:
    """One for all rounds; its daemon's first pass is done, and two passwords were set one after the other."""
    require(("nft", "curl", "ping"), "asks the router as an administrator does")
    with contextlib.ExitStack() as stack:
        # On a disk: not every file system in memory knows chattr(1).
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csagent-", dir="/var/tmp")))
        guest = Booted(image, directory / "guest")
        segment = stack.enter_context(isolated(guest, directory, SERVER, ADDRESS))
        router = segment.router(describe("web-01", 1), SERVER, port=80, password_port=8080)
        guest.write(OWNER, "PermitRootLogin yes\n")
        guest.wait("grep", "-q", '"source_found": true', "/run/csagent/status.json")
        guest.wait("systemctl", "is-active", "--quiet", "csagent.service", "ssh.service")
        guest.do("mkdir", "-p", "/etc/csagent")
        made = Machine(guest, segment, router)
        for what in ("older", "password"):
            made.cloud(what)
            guest.csagent("apply")
        yield made


def meant(findings: List[Dict[str, Any]], case: Case) -> List[Dict[str, Any]]:
    """Those of the findings that a case is about."""
    return [
        one
        for one in findings
        if one["area"] == case.area and one["saw"].find(case.saw) >= 0 and one["advice"]
    ]


@pytest.mark.parametrize("name", ROUNDS)
def test_the_advice_is_of_commands_that_help(machine: Machine, name: str) -> None:
    """Printed word for word as the table has it, run as printed; then that finding is gone."""
    cases = ROUNDS[name]
    machine.daemon(any("csagent.service" in f"{case.advice} {case.saw}" for case in cases))
    try:
        for case in cases:
            machine.cloud(case.before)
            done = machine.sh(case.breaks)
            assert done.returncode == 0, done
        printed = [case for case in cases if case.area]
        found = machine.findings(min(case.wait for case in cases)) if printed else []
        for case in cases:
            if not case.area:
                carry_out(machine, case, case.advice)
                continue
            (one,) = meant(found, case) or [
                {"advice": str([one for one in found if one["area"] == case.area])}
            ]
            expected = re.escape(case.advice).replace(r"\*", ".+") if "*" in case.advice else ""
            assert one["advice"] == case.advice or (expected and re.fullmatch(expected, one["advice"])), one
            carry_out(machine, case, one["advice"])
        found = machine.findings(60) if any(case.helps for case in printed) else []
        assert [one for case in printed if case.helps for one in meant(found, case)] == []
    finally:
        for case in reversed(cases):
            machine.sh(case.restored)
        machine.as_before()


def carry_out(machine: Machine, case: Case, advice: str) -> None:
    """Run the commands of an advice, which are in it as they stand."""
    shown = ""
    for command in case.commands or (advice,):
        if command.startswith(CLOUD):
            machine.cloud(command[len(CLOUD) :])
            continue
        by_hand = command.startswith(HAND)
        assert by_hand or command in advice, (command, advice)
        done = machine.sh(command[len(HAND) :] if by_hand else command, case.given)
        assert done.returncode in case.ends, done
        assert "command not found" not in done.stderr and "not found\n" not in done.stderr, done
        shown += done.stdout
    assert re.search(case.shows, shown), shown
