"""Replay captured leases of real DHCP clients: the answer must be the one the server's own log gives."""

import json
import os
import shutil

import pytest
from support.captures import CHOSEN, WHOLE, discover, named, scenarios

from csagent.cli.discover import as_json, as_text


def check(path):
    expected = json.loads((path / "expected.json").read_text())
    found = discover(path)
    leases = {lease.interface: lease for lease in found.leases}
    answers = [expected, *expected.get("other_interfaces", [])]
    whole = not expected.get("cut_by_hand")

    assert set(leases) <= {answer["interface"] for answer in answers}
    assert len(leases) == len(found.leases)
    for answer in answers:
        lease = leases.get(answer["interface"])
        identifier = lease.server_identifier if lease else None
        if answer is expected and "acceptable_answers" in expected:
            assert identifier in expected["acceptable_answers"], found.rejected
        elif expected["server_identifier_recorded"]:
            assert identifier == answer["server_identifier"], found.rejected
        else:
            assert identifier is None
        if lease is not None:
            assert lease.address == answer["address"]
            # Not every client that hides the identifier records the rest; none may record it wrongly.
            complete = whole and identifier is not None
            assert list(lease.routers) == answer["routers"] or (not complete and not lease.routers)
            assert lease.domain_name == answer["domain_name"] or (not complete and lease.domain_name is None)
    if answers[0]["address"] is None:
        assert expected["interface"] not in leases
    assert found.default_interface == expected["interface"]
    check_candidates(expected, answers, found)
    return found


def check_candidates(expected, answers, found):
    """A wrong answer may be asked only as what it truly is: a router, a boot server, another NIC's server."""
    by_interface = {answer["interface"]: answer for answer in answers}
    order = [candidate.default for candidate in found.candidates]
    assert order == sorted(order, reverse=True)
    for candidate in found.candidates:
        answer = by_interface[candidate.interface]
        assert candidate.default == (candidate.interface == expected["interface"])
        assert candidate.source == answer["address"]
        if candidate.address not in expected["wrong_answers"]:
            continue
        if candidate.kind == "server-identifier":
            assert answer is not expected
            assert candidate.address == answer["server_identifier"]
        elif candidate.kind == "next-server":
            assert candidate.address == answer["server_identifier"] or expected["scenario"] == "next-server"
        else:
            assert candidate.kind == "gateway"
            assert candidate.address in answer["routers"]
    identifier = next(
        (lease.server_identifier for lease in found.leases if lease.interface == expected["interface"]), None
    )
    if identifier is not None:
        assert found.candidates[0].address == identifier


@pytest.mark.parametrize("path", named(scenarios(CHOSEN)))
def test_chosen_capture(path):
    """The capture gives the server identifier of the default NIC, or nothing where there is none."""
    check(path)


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the larger collection is not beside this checkout")
@pytest.mark.parametrize("path", named(scenarios(WHOLE)))
def test_every_capture(path):
    """The same for each of the larger collection."""
    check(path)


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the larger collection is not beside this checkout")
def test_choice_covers_every_client_and_situation():
    """Every client and every situation of the larger collection is in the checkout at least once."""
    chosen, whole = scenarios(CHOSEN), scenarios(WHOLE)
    assert {path.parent.name for path in chosen} == {path.parent.name for path in whole}
    assert {path.name for path in chosen} == {path.name for path in whole}


def test_there_are_captures():
    """The checkout holds captures: the parametrised tests above do not pass for lack of them."""
    assert len(scenarios(CHOSEN)) >= 60


@pytest.mark.parametrize("moment", [0, 4102444800])
def test_times_of_files_do_not_matter(tmp_path, moment):
    """A copy whose files were all changed in 1970, or in 2100, gives the same answer."""
    for name in ("dhcpcd-10.1.0/tricky-bytes", "isc-dhclient-4.4.3-P1-2/redundant-rebind"):
        copy = tmp_path / name
        shutil.copytree(CHOSEN / name, copy)
        for folder, _, files in os.walk(copy):
            for file in files:
                os.utime(os.path.join(folder, file), (moment, moment))
        assert check(copy) == discover(CHOSEN / name)


@pytest.mark.parametrize("path", named(scenarios(CHOSEN)))
@pytest.mark.parametrize("width", [80, 40])
def test_capture_is_shown_within_the_width(path, width):
    """What `discover` shows fits an 80- and a 40-column console, and its JSON has the documented keys."""
    found = discover(path)
    assert max(len(line) for line in as_text(found, width, False).split("\n")) <= width
    document = json.loads(json.dumps(as_json(found)))
    assert document["schema"] == 1
    assert set(document) >= {"leases", "candidates", "drives", "platform"}
    for lease in document["leases"]:
        assert set(lease) >= {
            "interface",
            "client",
            "server_identifier",
            "address",
            "routers",
            "domain_name",
            "path",
        }
    for candidate in document["candidates"]:
        assert set(candidate) >= {"address", "interface", "why"}
    assert set(document["platform"]) == {"vendor", "product", "uuid", "cloudstack"}
