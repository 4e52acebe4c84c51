"""csagent-host-keys.service: when it runs, before whom, and what it may not do."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest

from csagent.seal import login

UNIT = Path(__file__).resolve().parents[3] / "systemd" / login.UNIT
MOST_EXPOSED = 1.5


def settings() -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_runs_only_where_there_is_no_key() -> None:
    """All three kinds must be missing or empty: a kind that its owner has removed is not made again."""
    unit = settings()
    kinds = [f"!/etc/ssh/ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519")]
    assert unit["ConditionFileNotEmpty"] == kinds
    assert unit["ConditionFileIsExecutable"] == [unit["ExecStart"][0].split()[0]]


@pytest.mark.parametrize(
    ("keys", "runs"),
    [
        ({}, True),
        ({"rsa": "", "ecdsa": "", "ed25519": ""}, True),
        ({"ed25519": "EXAMPLE\n"}, False),
        ({"rsa": "EXAMPLE\n", "ecdsa": ""}, False),
        ({"rsa": "EXAMPLE\n", "ecdsa": "EXAMPLE\n", "ed25519": "EXAMPLE\n"}, False),
    ],
)
def test_systemd_starts_it_for_no_key_only(tmp_path: Path, keys: Dict[str, str], runs: bool) -> None:
    """As systemd reads the conditions: none, or none with content; one kind alone is its owner's choice."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: apt install systemd)")
    for kind, text in keys.items():
        (tmp_path / f"ssh_host_{kind}_key").write_text(text)
    conditions = [
        f"ConditionFileNotEmpty={value.replace('/etc/ssh', str(tmp_path))}"
        for value in settings()["ConditionFileNotEmpty"]
    ]
    command = ["systemd-analyze", "condition", *conditions]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if "Unknown command verb" in done.stderr:
        pytest.skip("systemd-analyze before 243 knows no condition")
    assert (done.returncode == 0) == runs, done.stderr


def test_comes_before_whatever_starts_sshd_and_after_no_network() -> None:
    """Debian's and EL's sshd, their sockets, and the other makers of keys wait; it waits for disks only."""
    unit = settings()
    before = " ".join(unit["Before"]).split()
    assert {"ssh.service", "sshd.service", "ssh.socket", "sshd.socket", "sshd-keygen.target"} <= set(before)
    assert {name.replace("@.", "@rsa.") for name in login.MAKERS} <= set(before)
    assert unit["DefaultDependencies"] == ["no"] and unit["RemainAfterExit"] == ["yes"]
    assert unit["After"] == ["local-fs.target systemd-random-seed.service"]
    assert unit["WantedBy"] == ["multi-user.target"]


def test_the_keys_are_durable_and_nothing_else_is_waited_for(tmp_path: Path) -> None:
    """sshd waits for this unit: it syncs the keys and their names, not all that the machine writes."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace (Debian: apt install strace)")
    names = [f"ssh_host_{kind}_key{end}" for kind in ("rsa", "ed25519") for end in ("", ".pub")]
    for name in names:
        (tmp_path / name).write_text("EXAMPLE")
    trace = tmp_path / "trace"
    said = ""
    for line in settings()["ExecStartPost"]:
        words = shlex.split(line.lstrip("-").replace("/etc/ssh", str(tmp_path)))
        strace = ["strace", "-f", "-y", "-e", "trace=sync,syncfs,fsync,fdatasync", "-o", str(trace)]
        done = subprocess.run([*strace, *words], capture_output=True, text=True, timeout=600, check=False)
        if "ptrace" in done.stderr.lower():
            pytest.skip("processes may not be traced here")
        assert done.returncode == 0, done.stderr
        said += trace.read_text()
    assert re.search(r"\bsync(fs)?\(", said) is None, said
    synced = set(re.findall(r"\bfsync\(\d+<([^>]+)>\)", said))
    assert synced == {str(tmp_path), *(str(tmp_path / name) for name in names)}


def test_empty_key_is_made_anew_by_the_command(tmp_path: Path) -> None:
    """`ssh-keygen -A` replaces a key without content and leaves others: what the conditions rely on."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (Debian: apt install openssh-client)")
    directory = tmp_path / "etc/ssh"
    directory.mkdir(parents=True)
    (directory / "ssh_host_ed25519_key").write_text("")
    (directory / "ssh_host_rsa_key").write_text("EXAMPLE\n")
    subprocess.run(["ssh-keygen", "-A", "-f", str(tmp_path)], check=True, capture_output=True, timeout=600)
    assert (directory / "ssh_host_ed25519_key").read_text().startswith("-----BEGIN OPENSSH")
    assert (directory / "ssh_host_rsa_key").read_text() == "EXAMPLE\n"


def test_exposure_is_small() -> None:
    """`systemd-analyze security` gives the file at most 1.5, and finds nothing wrong with it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: apt install systemd)")

    def analyze(*words: str) -> str:
        command = ["systemd-analyze", "--no-pager", *words, str(UNIT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        return done.stdout + done.stderr

    assert UNIT.name not in analyze("verify", "--man=no")
    told = analyze("security", "--offline=true")
    if "unrecognized option" in told:
        pytest.skip("systemd-analyze before 250 knows no --offline")
    figures = re.findall(r"Overall exposure level for [\w.-]+: ([0-9.]+)", told)
    assert figures and float(figures[0]) <= MOST_EXPOSED, told
