"""doctor on a real Debian: real sshd -T, usermod, chage, df and mounts; a lease of a real DHCP client."""

from __future__ import annotations

import json
from typing import Dict, Iterator, NamedTuple, Tuple

import pytest
from support.debian_image import Installed, run
from support.healthy_machine import wrong
from support.network_segment import Guest, isolated
from support.vm_cloud import PASSWORD, describe

from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

ADDRESS = "10.1.1.42"
SERVER = "10.1.1.1"
DROP_IN = "/etc/ssh/sshd_config.d/50-owner.conf"
USABLE = "PermitRootLogin yes\n"


class Machine(NamedTuple):
    """A guest on an isolated network, in which a pass has set everything, and the router."""

    guest: Guest
    router: LabRouter


@pytest.fixture(scope="module")
def machine(image: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One for all tests; each puts back what it has broken."""
    directory = tmp_path_factory.mktemp("doctor")
    guest = Guest(image, directory / "guest")
    with isolated(guest, directory, SERVER, ADDRESS) as segment:
        router = segment.router(describe("web-01", 1), SERVER, port=80, password_port=8080)
        guest.do("dhclient", "-1", "eth0")
        guest.do("mkdir", "-p", "/run/sshd")
        guest.write(DROP_IN, USABLE)
        guest.csagent("apply")
        yield Machine(guest, router)


def test_a_healthy_machine_ends_with_0(machine: Machine) -> None:
    """All is in place and all is seen: lease, router, account, sshd's own word; nobody is told anything."""
    guest, router = machine
    told = len(router.acknowledged)
    document = guest.csagent("doctor", "--wait", "5")
    assert wrong(document) == [] and document["what"] == "machine" and document["root"] is True
    saw = {(one["area"], one["state"]): one["saw"] + one["means"] for one in document["findings"]}
    assert "as sshd -T says" in saw["sshd", "ok"] and f"DHCP server {SERVER}" in saw["leases", "ok"]
    assert len(router.acknowledged) == told == 1
    shown = json.dumps(document)
    assert PASSWORD not in shown and guest.shadow() not in shown and "AAAA" not in shown


# What breaks it, area and state, what is seen, and what puts it back.
ILLS: Dict[str, Tuple[str, Tuple[str, str], str, str]] = {
    "passwords off": (
        f"printf 'PasswordAuthentication no\\nPermitRootLogin yes\\n' > {DROP_IN}",
        ("sshd", "problem"),
        f"PasswordAuthentication no ({DROP_IN}, line 1)",
        f"echo PermitRootLogin yes > {DROP_IN}",
    ),
    "Debian's default for root": (
        f"rm {DROP_IN}",
        ("sshd", "problem"),
        "PermitRootLogin prohibit-password",
        f"echo PermitRootLogin yes > {DROP_IN}",
    ),
    "keys elsewhere, in a Match block": (
        f"printf 'Match User root\\nAuthorizedKeysFile /etc/ssh/keys/%%u\\n' >> {DROP_IN}",
        ("sshd", "problem"),
        "AuthorizedKeysFile /etc/ssh/keys/%u",
        f"echo PermitRootLogin yes > {DROP_IN}",
    ),
    "account locked": (
        "usermod --lock root",
        ("account", "problem"),
        "the password of root is locked",
        "usermod --unlock root",
    ),
    "account expired": (
        "chage --expiredate 2020-01-02 root",
        ("account", "problem"),
        "root expired on 2020-01-02",
        "chage --expiredate -1 root",
    ),
    "no shell": (
        "usermod --shell /usr/sbin/nologin root",
        ("account", "problem"),
        "the shell of root is /usr/sbin/nologin",
        "usermod --shell /bin/bash root",
    ),
    "home writable by the group": (
        "chmod g+w /root",
        ("account", "problem"),
        "/root is writable by its group",
        "chmod g-w /root",
    ),
    "keys replaced": (
        "mv /root/.ssh/authorized_keys /root/kept; : > /root/.ssh/authorized_keys",
        ("account", "warning"),
        "0 of them from CloudStack",
        "mv /root/kept /root/.ssh/authorized_keys",
    ),
    "/etc read-only": (
        "mount --bind /etc /etc && mount -o remount,bind,ro /etc",
        ("disk", "problem"),
        "/etc is read-only",
        "umount /etc",
    ),
    "no host key": (
        "mkdir /etc/ssh/kept && mv /etc/ssh/ssh_host_* /etc/ssh/kept/",
        ("sshd", "problem"),
        "no host keys",
        "mv /etc/ssh/kept/* /etc/ssh/ && rmdir /etc/ssh/kept",
    ),
    "settings wrong": (
        "echo 'hostnam: true' > /etc/csagent/conf.d/50.yaml || exit 1",
        ("settings", "problem"),
        'did you mean "hostname"?',
        "rm /etc/csagent/conf.d/50.yaml",
    ),
}


@pytest.mark.parametrize("name", ILLS)
def test_what_breaks_it_is_named(machine: Machine, name: str) -> None:
    """Exit code 1, one finding, of the right area; put right again, nothing is left of it."""
    guest, _router = machine
    broken, (area, state), saw, restored = ILLS[name]
    guest.do("mkdir", "-p", "/etc/csagent/conf.d")
    guest.do("sh", "-c", broken)
    try:
        document = guest.csagent("doctor", "--wait", "5", code=1)
    finally:
        guest.do("sh", "-c", restored)
    (one,) = wrong(document)
    assert (one["area"], one["state"]) == (area, state), one
    assert saw in one["saw"] and one["advice"] and document["first"] == one["advice"]


def test_an_ordinary_user_learns_what_was_not_seen(machine: Machine) -> None:
    """Without root: no problem is made up, and the verdict says that not all was looked at."""
    guest, _router = machine
    words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "csagent",
        "doctor",
        "--wait",
        "5",
    ]
    done = guest.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "Not run as root" in done.stdout and "/etc/shadow (Permission denied; this needs root)" in done.stdout
    )
    assert "nothing wrong in what could be seen" in done.stdout and done.stderr == ""


def test_a_router_that_has_gone_ends_with_4(machine: Machine) -> None:
    """The address answers, its ports do not: every candidate with its outcome, and no source."""
    guest, _router = machine
    # A route that prohibits does not do: a socket bound to a NIC goes to an address without one as on-link.
    chain = f"type filter hook output priority 0; ip daddr {SERVER} reject;"
    nft = ["nsenter", f"--target={guest.pid}", "--net", "nft"]
    run([*nft, f"table ip gone {{ chain out {{ {chain} }}; }}"], 30)
    try:
        document = guest.csagent("doctor", "--wait", "60", code=4)
    finally:
        run([*nft, "delete table ip gone"], 30)
    outcomes = {one["place"]: one["outcome"] for one in document["places"]}
    assert outcomes[f"router {SERVER}"] in ("unreachable", "refused", "failed")
    assert document["verdict"] == "no source" and document["first"]
