"""What doctor tells people to run destroys nothing, and what it quotes of a configuration holds no secret."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Callable

import pytest
from support.healthy_machine import Patient
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent.apply.authorized_keys import merge
from csagent.doctor import engine
from csagent.doctor.checks.homes import key_mark
from csagent.model import Found, Observation, Observed, Platform
from csagent.other_agents import ownership
from csagent.other_agents.cloud_init import CloudInit
from csagent.settings import Settings
from csagent.state import applied, instances
from csagent.system.seams import System

LOCAL = "/etc/ssh/sshd_config.d/00-local.conf"


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A machine in good health."""
    return Patient(tmp_path)


def run(command: str, root: Path) -> None:
    """Run a piece of advice in a tree."""
    subprocess.run(["sh", "-ec", command.replace(" /etc/", f" {root}/etc/")], check=True, timeout=300)


def test_advice_about_sshd_adds_up(patient: Patient) -> None:
    """Two findings and a file that is there already: after both commands it has all three lines."""
    patient.write("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n")
    patient.write(LOCAL, "Port 2222\n")
    patient.sshd("passwordauthentication yes", "passwordauthentication no")
    patient.sshd("pubkeyauthentication yes", "pubkeyauthentication no")
    advice = [one.advice.split("; then: ")[0] for one in patient.wrong("sshd")]
    assert len(advice) == 2
    for command in advice:
        run(command, patient.root)
    written = (patient.root / LOCAL[1:]).read_text().splitlines()
    assert written[0] == "Port 2222" and len(written) == 3
    assert {"Port 2222", "PasswordAuthentication yes", "PubkeyAuthentication yes"} == set(written)


def test_advice_about_cloud_init_leaves_the_shipped_file_alone(tmp_path: Path) -> None:
    """90-csagent.cfg, as the packages ship it, says more than the one line; it is not written over."""
    directory = tmp_path / ownership.DROP_INS[1:]
    directory.mkdir(parents=True)
    (directory / "90-csagent.cfg").write_text("preserve_hostname: true\n")
    rival = CloudInit(
        enabled=True,
        why="EXAMPLE",
        sources=("CloudStack",),
        said_by="EXAMPLE",
        answered=True,
        preserve_hostname=True,
        modules=("ssh",),
        always=(),
        takes_keys=True,
        default_user="debian",
        disable_root=False,
        wget=False,
        stage="cloud-init.service",
        waits=True,
        ran=True,
    )
    (verdict,) = list(ownership._keys(rival, Settings()))
    for _ in range(2):
        run(verdict.advice.split("in a template: ")[1], tmp_path)
    assert (directory / "90-csagent.cfg").read_text() == "preserve_hostname: true\n"
    (made,) = [path for path in directory.iterdir() if path.name != "90-csagent.cfg"]
    assert set(made.read_text().splitlines()) == {"allow_public_ssh_keys: false"}
    assert made.name > "90-csagent.cfg" and made.name.endswith(".cfg")


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("command", ["/usr/bin/keys -u admin:marker %u", '"/usr/bin/keys --token marker"'])
def test_of_a_command_of_sshd_the_program_is_named(patient: Patient, exact: bool, command: str) -> None:
    """What AuthorizedKeysCommand is given may be a token: it is not shown, whoever says it."""
    line = f"AuthorizedKeysCommand {command}\n"
    if exact:
        patient.sshd("authorizedkeyscommand none", line.lower().replace('"', ""))
    else:
        patient.without_sshd_t("PermitRootLogin yes\nUsePAM yes\n" + line)
    findings = patient.findings("sshd")
    assert any(one.saw.startswith("AuthorizedKeysCommand /usr/bin/keys (") for one in findings)
    assert "marker" not in repr(findings)


def test_of_match_and_access_lines_nothing_unknown_is_quoted(patient: Patient) -> None:
    """A criterion that sshd does not have, and a remark behind a rule of pam_access, stay where they are."""
    patient.without_sshd_t("PermitRootLogin yes\nUsePAM yes\nMatch marker x\nMatch exec marker\n")
    patient.write("/etc/pam.d/sshd", "account required pam_access.so\n")
    patient.write("/etc/security/access.conf", "- : root : ALL # marker\n")
    findings = patient.findings("sshd")
    assert any(one.saw.endswith("- : root : ALL") for one in findings)
    assert any("Match exec was taken" in one.saw for one in findings)
    assert "marker" not in repr(findings)


