"""A network that drops packets of more than 1,400 bytes: what comes is applied, and the MTU is named.

The guest's NIC and the router's are a pair of Ethernet interfaces in namespaces of the test's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from support.requirements import require
from support.samples import make_key, make_tree

from csagent.lab.router import Cloud, LabRouter
from csagent.lab.vm.namespace import Namespace

ROUTER, GUEST = "10.77.0.1", "10.77.0.2"
# By a hook that sees single packets: the pair is told to hand over no larger pieces (gso_max_segs).
SMALL = """
add table netdev path
add chain netdev path in { type filter hook ingress device veth0 priority 0; policy accept; }
add rule netdev path in meta length > 1414 drop
"""


class Network:
    """A router and a guest, each in a namespace."""

    def __init__(self, router: Namespace, guest: Namespace) -> None:
        self.guest = guest
        sh(router, f"ip link add veth1 type veth peer name veth0 netns {guest.pid}")
        for where, nic, address in ((router, "veth1", ROUTER), (guest, "veth0", GUEST)):
            sh(where, f"ip link set dev {nic} gso_max_segs 1 mtu 1500; ip addr add {address}/24 dev {nic}")
            sh(where, f"ip link set dev {nic} up")
        keys = tuple(make_key(number, f"{'x' * 400}") for number in range(1, 8))
        self.lab = LabRouter(Cloud(instance_id="i-2-3-VM", hostname="web01", ssh_keys=keys), ROUTER)
        router.call(self.lab.start)

    def csagent(self, *words: str) -> Dict[str, Any]:
        """What a command says in JSON."""
        places = ["--router", f"{ROUTER}:{self.lab.port}", "--password-port", str(self.lab.password_port)]
        script = "import sys; sys.argv[0] = 'csagent'; from csagent.cli.main import entry; entry()"
        done = subprocess.run(
            self.guest.command(
                [sys.executable, "-I", "-c", script, *words, *places, "--wait", "3", "--json"]
            ),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        document: Dict[str, Any] = json.loads(done.stdout)
        return document


def sh(where: Namespace, command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run a command in a namespace."""
    words = where.command(["sh", "-ec", command])
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done


@pytest.fixture
def network() -> Iterator[Network]:
    """As it should be, for now."""
    require(("nft", "ip", "unshare", "nsenter"), "a network of its own")
    with Namespace() as router, Namespace() as guest:
        made = Network(router, guest)
        try:
            yield made
        finally:
            made.lab.stop()


def test_the_mtu_is_named_and_lowered(network: Network, tmp_path: Path) -> None:
    """The host name is set, the keys are unknown; doctor's command helps, and then they come."""
    tree = str(make_tree(tmp_path / "guest"))
    sh(network.guest, "nft -f -", SMALL)
    report = network.csagent("--root", tree, "apply")
    assert report["data"]["hostname"]["state"] == "applied"
    keys = report["data"]["ssh_keys"]
    assert keys["state"] == "unknown" and keys["reason"].endswith("see the MTU"), report
    (place,) = [one for one in report["places"] if one["place"].startswith("router ")]
    assert place["outcome"] == "partial" and place["detail"].endswith("see the MTU")

    (found,) = [one for one in network.csagent("doctor")["findings"] if "see the MTU" in one["saw"]]
    assert found["state"] == "warning"
    (command,) = re.findall(r"ip link set dev \S+ mtu 1400", found["advice"])
    (ping,) = re.findall(r"ping [^;]*", found["advice"])
    assert ping == f"ping -c3 -M do -s 1472 {ROUTER}"
    sh(network.guest, command.replace("NIC", "veth0"))
    assert network.csagent("--root", tree, "apply")["data"]["ssh_keys"]["state"] == "applied"
