"""Guests that are killed at a step, run again, and looked at; disks that lose what was not fsynced."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent.apply import libcrypt
from csagent.lab import drive
from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter
from csagent.model import Secret
from csagent.state import applied
from csagent.system.seams import System

REPOSITORY = Path(__file__).resolve().parents[2]
TRACER = Path(__file__).with_name("tracer.py")
ONE_CRYPT = threading.Lock()  # crypt(3) answers in a static buffer
RUNS_AFTER = 2  # at most so many normal passes until all is as it shall be
PATIENTLY = ("--wait", "120")  # a router is found in half a second; on a busy machine in many
DEADLINE = 600.0  # seconds for a whole pass, traced or not

FIRST = Cloud(
    instance_id=INSTANCE,
    hostname="web01",
    ssh_keys=(make_key(1), make_key(2)),
    password="EXAMPLE-marker-1",
    user_data=b"#!/bin/sh\necho marker-EXAMPLE\n",
)
SECOND = replace(FIRST, hostname="web02", ssh_keys=(make_key(3),), password="EXAMPLE-marker-2")

OWNERS_KEYS = ("# the owner's", 'from="10.0.0.0/8" ' + make_key(8, "owner"), make_key(9, "owner@home"))
OWNERS_HOSTS = ("127.0.0.1\tlocalhost", "::1\tlocalhost", "10.0.0.7\tdatabase")
ALICES_SHADOW = "alice:$6$EXAMPLE$x:19000:0:99999:7:::"


class Step(NamedTuple):
    """One step of a process, as the tracer names it."""

    role: str
    number: int
    call: str
    what: str

    @property
    def key(self) -> str:
        return f"{self.role}:{self.number}"


@dataclass
class Trace:
    """What the tracer has logged of one run."""

    lines: List[Dict[str, Any]]
    output: str

    @property
    def end(self) -> Dict[str, Any]:
        return next(line for line in self.lines if "end" in line)

    @property
    def steps(self) -> List[Step]:
        return [
            Step(line["role"], line["n"], line["call"], line["what"]) for line in self.lines if "call" in line
        ]


@dataclass(frozen=True)
class Scenario:
    """What the guest is in the middle of."""

    name: str
    channel: str  # router | drive
    reset: bool  # else it is the first boot

    @property
    def cloud(self) -> Cloud:
        return SECOND if self.reset else FIRST


SCENARIOS = (
    Scenario("router-first-boot", "router", False),
    Scenario("router-reset", "router", True),
    Scenario("drive-first-boot", "drive", False),
    Scenario("drive-changed", "drive", True),
)


def make_tree(root: Path) -> None:
    """A guest with an owner who has things to lose."""
    uid, gid = os.getuid(), os.getgid()
    for directory in ("etc", "root/.ssh", "var", "run"):
        (root / directory).mkdir(parents=True)
    (root / "etc/passwd").write_text(f"root:x:{uid}:{gid}:root:/root:/bin/bash\n")
    (root / "etc/shadow").write_text(f"root:*:19000:0:99999:7:::\n{ALICES_SHADOW}\n")
    (root / "etc/shadow").chmod(0o640)
    (root / "etc/hostname").write_text("debian\n")
    (root / "etc/hosts").write_text("".join(line + "\n" for line in OWNERS_HOSTS))
    (root / "root/.ssh").chmod(0o700)
    (root / "root/.ssh/authorized_keys").write_text("".join(line + "\n" for line in OWNERS_KEYS))
    (root / "root/.ssh/authorized_keys").chmod(0o600)


class Bench:
    """The templates that each attempt starts from."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.images = {}
        for name, cloud in (("first", FIRST), ("second", SECOND)):
            self.images[name] = scratch / f"{name}.iso"
            drive.build(str(self.images[name]), drive.files_for(cloud))
        self.templates: Dict[str, Path] = {}
        for scenario in SCENARIOS:
            root = self.templates[scenario.name] = scratch / scenario.name
            make_tree(root)
            if scenario.name == "drive-first-boot":
                shutil.rmtree(root / "root/.ssh")  # made by csagent then
            if scenario.reset:
                with Guest(self, replace(scenario, reset=False), root) as guest:
                    done = guest.run()
                    assert done.returncode == 0, done.stdout + done.stderr

    def fresh(self, scenario: Scenario) -> Path:
        """A new copy of the scenario's tree."""
        root = Path(tempfile.mkdtemp(dir=self.scratch)) / "tree"
        shutil.copytree(self.templates[scenario.name], root)
        return root


