"""`csagent lab vm` itself: its judgement, its words, and what it leaves behind; no guest system is booted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from support.replace_fields import replace
from support.requirements import require

from csagent.apply import libcrypt
from csagent.console import Console
from csagent.errors import CsagentError
from csagent.lab.vm import checks
from csagent.lab.vm.checks import PROMISES, SCENARIOS, PromiseResult
from csagent.lab.vm.inspect_guest import LOOK, Look, sections
from csagent.lab.vm.machine import HELD_UP, MAC, Machine, Template, killed_at_end
from csagent.lab.vm.run import as_lines
from csagent.lab.vm.scenario import RESTARTS
from csagent.lab.vm.traffic import asked
from csagent.model import Secret
from csagent.system.seams import System

TOOLS = ("qemu-system-x86_64", "qemu-img", "ssh", "ssh-keygen", "setpriv", "timeout")
REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "marker-EXAMPLE"


def look(ahead: float = 0.0, **sections: str) -> Look:
    return Look({name.replace("_", "-"): text for name, text in sections.items()}, ahead)


@pytest.fixture(scope="module")
def entry() -> str:
    """A shadow entry of root with the password."""
    return f"root:{libcrypt.make_hash(System.at('/'), Secret(PASSWORD.encode()))}:19000:0:99999:7:::"


# --- judgement ---


@pytest.mark.parametrize(
    ("kernel", "file", "state"),
    [
        ("web", "web", "pass"),
        ("web.example", "web", "pass"),
        ("web", "template", "fail"),
        ("", "web", "fail"),
    ],
)
def test_hostname_counts_in_the_kernel_and_in_the_file(kernel: str, file: str, state: str) -> None:
    """Both must have the name; a domain may follow it."""
    assert checks.hostname(look(kernel_name=kernel, file_name=file), "web")[0] == state


def test_password_is_checked_against_the_hash(entry: str) -> None:
    """The right one passes; another, a locked and an empty entry fail; no reason has the password in it."""
    assert checks.password(look(shadow=entry), PASSWORD)[0] == "pass"
    wrong = [entry.replace("$", "!$", 1), "root:*:1::::::", "root::1::::::", ""]
    for value in (checks.password(look(shadow=text), PASSWORD) for text in wrong):
        assert value[0] == "fail" and PASSWORD not in value[1]
    assert checks.password(look(shadow=entry), "other-EXAMPLE") == (
        "fail",
        "the hash is another password's",
    )


ASK, TELL = "send_my_password", "saved_password"


@pytest.mark.parametrize(
    ("heard", "state", "word"),
    [
        ([(10.0, ASK), (13.0, TELL)], "pass", "once"),
        ([(10.0, ASK), (11.0, ASK), (13.0, TELL)], "pass", "once"),
        ([(10.0, ASK)], "fail", "never"),
        ([], "fail", "never asked"),
        ([(9.0, TELL), (10.0, ASK)], "fail", "before it was asked"),
        ([(10.0, ASK), (13.0, TELL), (14.0, TELL)], "fail", "2 times"),
        ([(6.0, ASK), (7.0, TELL)], "fail", "before /etc/shadow was written"),
    ],
)
def test_router_is_told_once_after_the_change(heard: List[Tuple[float, str]], state: str, word: str) -> None:
    """By the guest's clock, which is 100 s ahead here, /etc/shadow was written at 12."""
    judged = checks.told(look(ahead=100.0, written="112.0"), heard)
    assert judged[0] == state and word in judged[1]


def test_clock_that_could_not_be_read_closely_accuses_nobody() -> None:
    """A guest that took 6 s to say its time may be 3 s off: an order within that is no proof."""
    heard = [(6.0, ASK), (9.0, TELL)]
    assert checks.told(replace(look(written="12.0"), unsure=3.0), heard)[0] == "pass"
    assert checks.told(replace(look(written="12.0"), unsure=0.5), heard)[0] == "fail"


def test_another_place_that_was_asked_is_named() -> None:
    """The router's two ports and DNS are fine; the address that EC2 uses is not, and nobody at all is not."""
    assert checks.network([("10.1.1.1", 80), ("10.1.1.1", 8080), ("10.1.1.3", 53)])[0] == "pass"
    state, reason = checks.network([("10.1.1.1", 80), ("169.254.169.254", 80)])
    assert state == "fail" and "169.254.169.254:80" in reason
    assert checks.network([("10.1.1.3", 53)])[0] == "fail"


def units(base: float, daemon: float, csagent: str = "active") -> str:
    rows = [
        ("basic.target", "active", base),
        ("ssh.service", "active", daemon),
        ("csagent.service", csagent, 0),
    ]
    return "\n\n".join(
        f"Id={name}\nActiveState={state}\nActiveEnterTimestampMonotonic={int(at * 1e6)}"
        for name, state, at in rows
    )


