"""The sample documents, CloudStack's own and odder ones: what is decided for each, as they say."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml

from csagent.apply.network import described, document
from csagent.apply.network.decide import decide
from csagent.apply.network.machine import MANAGERS, Machine
from csagent.apply.network.plan import NetworkPlan, NicPlan
from csagent.sources import network_data

SAMPLES = Path(__file__).resolve().parents[3] / "fixtures" / "network-data"
MORE = {one["name"]: one for one in yaml.safe_load((SAMPLES / "more.yaml").read_text())}
NAMES = [*sorted(path.parent.name for path in SAMPLES.glob("*/expected.yaml")), *MORE]
DHCP_METRIC = 1024  # of systemd-networkd's DHCP route, the weakest that DHCP gives


def expected(name: str) -> Dict[str, Any]:
    if name in MORE:
        return dict(MORE[name])
    return yaml.safe_load((SAMPLES / name / "expected.yaml").read_text())


def described_machine(said: Dict[str, Any], owner: str = MANAGERS[0]) -> Machine:
    nics = {mac: {**nic, "owner": owner} for mac, nic in said["machine"].items()}
    whole = {"machine": nics, "formerly": said.get("formerly", [])}
    return described.machine(json.dumps(whole).encode(), "machine.json")


def planned(name: str, owner: str = MANAGERS[0]) -> Tuple[Dict[str, Any], NetworkPlan]:
    said = expected(name)
    raw = said["document"] if name in MORE else json.loads((SAMPLES / name / "network_data.json").read_text())
    cleaned, reasons = network_data.parse(raw)
    return said, decide(document.of(cleaned), described_machine(said, owner), refused=reasons)


def texts(plan: NetworkPlan) -> List[str]:
    return [file.content or "" for nic in plan.nics for file in nic.files]


def test_all_samples_are_there() -> None:
    """Twenty-two in folders and those of more.yaml, each with the answer and a name of its own."""
    assert len(NAMES) == 22 + 24 == len(set(NAMES))


@pytest.mark.parametrize("owner", MANAGERS)
@pytest.mark.parametrize("name", NAMES)
def test_each_nic_gets_what_the_document_says(name: str, owner: str) -> None:
    """Configure or leave, addresses, routes with their order, name servers, MTU; whoever is in charge."""
    said, plan = planned(name, owner)
    said = {**said, "nics": {**said["nics"], **said.get("nics_of", {}).get(owner, {})}}
    decided = {nic.mac: nic for nic in plan.nics if nic.interface is not None}
    assert set(decided) == set(said["nics"])
    for mac, wanted in said["nics"].items():
        nic = decided[mac]
        assert nic.do == wanted["do"], nic.reason
        assert nic.reason
        if wanted["do"] == "configure":
            check(nic, wanted)
        else:
            assert (nic.wanted, nic.files) == (None, ())


def check(nic: NicPlan, wanted: Dict[str, Any]) -> None:
    assert nic.wanted is not None
    assert nic.wanted.addresses == tuple(wanted["addresses"])
    routes = [{"to": r.to, "via": r.via, "onlink": r.onlink, "order": r.order} for r in nic.wanted.routes]
    assert routes == wanted["routes"]
    assert nic.wanted.dns == tuple(wanted["dns"])
    assert nic.wanted.mtu == wanted["mtu"]
    assert all(route.metric > DHCP_METRIC for route in nic.wanted.routes if route.order > 1)
    text = "".join(file.content or "" for file in nic.files)
    for address in (*wanted["addresses"], *(route["via"] for route in wanted["routes"]), *wanted["dns"]):
        # ifupdown has no place for name servers, without resolvconf or systemd-resolved; here is the latter
        assert str(ipaddress.ip_interface(address).ip) in text


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_of_each_answer(name: str) -> None:
    """What says nothing, what is absent, what was refused, what goes, and what must never be in a file."""
    said, plan = planned(name)
    assert plan.nothing == said.get("nothing", False)
    assert list(plan.absent) == said.get("absent", [])
    assert [nic.mac for nic in plan.nics if nic.do == "remove"] == said.get("formerly", [])
    for nic in plan.nics:
        if nic.do == "remove":
            assert nic.files and all(file.content is None for file in nic.files)
    for text in said.get("refused", []):
        assert any(text in reason for reason in plan.refused), text
    assert "reasons" not in said or len(plan.refused) == said["reasons"], plan.refused
    for text in (*said.get("never", []), *said.get("gone", [])):
        assert not any(text in content for content in texts(plan)), text


@pytest.mark.parametrize("name", NAMES)
def test_a_default_route_of_a_higher_order_has_a_higher_metric(name: str) -> None:
    """In each family, over all NICs."""
    _said, plan = planned(name)
    routes = [route for nic in plan.nics if nic.wanted for route in nic.wanted.routes]
    for version in (4, 6):
        ordered = sorted((one.order, one.metric) for one in routes if one.version == version)
        assert len({order for order, _metric in ordered}) == len(ordered)
        metrics = [metric for _order, metric in ordered]
        assert metrics == sorted(set(metrics))