class Guest:
    """A tree, the source of its data, and what is wrong with it. Use as a context manager."""

    def __init__(self, bench: Bench, scenario: Scenario, root: Path) -> None:
        self.bench = bench
        self.scenario = scenario
        self.root = root
        self.router: Optional[LabRouter] = None
        self.problems: List[str] = []

    def __enter__(self) -> "Guest":
        if self.scenario.channel == "router":
            self.router = LabRouter(self.scenario.cloud, log=self._heard)
            self.router.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.router is not None:
            self.router.stop()

    def _heard(self, line: str) -> None:
        if " saved_password from " in line:
            for problem in self.unfit_for_acknowledgement(self.root):
                self.problems.append(f"acknowledged too early: {problem}")

    # --- running it ---

    @property
    def command(self) -> List[str]:
        words = [sys.executable, "-m", "csagent", "--root", str(self.root), "apply", *PATIENTLY]
        if self.router is not None:
            return [
                *words,
                *("--router", f"127.0.0.1:{self.router.port}"),
                *("--password-port", str(self.router.password_port)),
            ]
        image = self.bench.images["second" if self.scenario.reset else "first"]
        return [*words, "--drive", str(image)]

    def run(self) -> "subprocess.CompletedProcess[str]":
        """A normal pass."""
        return subprocess.run(
            self.command,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            cwd=REPOSITORY,
            env=ENVIRONMENT,
        )

    def trace(self, kill: str = "", whom: str = "self") -> Trace:
        """A pass under the tracer, killed at a step if one is named."""
        log = self.root.parent / "log"
        words = [sys.executable, "-I", "-S", str(TRACER), "--log", str(log), "--whom", whom]
        if kill:
            words += ["--kill", kill]
        done = subprocess.run(
            [*words, "--", *self.command],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            cwd=REPOSITORY,
            env=ENVIRONMENT,
        )
        assert done.returncode == 0, f"the tracer failed: {done.stderr[-500:]}"
        trace = Trace([json.loads(line) for line in log.read_text().splitlines()], done.stdout + done.stderr)
        problems = [line["problem"] for line in trace.lines if "problem" in line]
        assert not problems, f"the tracer could not look: {problems}"
        return trace

    # --- looking at it ---

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def acknowledgements(self) -> int:
        return len(self.router.acknowledged) if self.router is not None else 0

    def unfit_for_acknowledgement(self, root: Path) -> List[str]:
        """What must be true in a tree before the password may be forgotten by the router, and is not."""
        wrong = []
        secret = Secret(str(self.scenario.cloud.password).encode())
        shadow = (root / "etc/shadow").read_text().split("\n")[0].split(":")
        with ONE_CRYPT:
            right = libcrypt.matches(secret, shadow[1])
        if shadow[0] != "root" or not right:
            wrong.append("the shadow entry is not the offered password's")
        known = applied.load(System.at(str(root)), INSTANCE, None)
        if known.age_of(secret) != "newest":
            wrong.append("the password is not remembered")
        return wrong

    def unfinished(self) -> List[str]:
        """In what the guest differs from what CloudStack and its owner want."""
        cloud = self.scenario.cloud
        wrong = self.unfit_for_acknowledgement(self.root)
        if self.router is not None and not self.router.acknowledged:
            wrong.append("the password was not acknowledged")
        if self.text("etc/hostname") != f"{cloud.hostname}\n":
            wrong.append("the host name is not set")
        hosts = self.text("etc/hosts").splitlines()
        ours = [line for line in hosts if line.endswith("# csagent")]
        if [line for line in hosts if line not in ours] != list(OWNERS_HOSTS):
            wrong.append("the owner's lines in etc/hosts have changed")
        if len(ours) != 1 or cloud.hostname not in ours[0].split():
            wrong.append("our line in etc/hosts is wrong")
        keys = self.root / "root/.ssh/authorized_keys"
        lines = keys.read_text().splitlines() if keys.exists() else []
        ours = [line for line in lines if line in FIRST.ssh_keys + SECOND.ssh_keys]
        if ours != list(cloud.ssh_keys):
            wrong.append("the keys are not those of the source")
        known = applied.load(System.at(str(self.root)), INSTANCE, None)
        if (known.hostname, known.ssh_keys) != (cloud.hostname, cloud.ssh_keys):
            wrong.append("host name or keys are not remembered")
        kept = self.root / applied.user_data_path(INSTANCE).lstrip("/")
        if not kept.exists() or kept.read_bytes() != cloud.user_data:
            wrong.append("the user-data is not kept")
        return wrong

    def damage(self) -> List[str]:
        """What may be true at no time, however hard it was killed."""
        wrong = []
        keys = self.root / "root/.ssh/authorized_keys"
        lines = keys.read_text().splitlines() if keys.exists() else []
        ours = (*FIRST.ssh_keys, *SECOND.ssh_keys)
        rest = [line for line in lines if line not in ours and "# csagent " not in line]
        had = self.bench.templates[self.scenario.name] / "root/.ssh"
        if rest != (list(OWNERS_KEYS) if had.exists() and self.scenario.name != "drive-first-boot" else []):
            wrong.append("the owner's lines in authorized_keys have changed")
        shadow = self.root / "etc/shadow"
        text = shadow.read_text()
        if not text.endswith(f"\n{ALICES_SHADOW}\n") or text.count("\n") != 2:
            wrong.append("etc/shadow is not whole")
        if shadow.stat().st_mode & 0o777 != 0o640 or (keys.exists() and keys.stat().st_mode & 0o777 != 0o600):
            wrong.append("a mode has changed")
        if self.text("etc/hostname") not in ("debian\n", "web01\n", "web02\n"):
            wrong.append("etc/hostname is not whole")
        known = applied.load(System.at(str(self.root)), INSTANCE, None)
        if known.note:
            wrong.append(f"the memory is damaged: {known.note}")
        return wrong

    def litter(self) -> List[str]:
        """Temporary files and processes that were left behind."""
        wrong = [f"left behind: {path.relative_to(self.root)}" for path in self.root.rglob("*csagent-new")]
        return wrong + [f"still running: {words}" for words in processes_of(self.root)]


ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