def test_sshd_that_waited_is_told_with_what_it_waits_for() -> None:
    """Two minutes after basic.target is too late, emulated or not; without systemd it cannot be told."""
    held = look(units=units(5, 128), order="network.target cloud-init.service")
    for emulated in (True, False):
        assert checks.boot(held, emulated)[0] == "fail"
        assert "cloud-init.service" in checks.boot(held, emulated)[1]
        assert checks.boot(look(units=units(5, 9)), emulated)[0] == "pass"
    assert checks.boot(look(), False)[0] == "skip"


def test_sshd_of_an_emulated_machine_on_a_busy_one() -> None:
    """All of its boot is slow then; with a processor of its own such a boot was held up."""
    busy = look(units=units(62, 162))
    assert (checks.boot(busy, True)[0], checks.boot(busy, False)[0]) == ("pass", "fail")


def test_status_is_skipped_without_csagent_only() -> None:
    """No csagent: nothing to ask. One that runs and says nothing, or says that something failed, fails."""
    said = {"data": {"hostname": {"state": "applied"}, "password": {"state": "failed"}}}
    assert checks.status(look(units=units(1, 2, "inactive")))[0] == "skip"
    for state in ("active", "activating"):
        assert checks.status(look(units=units(1, 2, state)))[0] == "fail"
    assert checks.status(look(status=json.dumps(said))) == ("fail", "password failed")
    said["data"]["password"]["state"] = "unchanged"
    assert checks.status(look(status=json.dumps(said)))[0] == "pass"
    assert checks.status(look(status="{}"))[0] == checks.status(look(status="[]"))[0] == "fail"


def test_leaks_of_all_looks_count() -> None:
    """A place that was seen once stays on the record."""
    assert checks.secrets([look(leaks=""), look()])[0] == "pass"
    state, reason = checks.secrets([look(leaks="the journal\n"), look(leaks="the journal\n/var/log/x\n")])
    assert (state, reason) == ("fail", "a password is in the journal, /var/log/x")


def test_copies_with_the_same_identity_are_a_warning() -> None:
    """One shared host key is enough, and so is the machine-id."""
    first = look(machine_id="a", host_keys="ssh-ed25519 A\nssh-rsa B")
    assert checks.sealed(first, look(machine_id="b", host_keys="ssh-ed25519 C"))[0] == "pass"
    assert checks.sealed(first, look(machine_id="b", host_keys="ssh-ed25519 C\nssh-rsa B"))[0] == "warn"
    assert "machine-id" in checks.sealed(first, look(machine_id="a"))[1]


def test_owners_key_is_recognised_by_the_key(entry: str) -> None:
    """Not by its comment, and not by a part of it."""
    line = "ssh-ed25519 AAAA owner"
    assert checks.keys(look(keys="# x\nssh-ed25519 AAAA renamed\n"), line)[0] == "pass"
    assert checks.keys(look(keys="ssh-ed25519 AAAAB owner\n"), line)[0] == "fail"


@pytest.mark.parametrize("place", ["the journal", "file", "the command line of a process", ""])
def test_passwords_are_found_where_they_are(tmp_path: Path, place: str) -> None:
    """The script that is run in the guest sees them in the journal, a file or an argument, and only there."""
    secret = f"marker-leaked-{os.getpid()}-EXAMPLE"
    said = f"a line\nwith {secret} in it\n" if place == "the journal" else "nothing\n"
    (tmp_path / "said").write_text(said)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/file").write_text(f"{secret}\n" if place == "file" else "nothing\n")
    script = f"account=root everything=yes\njournalctl() {{ cat {tmp_path}/said; }}\nsystemctl() {{ :; }}\n"
    script += LOOK.replace("/var/log /run /tmp /var/tmp /var/lib/cloud", f"{tmp_path}/files")
    with subprocess.Popen(
        ["sh", "-c", f"read wait; : {secret if place else ''}"], stdin=subprocess.PIPE
    ) as other:
        if "command" not in place:
            other.communicate(timeout=300)
        done = subprocess.run(
            ["sh", "-c", script],
            input=f"{secret}\nmarker-other-EXAMPLE",
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = Look(sections(done.stdout))
    assert found["kernel-name"] == os.uname().nodename
    assert found["leaks"] == (f"{tmp_path}/files/file" if place == "file" else place)


# --- traffic ---


def frame(address: str, port: int, flags: int, source: str = MAC) -> bytes:
    """A TCP segment of the guest's, or another's."""
    ethernet = b"\xff" * 6 + bytes.fromhex(source.replace(":", "")) + struct.pack(">H", 0x0800)
    there = bytes(map(int, address.split(".")))
    ip = bytes([0x45]) + bytes(8) + b"\x06" + bytes(2) + bytes(4) + there
    return ethernet + ip + struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 0x50, flags, 1024, 0, 0)


