"""What docs/ shows on a scratch tree is run as it stands, and what it prints is what the pages show."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

TOP = Path(__file__).resolve().parents[2]
DEADLINE = 600.0
PORTS = ("8000", "8081")
FIXTURES = "cd tests/fixtures/leases"


def text(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def block(page: str, first: str) -> List[str]:
    """The lines of the indented block that begins so."""
    lines = text(page).split(f"\n    {first}")[1].split("\n\n")[0]
    return [line.strip() for line in f"{first}{lines}".split("\n")]


def shown(page: str) -> List[Tuple[str, List[str]]]:
    """Each `$ command` of a page, with the lines that it is shown to print."""
    found: List[Tuple[str, List[str]]] = []
    for part in re.findall(r"(?:^(?:    .*)?\n)+", text(page), re.M):
        for line in part.rstrip("\n").split("\n"):
            line = line[4:]
            if line.startswith("$ "):
                found.append((line[2:].split("  #")[0].strip(), []))
            elif found and part.lstrip().startswith("$ "):
                found[-1][1].append(line.rstrip())
    return [(command, output) for command, output in found]


class Shell:
    """A scratch directory with the router of the examples on ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = [free_port(), free_port()]
        path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {**os.environ, "PATH": path, "COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1"}
        self.background: List["subprocess.Popen[bytes]"] = []

    def run(self, line: str, where: str = "") -> List[str]:
        """The lines that a command of the page prints, with the page's ports in them."""
        for documented, own in zip(PORTS, self.ports):
            line = line.replace(documented, str(own))
        directory = TOP / where if where else self.directory
        if line.endswith(" &"):
            words = ["sh", "-c", f"exec {line[:-2]}"]
            sink = subprocess.DEVNULL
            self.background.append(
                subprocess.Popen(words, cwd=directory, env=self.environment, stdout=sink, stderr=sink)
            )
            return []
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0 or " doctor" in line, f"{line}: {done.stderr}"
        said = done.stdout
        for documented, own in zip(PORTS, self.ports):
            said = said.replace(str(own), documented)
        return [one.rstrip() for one in said.rstrip("\n").split("\n")]

    def close(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)


def free_port() -> int:
    """One of five digits, so that lines are as long as with any other."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    try:
        yield made
    finally:
        made.close()


def words(lines: List[str]) -> str:
    """What stands there, however it is broken into lines, without what is different each time."""
    said = " ".join(" ".join(lines).split())
    said = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", said)
    return re.sub(r"\b(took|after) [\d.]+ s", r"\1 SECONDS", said)


def test_the_readmes_try(shell: Shell) -> None:
    """Line by line: the plan says what would be done, and apply has done it."""
    printed: Dict[str, str] = {}
    for line in block("README.md", "mkdir -p scratch/etc"):
        printed[line] = words(shell.run(line))
    plan, apply = list(printed.values())[-2:]
    assert "apply would change the machine." in plan
    assert apply.count(": applied") == 4
    assert (shell.directory / "scratch/etc/hostname").read_text() == "web-01\n"


def test_what_the_commands_print(shell: Shell) -> None:
    """docs/commands.md, in its order: discover on recordings, the rest on a scratch tree with a router."""
    lines = block("docs/commands.md", "mkdir -p scratch/etc")
    router = next(number for number, line in enumerate(lines) if line.endswith(" &"))
    for line in lines[: router + 1]:
        shell.run(line)
    where, compared = "", 0
    for command, output in shown("docs/commands.md"):
        if command == FIXTURES:
            where = FIXTURES.split()[1]
            continue
        if "--root scratch" in command:
            where = ""
        if command.endswith(" status"):
            shell.run(next(line for line in lines if " apply " in line))
        assert words(shell.run(command, where)) == words(output), command
        compared += 1
    assert compared == 6
    for line in lines[router + 1 :]:
        printed = words(shell.run(line))
    assert ": unchanged" in printed and ": applied" not in printed


def test_what_doctor_prints(shell: Shell) -> None:
    """docs/doctor.md: each paragraph that is shown is in the report, in that order."""
    for line in block("README.md", "mkdir -p scratch/etc"):
        shell.run(line)
    ((command, output),) = [one for one in shown("docs/doctor.md") if " doctor" in one[0]]
    report, at = words(shell.run(command)), 0
    for paragraph in "\n".join(output).split("..."):
        wanted = words(paragraph.split("\n"))
        assert wanted in report[at:], wanted
        at = report.index(wanted, at) + len(wanted)


def test_the_support_archive_opens_elsewhere(shell: Shell) -> None:
    """docs/doctor.md's commands, on an archive of the scratch tree."""
    for line in block("README.md", "mkdir -p scratch/etc"):
        shell.run(line)
    shell.run(
        "csagent --root scratch doctor --bundle support.tar.gz --router 127.0.0.1:8000 --password-port 8081"
    )
    (shell.directory / "network_data.json").write_text("{}")  # whoever looks at it brings the document
    printed = [said for line in block("docs/doctor.md", "mkdir there") for said in shell.run(line)]
    assert any(line.startswith("verdict:") for line in printed)