def processes_of(root: Path) -> List[str]:
    """The command lines of processes that work on a tree; those that are about to end are waited for."""
    end = time.monotonic() + 2.0
    while True:
        found, running = [], False
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if f"{root} " in words:
                    found.append(f"{path.parent.name} {words[:80]}")
                    state = path.with_name("stat").read_text().rpartition(")")[2].split()[0]
                    running = running or state == "R"  # it waits for a processor, on a busy machine
        now = time.monotonic()
        if not found or now >= end + (600.0 if running else 0.0):
            return found
        time.sleep(0.02)


# --- a disk that forgets --------------------------------------------------------------------------


@dataclass
class Disk:
    """What of a tree would be there after a power cut that takes all that was not fsynced.

    A file is what it was at its last fsync (empty if there was none), a directory has the entries that it had
    at its own last fsync. Whatever file systems do better than that is luck. All is kept by inode and not
    by name; an inode that is used again is another object, since the disk may still know the former.
    """

    root: int = 0
    entries: Dict[int, Dict[str, int]] = field(default_factory=dict)
    files: Dict[int, Tuple[bytes, int, Tuple[int, int]]] = field(default_factory=dict)
    modes: Dict[int, Tuple[int, Tuple[int, int]]] = field(default_factory=dict)
    directories: Set[int] = field(default_factory=set)
    again: Dict[int, int] = field(default_factory=dict)

    def _object(self, inode: int) -> int:
        return inode | self.again.get(inode, 0) << 64

    @classmethod
    def of(cls, root: Path) -> "Disk":
        """All that is there now counts as being on the disk."""
        disk = cls(root.stat().st_ino)
        for base, _, names in os.walk(root):
            status = os.stat(base)
            disk.directories.add(status.st_ino)
            disk.modes[status.st_ino] = (status.st_mode & 0o7777, (status.st_uid, status.st_gid))
            with os.scandir(base) as entries:
                disk.entries[status.st_ino] = {entry.name: entry.inode() for entry in entries}
            for name in names:
                path = Path(base, name)
                status = path.stat()
                owner = (status.st_uid, status.st_gid)
                disk.files[status.st_ino] = (path.read_bytes(), status.st_mode & 0o7777, owner)
        return disk

    def play(self, trace: Trace) -> None:
        """What a run has made durable."""
        for line in trace.lines:
            if "created" in line:
                self.again[line["created"]] = self.again.get(line["created"], 0) + 1
                inode = self._object(line["created"])
                if line["directory"]:
                    self.directories.add(inode)
                    self.entries[inode] = {}
                    self.modes[inode] = (0o700, (os.getuid(), os.getgid()))
                else:
                    self.files[inode] = (b"", 0o600, (os.getuid(), os.getgid()))
            elif "durable" in line:
                owner = (line["owner"][0], line["owner"][1])
                inode = self._object(line["durable"])
                if "entries" in line:
                    entries = {name: self._object(below) for name, below in line["entries"].items()}
                    self.entries[inode], self.modes[inode] = entries, (line["mode"], owner)
                    self.directories.add(inode)
                else:
                    self.files[inode] = (base64.b64decode(line["content"]), line["mode"], owner)

    def build(self, root: Path) -> None:
        """Make the tree as it is found at the next boot: /run is empty then."""
        self._build(self.root, root)
        shutil.rmtree(root / "run", ignore_errors=True)
        (root / "run").mkdir()

    def _build(self, inode: int, path: Path) -> None:
        path.mkdir()
        for name, below in self.entries.get(inode, {}).items():
            if below in self.directories:
                self._build(below, path / name)
            else:
                content, mode, owner = self.files.get(below, (b"", 0o600, (os.getuid(), os.getgid())))
                (path / name).write_bytes(content)
                os.chown(path / name, *owner)
                (path / name).chmod(mode)
        mode, owner = self.modes[inode]
        os.chown(path, *owner)
        path.chmod(mode)