@pytest.mark.parametrize("order", ["<", ">"])
def test_connections_that_the_guest_began(tmp_path: Path, order: str) -> None:
    """Its SYNs, each place once; no answers, nobody else's, and an end that is cut off does no harm."""
    sent = [
        frame("10.1.1.1", 80, 0x02),
        frame("10.1.1.1", 80, 0x02),
        frame("10.1.1.9", 22, 0x12),
        frame("10.1.1.8", 80, 0x02, "52:54:00:00:00:01"),
        b"short",
        frame("169.254.169.254", 80, 0x02),
    ]
    data = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 96, 1)
    for one in sent:
        data += struct.pack(f"{order}IIII", 0, 0, len(one), len(one)) + one
    path = tmp_path / "network.pcap"
    path.write_bytes(data + struct.pack(f"{order}IIII", 0, 0, 60, 60) + b"cut")
    assert asked(path) == [("10.1.1.1", 80), ("169.254.169.254", 80)]
    assert asked(tmp_path / "none") == []


@pytest.mark.parametrize(("wrong", "hinted"), [("the key is denied", True), ("no login in time", False)])
def test_denied_key_hints_at_the_account(wrong: str, hinted: bool) -> None:
    """A template whose keys are another account's denies that of root: the option is named, else not."""
    said = checks.no_login("root", 312.4, wrong)
    assert said.startswith(f"no login as root after 312 s: {wrong}") and ("--user" in said) is hinted


# --- words ---


@pytest.mark.parametrize("width", [40, 80])
def test_verdicts_fit_the_console(width: int) -> None:
    """Every promise, with a long reason, within the width."""
    for scenario, names in SCENARIOS.items():
        for name in names:
            reason = "it also asked 169.254.169.254:80 and " + "a-word-that-is-longer-than-any-line" * 2
            verdict = PromiseResult(scenario, name, "fail", reason, 123.4)
            lines = as_lines(verdict, Console(width))
            assert all(len(line) <= width for line in lines), lines
            assert lines[0].startswith(f"fail {scenario}") and PROMISES[name].split()[0] in lines[0]


def command(*words: object) -> List[str]:
    return [sys.executable, "-I", "-m", "csagent", "lab", "vm", *map(str, words)]


def csagent(*words: object, timeout: float = 300, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **options
    )


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A disk that boots nothing."""
    require(TOOLS, "starts QEMU")
    path = tmp_path / "empty.raw"
    path.write_bytes(bytes(1 << 20))
    return path


def test_usage_is_told_in_one_line(empty: Path, tmp_path: Path) -> None:
    """No image, another format, options that go together: exit code 2 and what is wrong."""
    other = tmp_path / "other.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", other, "1M"], check=True, timeout=600)
    for words, told in (
        (["/nonexistent.qcow2"], "No such file"),
        ([tmp_path], "not a file"),
        ([other], "vmdk"),
        ([empty, "--append", "quiet"], "--kernel"),
        ([empty, "--keep", tmp_path], "empty directory"),
        ([empty, "--user", "-x"], "--user"),
        ([empty, "--user-data", "/nonexistent"], "No such file"),
        ([empty, "--only", "user-data"], "--user-data FILE"),
    ):
        done = csagent(*words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert told in done.stderr and done.stderr.count("\n") == 1, done.stderr
    done = csagent(empty, env={"PATH": "/nonexistent"})
    assert done.returncode == 2 and "qemu" in done.stderr


@pytest.mark.root
def test_template_that_does_not_boot(empty: Path, tmp_path: Path) -> None:
    """The login fails with the reason, the rest is skipped, the exit code is 1; the consoles are kept."""
    before = empty.read_bytes()
    done = csagent(empty, "--only", "drive", "--timeout", "4", "--json", "--keep", tmp_path / "kept")
    document = json.loads(done.stdout)
    assert (done.returncode, document["passed"]) == (1, False), done.stderr
    states: Dict[str, str] = {
        f"{one['scenario']} {one['name']}": one["state"] for one in document["promises"]
    }
    assert set(states) == {*(f"drive {name}" for name in SCENARIOS["drive"]), "both sealed"}
    assert states.pop("drive login") == "fail" and set(states.values()) == {"skip"}
    assert "no sshd after" in document["promises"][0]["reason"]
    assert (tmp_path / "kept/drive/serial-1").exists()
    assert empty.read_bytes() == before


@pytest.mark.root
def test_what_is_booted_is_said_before_the_wait(empty: Path) -> None:
    """The first line, long before the first promise, names the image, the scenarios and the processor."""
    done = csagent(empty, "--only", "drive", "--timeout", "1")
    first = done.stdout.split("fail")[0].replace("\n", " ")
    assert done.returncode == 1 and first.startswith("booting copies of empty.raw: drive ("), done.stderr
    assert "emulated" in first or "KVM" in first


# xor ax,ax; mov ds,ax; mov si,text; next: lodsb; test al,al; jz end; mov dx,0x3f8; out dx,al; jmp next;
# end: hlt; jmp end
WRITES_TO_SERIAL = bytes.fromhex("31c08ed8be157cac84c07406baf803eeebf5f4ebfd")


@pytest.fixture
def panics(empty: Path) -> Path:
    """A disk whose boot sector says what a kernel says that gives up on the timer."""
    sector = (WRITES_TO_SERIAL + HELD_UP.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    empty.write_bytes(sector.ljust(1 << 20, b"\0"))
    return empty


@pytest.mark.root
def test_boot_that_the_emulation_held_up_is_tried_again(panics: Path, tmp_path: Path) -> None:
    """Some tries more, each with its console kept, then it has failed."""
    kept = tmp_path / "kept"
    done = csagent(
        panics, "--only", "drive", "--timeout", "60", "--json", "--verbose", "--keep", kept, timeout=600
    )
    first = json.loads(done.stdout)["promises"][0]
    assert (done.returncode, first["name"], first["state"]) == (1, "login", "fail"), done.stderr
    assert f"switched on again {RESTARTS} times; the console ends with" in first["reason"]
    assert done.stderr.count("power on again") == RESTARTS
    tries = sorted(kept.glob("drive/serial-try-*"))
    assert len(tries) == RESTARTS and all(HELD_UP in path.read_text() for path in tries)


@pytest.mark.root
def test_another_try_begins_with_an_empty_console(panics: Path, tmp_path: Path) -> None:
    """What the one before has said does not count; and what was ended is not switched on again."""
    machine = Machine(Template(panics, "raw"), tmp_path, uuid="3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e07")
    with killed_at_end(machine):
        machine.start("-S")
        with machine.qmp() as qmp:
            qmp.execute("cont")
            while not machine.held_up:
                assert machine.running and machine.seconds < 120
                time.sleep(0.05)
        machine.start_again()
        assert (machine.running, machine.held_up, machine.boots, machine.restarts) == (True, False, 1, 1)
        assert HELD_UP in (tmp_path / "serial-try-1-1").read_text()
        machine.end()
        for switch_on in (machine.start_again, machine.start):
            with pytest.raises(CsagentError, match="ended"):
                switch_on()
        assert not machine.running


def machines(of: int) -> List[int]:
    """QEMUs among the descendants of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"qemu-system-x86_64") and f"csagent-vm-{of}-".encode() in b" ".join(words):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(params=[()])
