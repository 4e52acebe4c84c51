"""A machine on which only root may reach the router: doctor proves it, and what it advises helps.

Everything is in a network namespace of the test's own, with nothing but loopback in it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from support.requirements import require

from csagent.doctor.reach import open_to_all
from csagent.lab.router import Cloud, LabRouter
from csagent.lab.vm.namespace import Namespace
from csagent.model import Candidate, Found, Observation, Observed, Place
from csagent.sandbox import jail
from csagent.sources.request import Options
from csagent.system.seams import System

PAGE = Path(__file__).resolve().parents[2] / "docs/why-nothing-happened.md"
HOST = "127.0.0.1"
FIREWALL = """
add table inet filter
add chain inet filter output {{ type filter hook output priority 0; policy accept; }}
add rule inet filter output ip daddr {} tcp dport {{ {}, {} }} meta skuid {} {}
"""
# Addresses of the machine itself are looked up before any other rule; here after it.
ROUTING = f"ip rule add pref 5 uidrange 1-65535 to {HOST} prohibit; ip rule add pref 10 lookup local"
KINDS = {"reject with tcp reset": "refused", "drop": "timeout", "a routing rule": "unreachable"}


class Machine:
    """A network namespace with a router on loopback."""

    def __init__(self, network: Namespace) -> None:
        self.network = network
        self.router = LabRouter(Cloud(instance_id="i-2-3-VM", hostname="web01"))
        network.call(self.router.start)
        self.ports = [self.router.port, self.router.password_port]

    def sh(self, command: str, given: str = "") -> None:
        """Run a command in it, `given` on its standard input."""
        words = self.network.command(["sh", "-ec", command])
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"

    def keep_out(self, how: str) -> None:
        """Only root may reach the router from now on."""
        if how == "a routing rule":
            self.sh(f"{ROUTING}; ip rule del pref 0")
        else:
            self.sh("nft -f -", FIREWALL.format(HOST, *self.ports, "!= 0", how))

    def csagent(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of csagent's, asking the router there."""
        places = ["--router", f"{HOST}:{self.ports[0]}", "--password-port", str(self.ports[1])]
        script = "import sys; sys.argv[0] = 'csagent'; from csagent.cli.main import entry; entry()"
        return subprocess.run(
            self.network.command([sys.executable, "-I", "-c", script, *words, *places, "--wait", "0"]),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def routers(self) -> List[Dict[str, Any]]:
        """What doctor finds of the router and its password server."""
        document = json.loads(self.csagent("doctor", "--json").stdout)
        return [one for one in document["findings"] if one["area"] == "router"]


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A router that everybody reaches, for now."""
    require(("nft", "ip", "unshare", "nsenter"), "a namespace with rules of its own")
    with Namespace() as network:
        made = Machine(network)
        try:
            yield made
        finally:
            made.router.stop()


def user() -> str:
    """The number of the user that csagent asks as."""
    known = jail.unprivileged()
    assert known is not None
    return str(known.uid)


@pytest.mark.parametrize("how", KINDS)
def test_doctor_proves_that_only_root_gets_there(machine: Machine, how: str) -> None:
    """It says so, with the rule; run, the router answers csagent, too."""
    machine.keep_out(how)
    found = machine.routers()
    assert [one["state"] for one in found] == ["problem", "note"], found
    assert KINDS[how] in found[0]["saw"] and found[0]["means"].startswith("root reaches it"), found
    rule = "ip rule add" if how == "a routing rule" else "nft insert rule"
    for _port in range(1 if how == "a routing rule" else 2):
        (command,) = re.findall(rf"{rule} .*?(?=; or: |$)", found[0]["advice"])
        machine.sh(command.replace("lookup main", "lookup local"))  # loopback is in no other table
        found = [one for one in machine.routers() if one["means"].startswith("root reaches it")]
    assert found == [] and machine.csagent("fetch").returncode == 0


def test_where_root_does_not_get_there_either_nothing_is_claimed(machine: Machine) -> None:
    """A rule for everybody, root too, is another matter."""
    machine.sh("nft -f -", FIREWALL.format(HOST, *machine.ports, ">= 0", "reject with tcp reset"))
    found = machine.routers()
    assert found and all("root reaches it" not in one["means"] for one in found)


def test_who_gets_there_only_as_another_vm_cannot_ask_for_this_ones_password(machine: Machine) -> None:
    """The router knows VMs by their address: a firewall that keeps users from that one keeps them out."""
    assert any(one["saw"].startswith("any user of this machine can ask") for one in machine.routers())
    (web, word), own = machine.ports, "127.0.0.9"
    candidate = Candidate(HOST, "given", "", source=own, port=web, password_port=word)
    place = Place(f"password server {HOST}:{word}", "", "ok")
    asked = Observed(Found(candidates=(candidate,)), Observation(places=(place,)))
    options = Options(router=(HOST, web), password_port=word)
    assert machine.network.call(lambda: open_to_all(System(), asked, options)) == (f"{HOST}:{word}",)
    machine.sh("nft -f -", FIREWALL.format(f"{HOST} ip saddr {own}", web, word, "!= 0", "drop"))
    assert machine.network.call(lambda: open_to_all(System(), asked, options)) == ()


@pytest.mark.parametrize("how", KINDS)
def test_the_rules_of_the_page_let_csagent_out(machine: Machine, how: str) -> None:
    """Word for word, but for the address, the ports and the number of the account."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("### Only root may reach the router") :].split("\n## ", 1)[0]
    rules = re.findall(r"^    (nft insert rule .*|ip rule add .*)$", section, re.M)
    assert len(rules) == 3
    machine.keep_out(how)
    assert machine.csagent("fetch").returncode == 4
    for rule in rules:
        if rule.startswith("nft") is (how == "a routing rule"):
            continue
        said = rule.replace("10.1.1.1", HOST).replace("80, 8080", ", ".join(map(str, machine.ports)))
        said = said.replace("skuid csagent", f"skuid {user()}").replace("998-998", f"{user()}-{user()}")
        machine.sh(said.replace("lookup main", "lookup local"))
    assert machine.csagent("fetch").returncode == 0