# --- one attempt ----------------------------------------------------------------------------------


class Result(NamedTuple):
    """What came of killing at one step."""

    step: Step
    reached: bool
    problems: Tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.step.key} {self.step.call} {self.step.what}: {'; '.join(self.problems)}"


def attempt(bench: Bench, scenario: Scenario, step: Step, mode: str) -> Result:
    """Kill at a step, in one of the ways of `MODES`, start again, and say what is wrong."""
    root = bench.fresh(scenario)
    try:
        with Guest(bench, scenario, root) as guest:
            reached = MODES[mode](guest, step)
            return Result(step, reached, tuple(guest.problems))
    finally:
        shutil.rmtree(root.parent, ignore_errors=True)


def _recover(guest: Guest) -> None:
    """Normal passes until all is well, or no more are allowed."""
    wrong = ["no pass was run"]
    code = 0
    for _ in range(RUNS_AFTER):
        done = guest.run()
        code = done.returncode
        if "Traceback" in done.stderr:
            guest.problems.append("a traceback")
        guest.problems += guest.damage()
        wrong = guest.unfinished()
        if code == 0 and not wrong:
            break
    guest.problems += wrong + guest.litter()
    if code != 0:
        guest.problems.append(f"exit code {code} at the end")


def _judge(guest: Guest, trace: Trace) -> None:
    """What the killed run itself has left."""
    if trace.end["survivors"]:
        guest.problems.append(f"processes outlived the parent: {trace.end['survivors']}")
    if "Traceback" in trace.output:
        guest.problems.append("a traceback")
    guest.problems += guest.damage()
    guest.problems += [f"still running: {words}" for words in processes_of(guest.root)]