def started(empty: Path, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """The command, with both machines on; the parameter are words in front of it."""
    process = subprocess.Popen(
        [*request.param, *command(empty, "--verbose")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 60
        while len(machines(process.pid)) < 2:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=300)


@pytest.mark.root
@pytest.mark.usefixtures("signals_as_usual")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_machine_outlives_the_command(started: "subprocess.Popen[str]", number: int) -> None:
    """Not after SIGTERM, Ctrl-C or SIGKILL; where it can, the command takes its scratch directory along."""
    started.send_signal(number)
    started.communicate(timeout=600)
    assert started.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, -number)
    end = time.monotonic() + 15
    while machines(started.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert machines(started.pid) == []
    left = list(Path("/tmp").glob(f"csagent-vm-{started.pid}-*"))
    assert bool(left) == (number == signal.SIGKILL)
    for path in left:
        shutil.rmtree(path)


@pytest.mark.root
@pytest.mark.parametrize("started", [("nohup",)], indirect=True)
def test_hangup_is_ignored_below_nohup(started: "subprocess.Popen[str]") -> None:
    """It goes on after the terminal is gone, and still ends when it is told to."""
    started.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(2)
    assert len(machines(started.pid)) == 2
    started.send_signal(signal.SIGTERM)
    assert started.wait(600) == 143


@pytest.mark.root
def test_ordinary_user_can_run_it(empty: Path) -> None:
    """In a user namespace, without any privilege; where the kernel forbids that it says so."""
    with tempfile.TemporaryDirectory(prefix="csagent-user-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(REPOSITORY / "csagent", directory / "csagent")
        shutil.copy(empty, directory / "empty.raw")
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c"]
        script = (
            "import sys; sys.path.insert(0, sys.argv.pop(1)); from csagent.cli.main import entry; entry()"
        )
        rest = [
            directory,
            "lab",
            "vm",
            directory / "empty.raw",
            "--only",
            "drive",
            "--timeout",
            "4",
            "--json",
        ]
        done = subprocess.run(
            [*words, script, *map(str, rest)],
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert done.returncode == 1
    if done.stdout:
        assert "no sshd after" in json.loads(done.stdout)["promises"][0]["reason"]
    else:
        assert "namespace" in done.stderr and done.stderr.count("\n") == 1
