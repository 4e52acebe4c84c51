"""What each command may import, open and hold: budgets in counts, which no busy machine changes.

Wall times are the benchmark's (./dev bench); these are kept here because nobody would notice that they grow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
from bench.measure import CSAGENT, PYTHON, imported, own_peak, traced
from support.replace_fields import replace
from support.running_daemon import PATIENCE, until
from support.samples import CLOUD

from csagent.lab import drive
from csagent.lab.router import LabRouter

HEAVY = ("requests", "urllib3", "pycdlib", "yaml", "email", "subprocess", "pyudev", "http.client", "ssl")
HEAVY += ("logging", "asyncio", "importlib.metadata", "ipaddress", "random", "tempfile", "shutil")
NOT_IN_A_PASS = ("dataclasses", "inspect")  # doctor and seal are started by hand
MIB = 1 << 10  # in KiB

# Modules over what a bare interpreter imports, and files over what it opens, children included. Raising one
# of these needs a reason in the commit that does.
MODULES = {"status": 48, "query": 48, "discover": 95, "fetch": 106, "plan": 118}
MODULES.update({"apply-router": 119, "apply-drive": 110, "doctor": 180, "seal-check": 152})
FILES = {"status": 58, "query": 54, "discover": 260, "fetch": 375, "plan": 400}
FILES.update({"apply-router": 435, "apply-drive": 329})
MEMORY = {"status": 12 * MIB, "query": 12 * MIB, "doctor": 23 * MIB}
ROOT_MEMORY = 20 * MIB  # for all others
DAEMON_MEMORY = 13 * MIB  # of the process that stays


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The arguments of each command, on a machine where all has been applied."""
    from support.samples import make_tree

    directory = tmp_path_factory.mktemp("budgets")
    router = LabRouter(CLOUD)
    router.start()
    image = directory / "drive.iso"
    # A drive hands out its password at every boot, and its fingerprint takes OpenSSL and 4 MiB.
    drive.build(str(image), drive.files_for(replace(CLOUD, password=None)))
    from_router, from_drive = (str(make_tree(directory / name)) for name in ("router", "drive"))
    places = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
    places += ["--wait", "120"]
    known: Dict[str, List[str]] = {
        "status": ["--root", from_router, "status"],
        "query": ["--root", from_router, "query", "hostname"],
        "discover": ["--root", from_router, "discover"],
        "fetch": ["--root", from_router, "fetch", *places],
        "plan": ["--root", from_router, "plan", *places],
        "apply-router": ["--root", from_router, "apply", *places],
        "apply-drive": ["--root", from_drive, "apply", "--drive", str(image)],
        "doctor": ["--root", from_router, "doctor", *places],
        "seal-check": ["--root", from_router, "seal", "--check"],
    }
    try:
        for name in ("apply-router", "apply-drive"):
            subprocess.run([*CSAGENT, *known[name]], check=True, stdout=subprocess.DEVNULL, timeout=300)
        yield known
    finally:
        router.stop()


def bare(words: Sequence[str] = ("-I", "-c", "pass")) -> List[str]:
    """What an interpreter imports by itself."""
    return imported([PYTHON, *words])


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules(commands: Dict[str, List[str]], name: str) -> None:
    """The process itself imports none of the heavy libraries, and no more modules than it is granted."""
    names = imported([*CSAGENT, *commands[name]])
    heavy = (*HEAVY, *(NOT_IN_A_PASS if name not in ("doctor", "seal-check") else ()))
    assert not [one for one in names if one.split(".")[0] in heavy or one in heavy]
    more = set(names) - set(bare())
    assert len(more) <= MODULES[name], sorted(more)


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_opened(commands: Dict[str, List[str]], name: str) -> None:
    """A pass that changes nothing opens no more files, its children included, than it is granted."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (./dev test installs it when run as root)")
    seen, alone = traced([*CSAGENT, *commands[name]]), traced([PYTHON, "-I", "-c", "pass"])
    if seen is None or alone is None:
        pytest.skip("strace may not trace here")
    assert seen.files - alone.files <= FILES[name], seen


@pytest.mark.parametrize("name", sorted(MODULES))
def test_memory_of_the_process_itself(commands: Dict[str, List[str]], name: str) -> None:
    """At most 20 MiB resident at its height, 12 for those that only read the last result."""
    assert own_peak(commands[name]) <= MEMORY.get(name, ROOT_MEMORY)


def test_process_that_stays(commands: Dict[str, List[str]]) -> None:
    """After its pass the daemon holds little more than the interpreter does."""
    root, places = commands["apply-router"][1], commands["apply-router"][3:]
    status = f"{root}/run/csagent/status.json"
    before = os.stat(status).st_mtime_ns
    process = subprocess.Popen([*CSAGENT, "--root", root, "daemon", *places], stderr=subprocess.DEVNULL)
    try:
        until(lambda: os.stat(status).st_mtime_ns != before)
        passes = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: passes.read_text() == "")
        with open(f"/proc/{process.pid}/status") as stream:
            (held,) = [int(line.split()[1]) for line in stream if line.startswith("VmRSS")]
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert held <= DAEMON_MEMORY, held
