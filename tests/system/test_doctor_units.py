"""doctor on a Debian that its own systemd has booted: the units as systemd tells of them."""

from __future__ import annotations

from typing import Dict, Iterator, Tuple

import pytest
from support.debian_image import Installed
from support.healthy_machine import wrong
from support.network_segment import isolated
from support.systemd_guest import Booted
from support.vm_cloud import describe

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.1.1.1", "10.1.1.42"
ACTIVE = ("systemctl", "is-active", "--quiet", "csagent.service", "ssh.service")

# What breaks it, what is seen, what the advice begins with, and what puts it back.
ILLS: Dict[str, Tuple[str, str, str, str]] = {
    "stopped": (
        "systemctl stop csagent",
        "csagent.service is inactive (dead)",
        "systemctl start csagent.service",
        "systemctl start csagent",
    ),
    "masked": (
        "systemctl mask --now csagent",
        "csagent.service is masked",
        "systemctl unmask csagent.service",
        "systemctl unmask csagent; systemctl start csagent",
    ),
    "disabled": (
        "systemctl disable csagent",
        "csagent.service is disabled",
        "systemctl enable --now csagent.service",
        "systemctl enable csagent",
    ),
    "no sshd": ("systemctl stop ssh", "ssh.service is inactive", "mkdir -p", "systemctl start ssh"),
}


@pytest.fixture(scope="module")
def guest(image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Booted on an isolated network, its daemon's first pass done."""
    directory = tmp_path_factory.mktemp("booted")
    guest = Booted(image, directory / "guest")
    with isolated(guest, directory, SERVER, ADDRESS) as segment:
        segment.router(describe("web-01", 1), SERVER, port=80, password_port=8080)
        guest.write("/etc/ssh/sshd_config.d/50-owner.conf", "PermitRootLogin yes\n")
        guest.wait("grep", "-q", '"source_found": true', "/run/csagent/status.json")
        guest.wait(*ACTIVE)
        yield guest


def test_a_machine_whose_daemon_has_done_its_work_is_healthy(guest: Booted) -> None:
    """Exit code 0 on a running machine: the daemon is active and enabled, sshd runs, all is in place."""
    document = guest.csagent("doctor", "--wait", "5")
    units = [one["saw"] for one in document["findings"] if one["area"] == "units"]
    assert units == ["csagent.service is active (running), enabled", "ssh.service is active (running)"]
    assert wrong(document) == [] and document["verdict"] in ("ok", "note")


@pytest.mark.parametrize("name", ILLS)
def test_a_unit_that_does_not_do_its_work_is_named(guest: Booted, name: str) -> None:
    """One finding, as systemd says it, with the command that mends it."""
    broken, saw, advice, restored = ILLS[name]
    guest.do("sh", "-c", broken)
    try:
        document = guest.csagent("doctor", "--wait", "5", code=1)
    finally:
        guest.do("sh", "-c", restored)
        guest.wait(*ACTIVE)
    (one,) = wrong(document)
    assert (one["area"], one["state"], one["saw"]) == ("units", "problem", saw)
    assert one["advice"].startswith(advice)


def test_the_journal_is_in_the_archive_without_what_others_wrote(guest: Booted) -> None:
    """What csagent and systemd say of it; of what a command before csagent said, its secret is taken out."""
    secret = "EXAMPLE-planted-secret"
    guest.do("mkdir", "-p", "/etc/systemd/system/csagent.service.d")
    guest.write(
        "/etc/systemd/system/csagent.service.d/pre.conf",
        f"[Service]\nSyslogIdentifier=csagent\nExecStartPre=/bin/echo my token is {secret}\n"
        f"Environment=A={secret} B={secret}\nEnvironmentFile=-/etc/{secret}\nNonsense={secret}\n",
    )
    guest.do("systemctl", "daemon-reload")
    guest.do("systemctl", "restart", "csagent")
    guest.wait(*ACTIVE)
    try:
        guest.wait("sh", "-c", f"journalctl -b -u csagent | grep -q 'my token is {secret}'")
        guest.do("csagent", "doctor", "--wait", "5", "--bundle", "/root/support.tar.gz")
    finally:
        guest.do("rm", "-r", "/etc/systemd/system/csagent.service.d")
        guest.do("systemctl", "daemon-reload")
        guest.do("systemctl", "restart", "csagent")
        guest.wait(*ACTIVE)
    journal = guest.do("tar", "-xzOf", "/root/support.tar.gz", "_doctor/journal.txt")
    assert "]: redacted token is redacted\n" in journal
    assert "systemd[1]: Starting csagent.service" in journal and "csagent[" in journal
    assert secret not in guest.do("tar", "-xzOf", "/root/support.tar.gz")
    assert "]: hostname applied: CloudStack says web-01; first pass for this instance" in journal


def test_wrong_settings_end_the_daemon_and_both_are_named(guest: Booted) -> None:
    """The unit has failed because of them, and the line that is wrong is told."""
    guest.do("sh", "-c", "mkdir -p /etc/csagent/conf.d; echo 'pasword: true' > /etc/csagent/conf.d/50.yaml")
    guest.run("systemctl", "restart", "csagent")
    try:
        document = guest.csagent("doctor", "--wait", "5", code=1)
    finally:
        guest.do("rm", "/etc/csagent/conf.d/50.yaml")
        guest.run("systemctl", "reset-failed", "csagent")
        guest.do("systemctl", "start", "csagent")
        guest.wait(*ACTIVE)
    settings, unit = wrong(document)
    assert 'did you mean "password"?' in settings["saw"] and settings["area"] == "settings"
    assert unit["saw"].startswith("csagent.service is failed") and unit["means"] == "its settings are wrong"
