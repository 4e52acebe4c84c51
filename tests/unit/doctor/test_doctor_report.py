"""What doctor prints and how it ends: text, JSON, exit codes, archives, probes that fail or hang."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Tuple

import pytest
from support.healthy_machine import SEEN, Patient
from support.replace_fields import replace
from support.samples import INSTANCE

from csagent.cli import doctor
from csagent.cli.main import main
from csagent.console import Console
from csagent.doctor import context, engine
from csagent.doctor.checks import last_pass
from csagent.doctor.context import Situation, in_time
from csagent.doctor.finding import FIXED, Finding, exit_code, first_thing, verdict, worst
from csagent.model import Place
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.seams import Runner, System

OK = Finding("platform", "ok", "KVM")
NOTE = Finding("drives", "note", "not seen: this is a tree")
WARNING = Finding("leases", "warning", "no lease", "nobody to ask", "dhclient")
PROBLEM = Finding("sshd", "problem", "PermitRootLogin no", "refused", "PermitRootLogin yes")


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A machine in good health."""
    return Patient(tmp_path)


def run(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> Tuple[int, str, str]:
    """`csagent doctor` on a tree: exit code, standard output and standard error."""
    code = main(["--root", str(root), "doctor", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_healthy_archive_ends_with_0(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """All is well: exit code 0, and the last line says so."""
    patient.save()
    code, out, err = run(capsys, patient.root)
    assert (code, err) == (0, "") and out.splitlines()[-1] == "verdict: all is well"
    assert "router 10.1.1.1:80 (DHCP server of eth0): ok after 0.004 s" in out


def test_a_problem_ends_with_1_and_the_first_thing_to_do(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict counts, and repeats the advice of the first problem."""
    patient.sshd("permitrootlogin yes", "permitrootlogin no")
    patient.save()
    code, out, _err = run(capsys, patient.root)
    assert code == 1 and "verdict: 1 problem\nfirst:  sshd: write PermitRootLogin yes at the top of" in out


def test_no_source_ends_with_4(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """As for every other command; the places and their outcomes are there all the same."""
    silent = Place("router 10.1.1.1", "DHCP server of eth0", "timeout", "no answer", 5.0)
    patient.seen = replace(SEEN, places=(silent,), source_found=False, password="unknown")
    patient.save()
    code, out, _err = run(capsys, patient.root, "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 4 and document["verdict"] == "no source"
    assert document["places"][0]["outcome"] == "timeout" and document["places"][0]["seconds"] == 5.0


def test_json_has_its_documented_members(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs rely on the layout; it only grows."""
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    patient.save()
    code, out, _err = run(capsys, patient.root, "--json")
    document = json.loads(out)
    assert (
        code == 1 and document["schema"] == 1 and document["what"] == "archive" and document["root"] is True
    )
    assert document["verdict"] == "problem" and document["summary"] == "1 problem"
    assert (
        document["first"].startswith("write PasswordAuthentication yes")
        and document["instance_id"] == INSTANCE
    )
    assert {tuple(one) for one in document["findings"]} == {("area", "state", "saw", "means", "advice")}
    assert [one["area"] for one in document["findings"] if one["state"] == "problem"] == ["sshd"]


def test_quiet_prints_problems_and_warnings(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the exit code is about, and no more: neither notes nor the verdict."""
    patient.save()
    assert run(capsys, patient.root, "-q") == (0, "", "")
    assert patient.status is not None
    patient.status["note"] = "the memory was damaged"
    patient.save()
    code, out, _err = run(capsys, patient.root, "-q")
    assert code == 1 and out.startswith("last pass: warning\n    the memory was damaged\n") and "do: " in out
    patient.sshd("permitrootlogin yes", "permitrootlogin no")
    patient.save()
    code, out, _err = run(capsys, patient.root, "-q")
    assert code == 1 and "sshd: problem (recorded)\n" in out and "memory" in out and "verdict" not in out


def test_quiet_says_the_verdict_where_there_is_nothing_else(patient: Patient) -> None:
    """No source, and no finding that says so: still not a word less than one line."""
    examined = replace(patient.examined(), findings=(OK, NOTE), no_source=True)
    assert doctor.as_text(examined, Console(), quiet=True) == "verdict: no CloudStack source was found\n"


def test_every_line_fits_a_narrow_console(
    patient: Patient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 columns, whatever was found, and no control character of a lease gets through."""
    monkeypatch.setenv("COLUMNS", "40")
    place = Place("router 10.1.1.1", "lease \033[2J of eth0\nroot: ok", "malformed", "x" * 90, 1.0)
    patient.seen = replace(SEEN, places=(place,), source_found=False)
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    patient.save()
    _code, out, _err = run(capsys, patient.root)
    assert max(map(len, out.splitlines())) <= 40 and "\033" not in out and "do: " in out


def test_a_tree_says_what_it_cannot_tell(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mounted image: nobody is asked, and what needs a running machine is said to be not seen."""
    (tree / "bin").mkdir()
    (tree / "bin/bash").write_text("")
    (tree / "bin/bash").chmod(0o755)
    code, out, _err = run(capsys, tree, "--json")
    document = json.loads(out)
    assert (code, document["what"], document["places"]) == (0, "tree", [])
    unseen = {
        one["area"] for one in document["findings"] if one["saw"].startswith("not seen: this is a tree")
    }
    assert unseen >= {"platform", "network", "router", "drives", "units", "disk", "selinux"}
    assert document["summary"].startswith("nothing wrong in what could be seen")


def test_wrong_settings_are_a_finding(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """Where every other command ends with 2, doctor says what is wrong with them and goes on."""
    patient.write("/etc/csagent/csagent.yaml", "pasword: true\n")
    patient.save()
    code, out, _err = run(capsys, patient.root, "--json")
    (one,) = [one for one in json.loads(out)["findings"] if one["area"] == "settings"]
    assert code == 1 and one["state"] == "problem" and 'did you mean "password"?' in one["saw"]


def test_places_cannot_be_named_for_an_archive(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive is examined as it is: an address in it is of somebody else's network."""
    patient.save()
    code, out, err = run(capsys, patient.root, "--router", "127.0.0.1")
    assert (code, out) == (2, "") and "nobody is contacted" in err


def test_an_archive_contacts_nobody(patient: Patient, tmp_path: Path) -> None:
    """No connection, no datagram, by the process or by a child of it."""
    patient.save()
    heard = tmp_path / "heard"
    script = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, words):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"):
        os.write(log, f"{event} {words[1:]}\\n".encode())
sys.addaudithook(hook)
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.connect(("127.0.0.1", 9))
from csagent.cli.main import main
sys.exit(main(["--root", sys.argv[2], "doctor"]))
"""
    words = [sys.executable, "-c", script, str(heard), str(patient.root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert heard.read_text() == "socket.connect (('127.0.0.1', 9),)\n"  # the hook's own proof


# --- probes that fail or hang ---


def situation(tree: Path) -> Situation:
    return Situation(System.at(str(tree)), Settings())


def failing(_situation: Situation) -> Iterator[Finding]:
    yield OK
    raise ValueError("EXAMPLE-marker-1")


def test_a_probe_that_fails_says_so_and_keeps_what_it_had(tree: Path) -> None:
    """The type of the error and not its text, which may hold a secret."""
    first, second = engine.run("platform", failing, situation(tree))
    assert first == OK and (second.state, second.saw) == ("warning", "this probe failed (ValueError)")
    assert "EXAMPLE" not in repr(second)


def test_a_probe_that_hangs_is_left_behind(tree: Path) -> None:
    """The others get their turn; what it had found until then is kept."""
    over = threading.Event()

    def hanging(_situation: Situation) -> Iterator[Finding]:
        yield OK
        over.wait(60)

    first, second = engine.run("disk", hanging, situation(tree), patience=2.0)
    over.set()
    assert first == OK and second.saw == "this probe did not end within 2 s"


def test_every_probe_is_guarded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every one of them broken there is a report all the same, one finding for each."""
    areas = [area for area, _check in engine.checks()]
    monkeypatch.setattr(engine, "checks", lambda: tuple((area, failing) for area in areas))
    examined = engine.examine(System.at(str(tree)), Settings(), "", Options(), wait=0)
    assert [one.area for one in examined.findings if one.state == "warning"] == areas
    assert examined.exit_code == 1


def test_a_command_that_hangs_has_a_deadline(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that never ends costs its own answer, and no more than its time."""
    monkeypatch.setattr(context, "DEADLINE", 0.3)
    system = replace(System.at(str(tree)), runner=Runner())
    began = time.monotonic()
    assert Situation(system, Settings()).ask("sleep", "3600") is None
    assert time.monotonic() - began < 300


def test_in_time_returns_raises_and_gives_up() -> None:
    """The value, the error, or TimeoutError."""
    assert in_time(60, lambda: 7) == 7
    with pytest.raises(KeyError):
        in_time(60, lambda: {}["x"])
    over = threading.Event()
    with pytest.raises(TimeoutError):
        in_time(0.05, over.wait)
    over.set()


def test_observing_that_fails_is_a_finding(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other areas are reported; that places answer is not known, which is not "no source"."""

    def broken(*_words: Any, **_more: Any) -> Any:
        raise RuntimeError("EXAMPLE-marker-1")

    monkeypatch.setattr("csagent.sources.observe.observe", broken)
    options = Options(router=("127.0.0.1", 1))
    examined = engine.examine(System.at(str(tree)), Settings(), "", options, wait=0)
    (found,) = [one for one in examined.findings if one.area == "source"]
    assert found.state == "warning" and "RuntimeError" in found.saw and examined.exit_code == 1
    assert "EXAMPLE" not in repr(examined.findings)


# --- the verdict ---


@pytest.mark.parametrize(
    ("findings", "no_source", "code", "words"),
    [
        ((OK,), False, 0, "all is well"),
        ((OK, NOTE), False, 0, "nothing wrong in what could be seen; 1 check not made"),
        ((OK, WARNING), False, 1, "1 warning"),
        ((PROBLEM, WARNING, WARNING), False, 1, "1 problem and 2 warnings"),
        ((PROBLEM,), True, 4, "no CloudStack source was found; 1 problem"),
        ((OK,), True, 4, "no CloudStack source was found"),
    ],
)
def test_exit_code_and_verdict(findings: Tuple[Finding, ...], no_source: bool, code: int, words: str) -> None:
    """0 with notes, 1 from a warning on, 4 where places were asked and none had anything."""
    assert (exit_code(findings, no_source), verdict(findings, no_source)) == (code, words)


def test_the_first_thing_is_the_first_problem() -> None:
    """A problem comes before a warning that stands earlier; without advice there is nothing to do."""
    assert first_thing((WARNING, PROBLEM)) is PROBLEM and first_thing((OK, WARNING)) is WARNING
    assert first_thing((OK, NOTE, replace(WARNING, advice=""))) is None and worst(()) == "ok"


DISK = Finding("disk", "problem", "/ is read-only", "nothing can be written", "mount -o remount,rw /")
CLOCK = Finding("clock", "warning", "2026", "ahead", "timedatectl")
ROUTER = Finding("router", "problem", "timeout", "nobody answers", "ping")
PASS = Finding("last pass", "problem", "hostname: failed", "it could not be written", FIXED)
TYPING = Finding("settings", "problem", "line 2: unknown key", "the defaults", "correct that line")
ROOTS = Finding("account", "problem", "/home/alice is another's", "no keys", "chown alice: /home/alice")


@pytest.mark.parametrize(
    ("findings", "first"),
    [
        ((PASS, DISK), DISK),
        ((WARNING, ROUTER, CLOCK), CLOCK),
        ((WARNING, ROUTER, replace(CLOCK, state="problem")), CLOCK),
        ((PASS, replace(CLOCK, state="problem")), CLOCK),
        ((WARNING, CLOCK), CLOCK),
        # What does not come of it stays first.
        ((ROUTER, DISK), ROUTER),
        ((PROBLEM, DISK), PROBLEM),
        ((PASS, replace(DISK, state="warning")), PASS),
        ((ROUTER, CLOCK), ROUTER),
        # A lease holds and its router was asked, whatever year it is.
        ((ROUTER, replace(CLOCK, state="problem")), ROUTER),
        ((replace(ROUTER, area="source"), replace(CLOCK, state="problem")), replace(ROUTER, area="source")),
        ((PROBLEM, CLOCK), PROBLEM),
        ((PASS, replace(DISK, advice="")), PASS),
        ((DISK,), DISK),
        # On a full /run no lease has room, and without one no router is known.
        ((WARNING, ROUTER, DISK), DISK),
        ((WARNING, replace(ROUTER, area="source"), DISK), DISK),
        ((WARNING, ROUTER, replace(DISK, state="warning")), ROUTER),
        # Doctor went by the defaults: a drive's label, or a router, that stands there was not looked for.
        ((ROUTER, TYPING), TYPING),
        ((replace(ROUTER, area="network"), TYPING), TYPING),
        ((replace(ROUTER, area="drives"), TYPING), TYPING),
        ((replace(ROUTER, area="source"), TYPING), TYPING),
        ((replace(ROUTER, area="platform"), TYPING), replace(ROUTER, area="platform")),
        # Where the pass does not say how, what was found to be wrong with the account does.
        ((PASS, ROOTS), ROOTS),
        ((replace(PASS, advice="df -h"), ROOTS), replace(PASS, advice="df -h")),
        ((PASS, replace(ROOTS, area="selinux")), replace(ROOTS, area="selinux")),
        ((PASS, replace(ROOTS, area="sshd")), replace(ROOTS, area="sshd")),
        ((PASS, replace(ROOTS, area="units")), PASS),
        ((PASS, replace(ROOTS, state="warning")), PASS),
        ((PASS, replace(ROOTS, advice="")), PASS),
        ((PASS, ROOTS, DISK), DISK),
        ((ROUTER, PASS, ROOTS), ROUTER),
    ],
)
def test_the_cause_comes_before_what_it_shows_as(findings: Tuple[Finding, ...], first: Finding) -> None:
    """A disk before what could not be written, a clock before the leases and routers that it takes away."""
    said = first_thing(findings)
    assert said is not None and (said.area, said.advice) == (first.area, first.advice)


def test_a_full_disk_is_the_first_thing_on_a_machine(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line at the end names it, though the failed host name stands above it."""
    assert patient.status is not None
    patient.status["data"]["hostname"] = {"state": "failed", "reason": "/etc/hostname: no room"}
    patient.write("/proc/mounts", "/dev/vda1 / ext4 ro 0 0\n")
    patient.save()
    code, out, _err = run(capsys, patient.root)
    assert (
        code == 1 and "\nfirst:  disk: dmesg" in out and out.index("hostname: failed") < out.index("disk: ")
    )


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ('/etc/csagent/csagent.yaml, line 2: unknown key "pasword"', "correct that line"),
        (
            "/etc/csagent/csagent.yaml: PyYAML is not installed (python3-yaml), and",
            "install python3-yaml (on",
        ),
        (
            "/etc/csagent/conf.d/a b.yaml says whom root obeys, and user 1000 could write it",
            "namei -l '/etc/csagent/conf.d/a b.yaml'; mend what is said of it",
        ),
        ("/etc/csagent/csagent.yaml: cannot be read (Is a directory)", "namei -l /etc/csagent/csagent.yaml;"),
        ("/etc/csagent/csagent.yaml: larger than 65536 bytes", "namei -l /etc/csagent/csagent.yaml;"),
        ("EXAMPLE", "namei -l /etc/csagent/csagent.yaml;"),
    ],
)
def test_what_is_no_lines_fault_is_not_corrected_in_a_line(
    patient: Patient, problem: str, advice: str
) -> None:
    """Whose the settings are, and whether they can be read, is a matter of the file."""
    (found,) = last_pass.settings(replace(patient.situation(), settings_problem=problem))
    assert found.advice.startswith(advice)
    assert found.advice.endswith(
        ", then: systemctl reset-failed csagent.service; systemctl restart csagent.service"
    )


def test_a_settings_file_that_is_not_there_is_an_error_of_the_command_line(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every other command: 2, and one line."""
    code = main(["--root", str(patient.root), "--config", "/nope", "doctor"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith("csagent: --config /nope: No such file") and said.err.count("\n") == 1


def test_colours_are_for_terminals_only(patient: Patient) -> None:
    """The same text, painted or plain."""
    patient.save()
    examined = engine.examine(System.at(str(patient.root)), Settings(), "", Options(), wait=0)
    plain, painted = (doctor.as_text(examined, Console(80, colour)) for colour in (False, True))
    assert "\033[32mok" in painted and "\033" not in plain and "platform: ok\n" in plain