def test_a_key_block_of_another_instance_is_named(patient: Patient) -> None:
    """What memory does not have came with a template; the advice takes the block out, and nothing else."""
    path = patient.root / "root/.ssh/authorized_keys"
    path.write_text(merge(f"{make_key(7, 'owner')}\n# the owner's\n", [make_key(1), make_key(2)]))
    for mine in (None, tuple(map(key_mark, (make_key(1, "other comment"), make_key(2), make_key(3))))):
        patient.seen = replace(patient.seen, key_marks=mine)
        assert patient.wrong("account") == patient.wrong("sshd") == []
    for mine, count in (((), 2), ((key_mark(make_key(1)),), 1), ((key_mark(make_key(7)),), 2)):
        patient.seen = replace(patient.seen, key_marks=mine)
        (found,) = patient.wrong("sshd")
        assert found.state == "warning" and f"{count} of these for another instance" in found.saw
        assert "not written them for this one" in found.means
        assert (found.saw, found.means) in [(one.saw, one.means) for one in patient.archived()]
    command = found.advice.split("; or ")[0]
    subprocess.run(
        ["sh", "-ec", command.replace(" /root/", f" {patient.root}/root/")], check=True, timeout=30
    )
    assert path.read_text() == f"{make_key(7, 'owner')}\n# the owner's\n"


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (lambda text: text, "line 5"),  # beside one of this instance's
        (lambda text: text.replace(f"{make_key(1)}\n", "").replace("\n", "\r\n"), "line 4"),
        (lambda text: text.replace(f"{make_key(1)}\n", "").replace(" end\n", " end \n"), "line 4"),
        (lambda text: text + merge("", [make_key(3)]).replace(" end\n", " end\t\n"), "lines 5, 8"),
    ],
)
def test_a_command_that_would_take_other_keys_too_is_not_advised(
    patient: Patient, change: Callable[[str], str], lines: str
) -> None:
    """The instance's own, which no pass brings back; or all to the end, where the end is another to sed."""
    path = "/root/.ssh/authorized_keys"
    text = merge(f"{make_key(7, 'owner')}\n# the owner's\n", [make_key(1), make_key(2)])
    patient.write(path, change(text) + f"{make_key(8, 'owner')}\n")
    patient.seen = replace(patient.seen, key_marks=(key_mark(make_key(1)),))
    (found,) = patient.wrong("sshd")
    reset = "reset the VM's SSH key in CloudStack, then: csagent apply"
    assert found.advice == f"take {lines} out of {path}, or {reset}"


def test_behind_a_marker_without_its_other_half_keys_are_the_owners(patient: Patient) -> None:
    """As for `apply`: of a block whose end was lost nobody knows how far it went."""
    text = merge("", [make_key(1)]).replace("# csagent end\n", f"{make_key(7, 'owner')}\n")
    patient.write("/root/.ssh/authorized_keys", text)
    patient.seen = replace(patient.seen, key_marks=())
    (found,) = patient.wrong("sshd")
    assert "2 keys, 0 of them from CloudStack" in found.saw and "sed" not in found.advice
    assert [one for one in patient.findings("sshd") if "another instance" in one.saw] == []


def test_what_memory_has_and_what_cloudstack_gives_is_this_instances(tmp_path: Path) -> None:
    """Both count; where memory cannot be read, or is a newer csagent's, nothing is claimed."""
    system = System.at(str(tmp_path))
    applied.save(system, applied.load(system, INSTANCE)._replace(ssh_keys=(make_key(1),)))
    observed = Observed(Found(), Observation(instance_id=INSTANCE, ssh_keys=(make_key(2),)))
    marks = engine._summary(system, Settings(), observed).key_marks
    assert marks is not None and set(marks) == {key_mark(make_key(1)), key_mark(make_key(2))}
    another = Observed(Found(), Observation(instance_id=INSTANCE.replace("1", "2")))
    assert engine._summary(system, Settings(), another).key_marks == ()
    (file,) = (tmp_path / instances.INSTANCES[1:]).iterdir()
    for text in ("[", '{"schema": 99}'):
        file.write_text(text)
        assert engine._summary(system, Settings(), observed).key_marks is None


def test_without_dmi_it_says_who_has_none(patient: Patient) -> None:
    """One sentence that reads well: an aarch64 guest and a container are no illness."""
    patient.found = replace(patient.found, platform=Platform())
    (found,) = patient.findings("platform")
    assert found.state == "note" and found.saw == "DMI says nothing: aarch64 and containers have none"
