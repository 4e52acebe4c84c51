"""User-data, killed or cut off from power at any step: nothing runs twice, nothing is lost, and it is told.

A sample of the steps by default; all of them with CSAGENT_ALL_STEPS=1 (`./dev crash`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import pytest
from harness import ENVIRONMENT, REPOSITORY, TRACER, Disk, Step, Trace, make_tree
from support.samples import INSTANCE, make_key

from csagent.apply import keep_user_data as copies
from csagent.sources.user_data_kind import describe
from csagent.state import applied
from csagent.state import user_data_record as records
from csagent.system.seams import System

ALL_STEPS = os.environ.get("CSAGENT_ALL_STEPS") == "1"
SAMPLE = 8
AT_ONCE = 2 * (os.cpu_count() or 1)

FILES = b"""\
#cloud-config
bootcmd: [echo EXAMPLE]
write_files:
  - {path: /var/lib/app/one, content: "once\\n", append: true, permissions: '0600'}
  - {path: /etc/app.conf, content: "whole\\n"}
  - {path: /var/lib/app/two, content: "once\\n", append: true, defer: true}
runcmd: [echo EXAMPLE]
"""
ACCOUNTS = f"""\
#cloud-config
hostname: named
groups: [staff2]
users:
  - {{name: eve, groups: [staff2], sudo: "ALL=(ALL) ALL", ssh_authorized_keys: ["{make_key(7)}"]}}
chpasswd: {{list: ['root:$6$EXAMPLE$marker']}}
write_files: [{{path: /etc/count, content: "once\\n", append: true}}]
""".encode()
MESSAGE = b"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/x-shellscript; name="first"

#!/bin/sh
echo EXAMPLE
--b
Content-Type: text/x-shellscript-per-once

#!/bin/sh
--b
Content-Type: text/cloud-config

## template: jinja
#cloud-config
write_files: [{path: /etc/count, content: "{{ v1.distro }}\\n", append: true}]
manage_etc_hosts: localhost
--b--
"""
EDITS = b"""\
#cloud-config
mounts: [[/dev/vdb, /mnt/a, ext4]]
ssh_pwauth: false
users: [{name: eve, sudo: "ALL=(ALL) ALL"}]
manage_etc_hosts: localhost
write_files: [{path: /etc/count, content: "once\\n", append: true}]
"""
DOCUMENTS = {"files": FILES, "accounts": ACCOUNTS, "message": MESSAGE, "edits": EDITS}
EDITED = ("etc/fstab", "etc/ssh/sshd_config", "etc/sudoers", "etc/hosts")
OWNERS = "# the owner's line\n"
APPENDED = ("var/lib/app/one", "var/lib/app/two", "etc/count")


class Attempt(NamedTuple):
    """What came of one."""

    step: Step
    reached: bool
    problems: Tuple[str, ...]


def fresh(scratch: Path, document: bytes) -> Path:
    """A tree in which a pass has kept the document."""
    root = Path(tempfile.mkdtemp(dir=scratch)) / "tree"
    make_tree(root)
    (root / "etc/group").write_text("root:x:0:\nadm:x:4:\n")
    (root / "etc/os-release").write_text("ID=debian\n")
    (root / "etc/sudoers").write_text("# sudo\n")
    (root / "etc/ssh").mkdir(exist_ok=True)
    (root / "home").mkdir()
    for name in EDITED:
        with open(root / name, "a") as stream:
            stream.write(OWNERS)
    system = System.at(str(root))
    data = describe(document)
    applied.save(system, applied.load(system, INSTANCE)._replace(user_data=data.sha256))
    copies.keep(system, INSTANCE, data)
    return root


def command(root: Path) -> List[str]:
    return [sys.executable, "-m", "csagent", "--root", str(root), "user-data", "run", "--json"]


