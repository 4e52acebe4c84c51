"""What a machine with a real systemd has on its console: a line a pass, a line a stage, the host keys."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List

import pytest
from support.replace_fields import replace
from support.requirements import require
from support.samples import make_key
from support.systemd_container import TOOLS, Container, layer, tree
from support.vm_cloud import PASSWORD, describe

from csagent.cli.host_keys import fingerprint
from csagent.lab import drive

pytestmark = [pytest.mark.root]

WANTS = "etc/systemd/system/multi-user.target.wants"
ENABLED = ("csagent.service", "csagent-console.path", "csagent-user-data.path")
CONFIG_DRIVE = "[Service]\nExecStart=\nExecStart=/usr/bin/csagent daemon --drive /srv/drive\n"
HOST_KEY = make_key(7, "root@web-01")
FINGERPRINT = fingerprint(HOST_KEY)
DOCUMENT = b"""\
#cloud-config
write_files:
  - path: /etc/motd
    content: marker-EXAMPLE
runcmd:
  - echo EXAMPLE-output
  - exit 3
"""
KEYS_BEGIN, KEYS_END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"


@pytest.fixture(scope="module")
def box(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A new instance with a config drive that has booted, and its user-data has run."""
    require(TOOLS, "runs containers with a systemd of their own")
    directory = tmp_path_factory.mktemp("console")
    made = Container([layer(deb, directory / "layer"), tree("bookworm")], directory / "box", None)
    (made.upper / WANTS).mkdir(parents=True)
    for unit in ENABLED:
        (made.upper / WANTS / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    # No manager runs that would ever say that the network is there.
    (made.upper / "etc/systemd/system/NetworkManager-wait-online.service").symlink_to("/dev/null")
    cloud = replace(describe("web-01", 1), user_data=DOCUMENT)
    drive.build_tree(str(made.upper / "srv/drive"), drive.files_for(cloud))
    made.put("/etc/systemd/system/csagent.service.d/drive.conf", CONFIG_DRIVE)
    made.put("/etc/ssh/ssh_host_ed25519_key.pub", f"{HOST_KEY}\n")
    try:
        made.boot()
        made.do("csagent", "status", "--wait", "100", "--user-data")
        yield made
    finally:
        made.kill()


def console(box: Container, text: str) -> List[str]:
    """The console's lines, as soon as this is among them."""

    def lines() -> List[str]:
        return (box.directory / "console").read_text("utf-8", "replace").replace("\r", "").split("\n")

    box._until(lambda: any(text in line for line in lines()), f"has no {text!r} on its console")
    return lines()


def test_the_first_pass_is_a_line(box: Container) -> None:
    """Once, at the beginning of a line: name, addresses, keys and password."""
    lines = console(box, "csagent: web-01")
    said = [line for line in lines if line.startswith("csagent: web-01")]
    assert said == ["csagent: web-01 (no IPv4 address): SSH keys set, password set"]


def test_each_stage_is_a_line(box: Container) -> None:
    """The early one, which went well, and the final one with what failed."""
    lines = console(box, "final stage over")
    said = [line for line in lines if line.startswith("csagent: user-data")]
    assert said == [
        "csagent: user-data, early stage over: all done",
        "csagent: user-data, final stage over: runcmd failed, exit 3 (csagent status says why)",
    ]


def test_host_keys_are_on_the_console_of_a_first_boot(box: Container) -> None:
    """Between cloud-init's marker lines, each line as tools expect it: nothing else is in it."""
    lines = console(box, KEYS_END)
    begin = lines.index("-----BEGIN SSH HOST KEY FINGERPRINTS-----")
    assert lines[begin + 1 : begin + 3] == [FINGERPRINT, "-----END SSH HOST KEY FINGERPRINTS-----"]
    assert lines[lines.index(KEYS_BEGIN) + 1 : lines.index(KEYS_END)] == [HOST_KEY]


def test_nothing_of_it_is_secret(box: Container) -> None:
    """Neither the password nor the document is there, but for what its scripts say themselves."""
    text = "\n".join(console(box, KEYS_END))
    assert "EXAMPLE-output" in text
    assert PASSWORD not in text and "marker-EXAMPLE" not in text


def test_the_unit_has_ended_well_and_is_shut_in(box: Container) -> None:
    """It is over, it is not started again, and systemd finds it less exposed than the daemon."""
    shown = box.do("systemctl", "show", "-p", "ActiveState,Result", "csagent-console.service")
    assert sorted(shown.split()) == ["ActiveState=inactive", "Result=success"]
    assert box.do("systemctl", "is-active", "csagent-console.path").strip() == "active"
    assert box.do("systemctl", "list-units", "--failed", "--no-legend", "--plain").split()[0] == (
        "csagent-user-data.service"
    )
    said = box.do("systemd-analyze", "security", "--no-pager", "csagent-console.service")
    assert float(said.split("Overall exposure level for csagent-console.service:")[1].split()[0]) <= 2.0


def test_the_second_boot_has_the_line_and_no_keys(box: Container) -> None:
    """They are shown once an instance, and of user-data nothing has run."""
    box.kill()
    (box.directory / "console").write_text("")
    box.boot()
    lines = console(box, "csagent: web-01")
    box.do("csagent", "status", "--wait", "100", "--user-data")
    said = [line for line in lines if line.startswith("csagent: ")]
    assert said == ["csagent: web-01 (no IPv4 address): SSH keys set, password set"]
    assert KEYS_BEGIN not in lines
