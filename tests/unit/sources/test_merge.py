"""From readings to one observation: whose data it is, and which place each datum comes from."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import pytest
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent import validation
from csagent.model import Endpoint, PasswordOffer, Place, Platform, Reading, Refusal, Secret
from csagent.sources.merge import merge

OTHER = "aaaaaaaa-7c1e-4a55-9f0e-6d1b2c3d4e5f"
BOTH = ("router", "drive")
SERVER = Endpoint("10.1.1.1", 8080)
NO_DMI = Platform()
DMI = Platform("Apache Software Foundation", "CloudStack KVM Hypervisor", INSTANCE, True)


def offer(text: bytes, place: str = "p") -> PasswordOffer:
    return PasswordOffer("offered", Secret(text), place)


def router(instance: Optional[str] = INSTANCE, **fields: Any) -> Reading:
    return Reading(
        "router", "router 10.1.1.1", instance, fields.pop("metadata", {"local-hostname": "r"}), **fields
    )


def drive(instance: Optional[str] = INSTANCE, place: str = "drive /dev/sr1", **fields: Any) -> Reading:
    return Reading("drive", place, instance, fields.pop("metadata", {"local-hostname": "d"}), **fields)


def test_the_first_source_wins_per_datum() -> None:
    """Each datum comes from the first trusted place that has it, and says which."""
    seen = merge(
        [drive(ssh_keys=(make_key(1),), user_data=b"#!/bin/sh"), router(password=offer(b"EXAMPLE"))],
        [],
        NO_DMI,
        BOTH,
    )
    assert seen.hostname == "r" and seen.provenance["hostname"] == "router 10.1.1.1"
    assert seen.ssh_keys == (make_key(1),) and seen.provenance["ssh_keys"] == "drive /dev/sr1"
    assert seen.password.value == Secret(b"EXAMPLE") and seen.user_data is not None
    assert merge([drive(), router()], [], NO_DMI, ("drive", "router")).hostname == "d"
    assert merge([drive(), router()], [], NO_DMI, ("drive",)).provenance["metadata"] == "drive /dev/sr1"


@pytest.mark.parametrize("reading", [router(OTHER), drive(OTHER)])
def test_dmi_says_who_we_are(reading: Reading) -> None:
    """Where DMI is CloudStack's, data of another UUID is nobody's business, from either channel (22, 23)."""
    seen = merge([reading], [Place(reading.place, "w", "ok")], DMI, BOTH)
    assert not seen.source_found and seen.hostname is None
    assert seen.places[0].outcome == "foreign" and INSTANCE in seen.places[0].detail


def test_without_dmi_the_drive_says_who_we_are() -> None:
    """A drive is attached to this VM alone; an address is passed on (field/cloudstack#edge-23, #edge-65)."""
    seen = merge([router(OTHER), drive()], [], NO_DMI, BOTH)
    assert seen.instance_id == INSTANCE and seen.hostname == "d"


def test_a_stale_drive_of_another_instance_loses_to_dmi() -> None:
    """With DMI on the router's side the drive is the stranger."""
    assert merge([router(), drive(OTHER)], [], DMI, BOTH).hostname == "r"


def test_two_drives_that_disagree() -> None:
    """Of two drives the one that DMI names counts; without DMI the first found (field/cloudstack#edge-58)."""
    two = [
        drive(OTHER, "drive /dev/sr0"),
        drive(INSTANCE, "drive /dev/sr1", metadata={"local-hostname": "mine"}),
    ]
    assert merge(two, [], DMI, BOTH).hostname == "mine"
    assert merge(two, [], NO_DMI, BOTH).instance_id == OTHER


def test_old_instance_names_are_compared_with_nothing() -> None:
    """i-2-3-VM and a UUID may be the same VM: neither makes the other foreign (22)."""
    seen = merge([router("i-2-3-VM"), drive()], [], DMI, BOTH)
    assert seen.instance_id == "i-2-3-VM" and seen.hostname == "r"


def test_a_refused_host_name_falls_to_the_next_place() -> None:
    """An address for a host name is refused and the drive's is used; the refusal stays on record (19)."""
    seen = merge([router(metadata={"local-hostname": "203.0.113.9"}), drive()], [], NO_DMI, BOTH)
    assert seen.hostname == "d" and seen.refusals[0].datum == "hostname"


def test_public_hostname_is_never_the_host_name() -> None:
    """public-hostname is often an address, and never asked (19)."""
    assert merge([router(metadata={"public-hostname": "web"})], [], NO_DMI, BOTH).hostname is None


def test_two_passwords() -> None:
    """The first place's is the offer, the other is known as outranked, and nothing shows either (44)."""
    seen = merge(
        [router(password=offer(b"EXAMPLE-r", "r")), drive(password=offer(b"EXAMPLE-d", "d"))],
        [],
        NO_DMI,
        BOTH,
    )
    assert seen.password.value == Secret(b"EXAMPLE-r") and seen.outranked == (offer(b"EXAMPLE-d", "d"),)
    assert "EXAMPLE" not in repr(seen)
    same = merge([router(password=offer(b"EXAMPLE")), drive(password=offer(b"EXAMPLE"))], [], NO_DMI, BOTH)
    assert same.outranked == () and not same.refusals


@pytest.mark.parametrize("sources", [BOTH, BOTH[::-1]])
def test_the_same_password_in_both(sources: Sequence[str]) -> None:
    """Whichever is asked first, the router's server waits to be told (field/cloudstack#edge-39, #edge-43)."""
    offered = offer(b"EXAMPLE")._replace(endpoints=(SERVER,))
    seen = merge([router(password=offered), drive(password=offer(b"EXAMPLE"))], [], NO_DMI, sources)
    assert seen.password.endpoints == (SERVER,)


@pytest.mark.parametrize("sources", [BOTH, BOTH[::-1]])
def test_none_and_unknown(sources: Sequence[str]) -> None:
    """A drive without a password says nothing of the servers': theirs counts, and who has forgotten it."""
    none = PasswordOffer("none", None, "server", "saved_password", (SERVER,))
    of_drive = PasswordOffer("none", reason="no vm_password.txt on the drive")
    silent = PasswordOffer(reason="timed out")

    def seen(*readings: Reading) -> PasswordOffer:
        return merge(readings, [], NO_DMI, sources).password

    assert seen(router(password=none), drive(password=of_drive)) == none
    assert seen(router(password=silent), drive(password=of_drive)) == silent
    assert seen(router(password=none), drive()) == none
    assert seen(router(), drive(password=of_drive)) == seen(drive(password=of_drive)) == of_drive
    assert merge([], [], NO_DMI, sources).password.state == "unknown"


def test_doubt_is_of_the_place_that_gave_the_value() -> None:
    """A drive whose keys are cut spoils nothing where the router's are taken; the other way round it does."""
    bad_drive = replace(drive(), ssh_keys=(make_key(1),), doubts={"ssh_keys": "line 2: cut"})
    good = replace(router(), ssh_keys=(make_key(2),))
    assert merge([good, bad_drive], [], NO_DMI, BOTH).doubts == {}
    seen = merge([good, bad_drive], [], NO_DMI, ("drive", "router"))
    assert (seen.ssh_keys, seen.doubts) == ((make_key(1),), {"ssh_keys": "line 2: cut"})


def test_a_doubt_of_a_better_place_counts() -> None:
    """What it said and was not believed may have been more: the worse place's value revokes nothing."""
    bad_router = replace(router(), doubts={"ssh_keys": "listed, but 404"})
    good = replace(drive(), ssh_keys=(make_key(1),))
    seen = merge([bad_router, good], [], NO_DMI, BOTH)
    assert seen.ssh_keys == (make_key(1),)
    assert seen.doubts == {"ssh_keys": f"{bad_router.place}: listed, but 404"}


def test_a_doubt_without_a_value_is_a_refusal() -> None:
    """Nobody gave a key, and somebody has not been understood: that is not "there is none"."""
    seen = merge([replace(drive(), doubts={"ssh_keys": "line 2: cut"})], [], NO_DMI, BOTH)
    assert seen.doubts == {} and Refusal("ssh_keys", drive().place, "line 2: cut") in seen.refusals


def test_refusals_carry_the_datum_they_concern() -> None:
    """Refusals of the readers are told under the name of the datum."""
    reading = replace(router(), refusals=(Refusal("public-keys", "p", "cut"), Refusal("tier", "p", "HTML")))
    assert [one.datum for one in merge([reading], [], NO_DMI, BOTH).refusals] == ["ssh_keys", "tier"]


def turned(uuid: str) -> str:
    """A UUID whose first three fields are in the other byte order."""
    first, second, third, *rest = uuid.split("-")
    return "-".join((*(bytes.fromhex(one)[::-1].hex() for one in (first, second, third)), *rest))


def test_a_uuid_in_the_other_byte_order_is_the_same_machine() -> None:
    """SMBIOS has it in one order, firmware may show it in the other; any other difference counts."""
    other = DMI._replace(uuid=turned(INSTANCE).upper())
    assert turned(INSTANCE) != INSTANCE
    for reading in (router(), drive()):
        assert merge([reading], [], other, BOTH).instance_id == INSTANCE
    assert not validation.is_anothers(INSTANCE, other) and validation.is_proven(INSTANCE, other)
    for wrong in (OTHER, turned(OTHER), INSTANCE[::-1], "-".join(INSTANCE.split("-")[::-1])):
        assert not merge([router(wrong)], [], other, BOTH).source_found or not validation.is_uuid(wrong)
        assert not validation.is_proven(wrong, other)
    assert merge([router(turned(INSTANCE)), drive()], [], NO_DMI, BOTH).hostname == "r"


def test_what_a_drive_calls_this_vm_is_this_machine() -> None:
    """Its ids, by which memory may know the machine; a router's word for it is none."""
    seen = merge(
        [router("i-2-3-VM"), drive(INSTANCE, metadata={"vm-id": "i-2-4-VM"}), drive(OTHER, "drive /dev/sr2")],
        [],
        DMI,
        BOTH,
    )
    assert seen.drive_ids == (INSTANCE, "i-2-4-VM")


def test_of_two_drives_networks_the_first_counts() -> None:
    """The other one is named, where it says something else."""
    one, two = {"networks": [1]}, {"networks": [2]}
    seen = merge([drive(network=one), drive(place="drive /dev/sr2", network=two)], [], NO_DMI, BOTH)
    assert seen.network == one and seen.provenance["network"] == "drive /dev/sr1"
    (refusal,) = [one for one in seen.refusals if one.datum == "network"]
    assert refusal.reason == "drive /dev/sr2 says something else than drive /dev/sr1, which counts"
    assert not merge([drive(network=one), drive(place="x", network=one)], [], NO_DMI, BOTH).refusals
