"""What a pass says, in a real journald that runs in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from support.requirements import require
from support.samples import INSTANCE, make_key, make_tree

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter

REPOSITORY = Path(__file__).resolve().parents[2]
JOURNALD = "/lib/systemd/systemd-journald"
PASSWORD = "EXAMPLE-marker-journal"

# A journald with a /run of its own; then a pass in a child of the process that made the log, as the daemon's
# are, whose standard error is taken for the journal's stream; then what the journal has of it, as JSON.
NAMESPACE = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log
"$1" & journald=$!
for again in $(seq 6000); do [ -S /run/systemd/journal/socket ] && break; sleep 0.1; done
shift
"$@"
journalctl --sync
journalctl -D /run/log/journal -o json --no-pager SYSLOG_IDENTIFIER=csagent
kill $journald
"""
PASS = """
import os, sys
stream = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stream.st_dev}:{stream.st_ino}"
from csagent import agent
from csagent.sources.request import Options, PassRequest
from csagent.log import Log
from csagent.settings import Settings
from csagent.system.seams import System
root, port, password_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = Options(router=("127.0.0.1", port), password_port=password_port)
log = Log(1)
for _again in range(2):
    child = os.fork()
    if child == 0:
        agent.run_pass(PassRequest(System.at(root), Settings(), options, 10, log=log.info))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
print(os.getpid(), file=sys.stderr)
"""


@pytest.mark.root
def test_decisions_are_found_by_their_fields(tmp_path: Path) -> None:
    """journald stores event, datum, source and instance; the second pass, with nothing new, is silent."""
    require(("unshare", "mount", "journalctl"), "runs a journald")
    if not Path(JOURNALD).exists() or shutil.which("journalctl") is None:
        pytest.skip("no systemd-journald here")
    tree = make_tree(tmp_path / "tree")
    cloud = Cloud(instance_id=INSTANCE, hostname="web01", ssh_keys=(make_key(1),), password=PASSWORD)
    with LabRouter(cloud) as router:
        ports = (str(router.port), str(router.password_port))
        one_pass = (sys.executable, "-c", PASS, str(tree), *ports)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", JOURNALD, *one_pass],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=False,
        )
    assert PASSWORD not in done.stdout + done.stderr
    entries: List[Dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    place = f"router 127.0.0.1:{ports[0]}"
    server = f"password server 127.0.0.1:{ports[1]}"
    fields = ("CSAGENT_EVENT", "CSAGENT_DATUM", "CSAGENT_SOURCE", "PRIORITY", "_TRANSPORT")
    assert [tuple(entry.get(field) for field in fields) for entry in entries] == [
        ("applied", "hostname", place, "6", "journal"),
        ("applied", "ssh_keys", place, "6", "journal"),
        ("applied", "password", server, "6", "journal"),
        ("acknowledged", "password", server, "6", "journal"),
    ], done.stderr
    assert {entry["CSAGENT_INSTANCE"] for entry in entries} == {INSTANCE}
    # The process that made the log is known though the pass has ended: journald has looked it up.
    assert {entry["OBJECT_PID"] for entry in entries} == {done.stderr.splitlines()[-1]}