def kill_process(guest: Guest, step: Step) -> bool:
    """Kill the process whose step it is. A parent outlives its child, and says what it has lost."""
    trace = guest.trace(step.key, "self")
    _judge(guest, trace)
    status = trace.end["status"]
    if trace.end["reached"] is not None and step.role == "0":
        if status != -9:
            guest.problems.append(f"killed, but ended with {status}")
    elif status not in (0, 1, 3, 4):
        guest.problems.append(f"the parent of a killed child ended with {status}")
    elif status == 0:
        guest.problems += [f"exit code 0, but {one}" for one in guest.unfinished()]
    elif not trace.output.strip():
        guest.problems.append(f"exit code {status}, and not a word")
    _recover(guest)
    return trace.end["reached"] is not None


def kill_parent(guest: Guest, step: Step) -> bool:
    """Kill the parent while a child is at this step: the child does not live on."""
    trace = guest.trace(step.key, "main")
    _judge(guest, trace)
    _recover(guest)
    return trace.end["reached"] is not None


def cut_power(guest: Guest, step: Step) -> bool:
    """Kill everything at this step, and lose all that was not fsynced."""
    disk = Disk.of(guest.root)
    trace = guest.trace(step.key, "all")
    disk.play(trace)
    _boot_from(guest, disk)
    return trace.end["reached"] is not None


def kill_then_cut_power(guest: Guest, step: Step) -> bool:
    """Kill the parent at this step, run again to the end, and then lose what neither run has fsynced."""
    disk = Disk.of(guest.root)
    trace = guest.trace(step.key, "main")
    disk.play(trace)
    disk.play(guest.trace())
    _boot_from(guest, disk)
    return trace.end["reached"] is not None


def _boot_from(guest: Guest, disk: Disk) -> None:
    guest.root = guest.root.with_name("after")
    disk.build(guest.root)
    if guest.acknowledgements():
        guest.problems += [
            f"acknowledged, but after the power cut {one}"
            for one in guest.unfit_for_acknowledgement(guest.root)
        ]
    guest.problems += [f"after the power cut {one}" for one in guest.damage()]
    _recover(guest)


MODES = {
    "process": kill_process,
    "parent": kill_parent,
    "power": cut_power,
    "kill-then-power": kill_then_cut_power,
}


def steps_for(mode: str, steps: Sequence[Step]) -> List[Step]:
    """The steps at which a mode can tell anything new.

    A reading child makes nothing durable, and the parent is not killed twice.
    """
    if mode == "process":
        return list(steps)
    if mode == "parent":
        return [step for step in steps if step.role != "0"]
    writers = {step.role for step in steps if step.call == "fsync" or "saved_password" in step.what}
    return [step for step in steps if step.role in writers]


def important(steps: Sequence[Step]) -> Iterator[Step]:
    """Those that are never left out: renames of what is not in /run, what follows them, acknowledgements."""
    for index, step in enumerate(steps):
        if step.call.startswith("rename") and "/run/csagent/" not in step.what:
            yield step
            yield from (later for later in steps[index + 1 : index + 2] if later.role == step.role)
        elif "saved_password" in step.what:
            yield step