def started(words: List[str]) -> "subprocess.CompletedProcess[str]":
    """A command of this checkout, and what came of it."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=600, check=False, cwd=REPOSITORY, env=ENVIRONMENT
    )


def traced(root: Path, kill: str = "", whom: str = "main") -> Trace:
    """A run under the tracer."""
    log = root.parent / "log"
    words = [sys.executable, "-I", "-S", str(TRACER), "--log", str(log), "--whom", whom]
    words += ["--kill", kill] if kill else []
    done = started([*words, "--", *command(root)])
    assert done.returncode == 0, done.stderr[-500:]
    return Trace([json.loads(line) for line in log.read_text().splitlines()], done.stdout + done.stderr)


def run(root: Path) -> Dict[str, Any]:
    """A normal run, its report."""
    done = started(command(root))
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def steps_of(root: Path) -> Dict[str, str]:
    record = records.Record(System.at(str(root)), records.folder_of(INSTANCE))
    return {step: known.state for step, known in record.steps.items()}


def wrong(root: Path, wanted: Dict[str, str], report: Dict[str, Any]) -> List[str]:
    """What may not be after a run that was disturbed and one that was not."""
    found = []
    for name in APPENDED:
        text = (root / name).read_text() if (root / name).exists() else ""
        if text.count("\n") > 1 or (text and not text.endswith("\n")):
            found.append(f"{name} has {text!r}")
    states = steps_of(root)
    begun = [step for step, state in states.items() if state == records.BEGUN]
    if set(states) != set(wanted):
        found.append(f"steps are lost: {sorted(set(wanted) ^ set(states))}")
    if len(begun) > 1:
        found.append(f"more than one is interrupted: {begun}")
    told = "interrupted" in json.dumps(report)
    if bool(begun) != told:
        found.append(f"{begun} interrupted, and the report says {report['state']}")
    for path in (root / "var/lib/csagent").rglob("*"):
        if path.stat().st_mode & 0o077:
            found.append(f"others may look at {path}")
    for name in ("passwd", "group", "shadow"):
        if not (root / "etc" / name).read_text().endswith("\n"):
            found.append(f"etc/{name} is not whole")
    for name in EDITED:
        if (root / name).read_text().count(OWNERS) != 1:
            found.append(f"{name} has lost the owner's line")
    found += [f"left behind: {path.relative_to(root)}" for path in root.rglob("*csagent-new")]
    return found


def attempt(scratch: Path, document: bytes, step: Step, mode: str, wanted: Dict[str, str]) -> Attempt:
    root = fresh(scratch, document)
    try:
        disk = Disk.of(root)
        trace = traced(root, step.key, "all" if mode == "power" else "main")
        if mode == "power":
            disk.play(trace)
            root = root.with_name("after")
            disk.build(root)
        before = steps_of(root)
        report = run(root)
        problems = wrong(root, wanted, report)
        for name, state in before.items():
            if state == records.BEGUN and steps_of(root)[name] != records.BEGUN:
                problems.append(f"{name} had begun and was run again")
        after = {path: (root / path).read_bytes() for path in APPENDED if (root / path).exists()}
        run(root)
        if after != {path: (root / path).read_bytes() for path in APPENDED if (root / path).exists()}:
            problems.append("a further run changed something")
        return Attempt(step, trace.end["reached"] is not None, tuple(problems))
    finally:
        shutil.rmtree(root.parent, ignore_errors=True)


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("mode", ["kill", "power"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_stopped_at_a_step(tmp_path: Path, name: str, mode: str) -> None:
    """What had not begun runs, what had begun does not again and is named, and all that ran ran once."""
    document = DOCUMENTS[name]
    root = fresh(tmp_path, document)
    dry = traced(root)
    wanted = steps_of(root)
    assert dry.end["status"] == 0, dry.output
    assert len(wanted) >= 3
    able = [step for step in dry.steps if step.role == "0" and "/run/csagent" not in step.what]
    chosen = able if ALL_STEPS else random.Random(f"20 {name} {mode}").sample(able, SAMPLE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda step: attempt(tmp_path, document, step, mode, wanted), chosen))
    bad = [f"{one.step.key} {one.step.call} {one.step.what}: {one.problems}" for one in found if one.problems]
    assert not bad, "\n".join(bad)
    assert sum(one.reached for one in found) >= 0.9 * len(found)
