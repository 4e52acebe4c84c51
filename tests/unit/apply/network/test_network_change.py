"""A change of a NIC: written, looked up, kept or put back, and what a kill at any step comes to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from support.fake_networkd import IFINDEX, FakeNetworkd, Killed
from support.network_nics import MAC, SECOND_MAC, THIRD_MAC, link, network, parsed, raw_document, usual

from csagent.apply.network import executor, kernel, probe, recovery, verify
from csagent.apply.network.decide import decide
from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.machine import Assigned, Hop
from csagent.apply.network.plan import Wanted
from csagent.apply.network.renderers import networkd
from csagent.apply.network.survey import survey
from csagent.errors import ApplyError
from csagent.log import nothing
from csagent.plan import NicOutcome
from csagent.state import network as state

GOOD = usual()
CHANGED = usual("10.7.0.22/24")
BAD = usual("10.7.0.66/24", "10.7.0.77")
PATH = networkd.path(MAC)
DHCP = "[Match]\nName=e*\n[Network]\nDHCP=yes\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNetworkd:
    """DHCP is configured and does not answer; the document's gateway does."""
    made = FakeNetworkd(tmp_path / "root", monkeypatch)
    (tmp_path / "root/etc/systemd/network").mkdir(parents=True)
    (tmp_path / "root/etc/systemd/network/80-all.network").write_text(DHCP)
    made.gateways = {"10.7.0.1"}
    return made


def apply(machine: FakeNetworkd, document: object = GOOD, again: bool = False) -> NicOutcome:
    """One pass of the network."""
    system = machine.system
    begun = recovery.recover(system, nothing)
    if recovery.waits(begun):
        assert begun is not None
        return begun
    memory = state.load(system)
    plan = decide(document, survey(system, ()), memory, again=again)  # type: ignore[arg-type]
    (outcome,) = executor.carry_out(system, plan, memory)
    return outcome


def given(machine: FakeNetworkd) -> Optional[str]:
    """The address that the kernel has."""
    return machine.addresses[0].address if machine.addresses else None


def written_at(machine: FakeNetworkd) -> Tuple[int, int]:
    """Which file the memory is, and since when; reading it changes neither."""
    status = machine.system.tree.stat(state.APPLIED)
    assert status is not None
    return status.st_ino, status.st_mtime_ns


def test_what_is_in_force_is_not_touched_again(machine: FakeNetworkd) -> None:
    """The second pass reloads nothing and writes nothing."""
    assert apply(machine).state == "applied"
    assert given(machine) == "10.7.0.21/24" and machine.reloads() == 1
    before = written_at(machine)
    assert apply(machine).state == "unchanged"
    assert machine.reloads() == 1 and written_at(machine) == before
    assert not machine.system.tree.exists(state.PENDING)


def test_a_bad_gateway_is_put_back_and_not_tried_again(machine: FakeNetworkd) -> None:
    """Until the document changes, or somebody says so."""
    apply(machine)
    failed = apply(machine, BAD)
    assert failed.state == "failed" and failed.wrong
    assert failed.reason == "the gateway 10.7.0.77 does not answer; the former state is back"
    assert given(machine) == "10.7.0.21/24" and "10.7.0.21" in str(machine.file())
    reloads = machine.reloads()
    left = apply(machine, BAD)
    assert left.state == "failed" and "tried before with this document" in left.reason
    assert machine.reloads() == reloads
    machine.gateways.add("10.7.0.77")
    assert apply(machine, BAD, again=True).state == "applied"
    assert given(machine) == "10.7.0.66/24"


def test_another_document_after_a_failure_is_tried(machine: FakeNetworkd) -> None:
    """What failed stands for itself only."""
    apply(machine)
    apply(machine, BAD)
    assert apply(machine, CHANGED).state == "applied"
    assert given(machine) == "10.7.0.22/24"


def test_a_change_whose_way_back_could_not_be_read_is_not_begun(machine: FakeNetworkd) -> None:
    """The former files are in its record: with nothing of it changed, nothing has to be put back."""
    former = (state.Former("/etc/resolv.conf", b"#" * state.SIZE_LIMIT),)
    with pytest.raises(ApplyError, match="could not be read again"):
        state.begin(machine.system, state.Pending(MAC, "ens3", "systemd-networkd", former=former))
    assert state.pending(machine.system) is None and not machine.system.tree.exists(state.PENDING)


def test_a_nic_that_is_gone_without_a_file_is_forgotten(machine: FakeNetworkd) -> None:
    """NICs that come and go would fill the memory, until it cannot be read and all of it is lost."""
    apply(machine)
    gone = state.NicRecord("failed", "source", "the gateway 10.8.0.1 does not answer")
    memory = state.load(machine.system)
    state.save(machine.system, memory._replace(nics={**memory.nics, SECOND_MAC: gone, THIRD_MAC: gone}))
    two = parsed(
        raw_document(
            [link(0, MAC), link(1, SECOND_MAC)],
            [network(0, "10.7.0.21/24", "10.7.0.1"), network(1, "10.8.0.21/24", "10.8.0.1")],
            ["10.7.0.2"],
        )
    )
    apply(machine, two)
    assert set(state.load(machine.system).nics) == {MAC, SECOND_MAC}  # it may be plugged in yet
    apply(machine)
    assert set(state.load(machine.system).nics) == {MAC}


def test_what_was_not_better_is_not_put_back(machine: FakeNetworkd) -> None:
    """The first configuration of a NIC stays, though its gateway is silent, and is looked at again."""
    machine.gateways.clear()
    first = apply(machine)
    assert first.state == "unconfirmed" and first.wrong and "nothing worked before" in first.reason
    assert given(machine) == "10.7.0.21/24"
    assert apply(machine).state == "unconfirmed" and machine.reloads() == 1
    machine.gateways.add("10.7.0.1")
    assert apply(machine).state == "applied"
    assert apply(machine).state == "unchanged"


def test_a_state_that_somebody_elses_gateway_made_good_comes_back(machine: FakeNetworkd) -> None:
    """DHCP's router answered before: our file goes again."""
    machine.addresses = (Assigned("10.9.0.5/24", permanent=False),)
    machine.hops = (Hop(4, "10.9.0.1", 1024),)
    machine.gateways = {"10.9.0.1"}
    assert apply(machine).state == "failed"
    assert machine.file() is None


def test_an_exit_code_of_0_is_not_believed(machine: FakeNetworkd) -> None:
    """A reload without effect: once more by reconfigure, then it is put back."""
    apply(machine)
    machine.deaf = 1
    assert apply(machine, CHANGED).state == "applied"
    assert ("networkctl", "reconfigure", "ens3") in machine.commands
    machine.deaf = 2
    failed = apply(machine, GOOD)
    assert failed.state == "failed" and "it does not have 10.7.0.21/24" in failed.reason
    assert "10.7.0.22" in str(machine.file()) and given(machine) == "10.7.0.22/24"


def test_an_address_of_another_machine_is_put_back(
    machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says dadfailed."""
    apply(machine)
    take = machine.take

    def duplicate() -> None:
        take()
        machine.addresses = tuple(
            one._replace(duplicate=one.address.startswith("10.7.0.22")) for one in machine.addresses
        )

    monkeypatch.setattr(machine, "take", duplicate)
    failed = apply(machine, CHANGED)
    assert failed.state == "failed" and "another machine has 10.7.0.22/24" in failed.reason
    assert given(machine) == "10.7.0.21/24"


def test_a_manager_that_fails_is_a_reason(machine: FakeNetworkd) -> None:
    """Not a traceback; the NIC is left as it was."""
    machine.fails = True
    left = apply(machine)
    assert left.state == "left" and "systemd-networkd does not answer" in left.reason
    assert machine.file() is None


def test_a_manager_that_is_not_up_reads_it_at_its_start(machine: FakeNetworkd) -> None:
    """At early boot: written, and confirmed by the pass after that."""
    machine.active = False
    written = apply(machine)
    assert (written.state, machine.reloads()) == ("written", 0)
    machine.active = True
    machine.take()
    assert apply(machine).state == "applied" and machine.reloads() == 0


def test_an_address_beside_ours_keeps_the_file_from_being_mended(machine: FakeNetworkd) -> None:
    """A reload would take it away; a document that changes does, and so does who asks for it."""
    apply(machine)
    machine.addresses = (*machine.addresses, Assigned("192.0.2.9/24"))
    machine.system.tree.write(PATH, str(machine.file()).encode(), 0o600)
    left = apply(machine)
    assert left.state == "left" and "somebody gave it: 192.0.2.9/24" in left.reason
    assert machine.reloads() == 1
    assert apply(machine, again=True).state == "applied" and machine.reloads() == 2
    assert apply(machine, CHANGED).state == "applied"


def test_somebody_elses_reload_is_waited_out(machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the NIC changes the look begins anew, for half a minute at most."""
    apply(machine)
    began = machine.system.clock.monotonic()
    states = [(Assigned("192.0.2.1/24"),), (Assigned("192.0.2.2/24"),)]

    def seen() -> Kernel:
        elapsed = machine.system.clock.monotonic() - began
        link = LinkSeen("ens3", IFINDEX, MAC, 1500)
        there = machine.addresses if elapsed > 15 else states[int(elapsed) % 2]
        return Kernel((link,), {IFINDEX: there}, {IFINDEX: machine.hops})

    wanted = Wanted(MAC, "ens3", ("10.7.0.21/24",))
    monkeypatch.setattr(kernel, "look", lambda _system: seen())
    assert verify.settle(machine.system, wanted) == ()
    monkeypatch.setattr(
        kernel,
        "look",
        lambda _system: Kernel(
            (LinkSeen("ens3", IFINDEX, MAC, 1500 + int(machine.system.clock.monotonic())),), {}, {}
        ),
    )
    start = machine.system.clock.monotonic()
    assert verify.settle(machine.system, wanted) == ("it does not have 10.7.0.21/24",)
    assert verify.PATIENCE < machine.system.clock.monotonic() - start <= verify.LONGEST + 1


@pytest.mark.parametrize("document", [CHANGED, BAD])
def test_killed_before_the_reload(machine: FakeNetworkd, document: object) -> None:
    """The next pass ends it: the new configuration where it carries, else the former one."""
    apply(machine)
    machine.killed_at = "reload"
    with pytest.raises(Killed):
        apply(machine, document)
    assert machine.system.tree.exists(state.PENDING)
    machine.killed_at = None
    ended = recovery.recover(machine.system, nothing)
    assert ended is not None and not machine.system.tree.exists(state.PENDING)
    expected = ("applied", "10.7.0.22/24") if document is CHANGED else ("failed", "10.7.0.21/24")
    assert (ended.state, given(machine)) == expected
    assert apply(machine, document).state == ("unchanged" if document is CHANGED else "failed")


@pytest.mark.parametrize("count", [0, 1])
def test_killed_while_writing(machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """With the record only, or with the file as well: the former state, then the pass begins anew."""
    apply(machine)
    write = executor.change.write
    done = []

    def writing(*arguments: object) -> None:
        if len(done) == count:
            raise Killed
        done.append(1)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(executor.change, "write", writing)
    plan = CHANGED
    if count == 0:
        with pytest.raises(Killed):
            apply(machine, plan)
    else:
        machine.killed_at = "reload"
        with pytest.raises(Killed):
            apply(machine, plan)
    monkeypatch.setattr(executor.change, "write", write)
    machine.killed_at = None
    assert apply(machine, plan).state in ("applied", "unchanged")
    assert given(machine) == "10.7.0.22/24"
    assert not machine.system.tree.exists(state.PENDING)


def test_killed_while_it_is_put_back(machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former state comes back in the next pass."""
    apply(machine)
    restored = executor.change.put_back

    def dies(*_arguments: object) -> str:
        raise Killed

    monkeypatch.setattr(executor.change, "put_back", dies)
    with pytest.raises(Killed):
        apply(machine, BAD)
    assert given(machine) == "10.7.0.66/24"
    monkeypatch.setattr(executor.change, "put_back", restored)
    assert apply(machine, BAD).state == "failed"
    assert given(machine) == "10.7.0.21/24"


def test_a_cut_change_waits_for_its_manager(machine: FakeNetworkd) -> None:
    """Nothing else is begun before it is up."""
    apply(machine)
    machine.killed_at = "reload"
    with pytest.raises(Killed):
        apply(machine, BAD)
    machine.killed_at, machine.active = None, False
    waits = apply(machine, CHANGED)
    assert waits.state == "written" and "waits for systemd-networkd" in waits.reason
    machine.active = True
    assert apply(machine, CHANGED).state == "applied" and given(machine) == "10.7.0.22/24"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mac": 1}', '{"schema": 1}'])
def test_a_damaged_record_is_passed_over(machine: FakeNetworkd, text: str) -> None:
    """It goes, and the machine is looked at as it is."""
    machine.system.tree.mkdir("/var/lib/csagent/network", 0o700)
    machine.system.tree.write(state.PENDING, text.encode(), 0o600)
    assert apply(machine).state == "applied"
    assert not machine.system.tree.exists(state.PENDING)


@pytest.mark.root
def test_somebody_elses_record_is_not_carried_out(machine: FakeNetworkd) -> None:
    """It names files to put back as root: nothing is changed while it is there, and it stays to be seen."""
    tree = machine.system.tree
    tree.mkdir("/var/lib/csagent/network", 0o700)
    tree.write(state.PENDING, b'{"former": []}', 0o600)
    pending = Path(tree.root + state.PENDING)
    os.chown(pending, 1001, 1001)
    with pytest.raises(ApplyError, match="belongs to user 1001: see what is there, then: chown"):
        apply(machine)
    assert tree.exists(state.PENDING)
    os.chown(pending, 0, 0)
    assert apply(machine).state == "applied"


def test_the_owners_edit_stays(machine: FakeNetworkd) -> None:
    """A choice made inside the VM is not put back before CloudStack says something else."""
    apply(machine)
    edited = str(machine.file()).replace("10.7.0.21", "10.7.0.99")
    machine.system.tree.write(PATH, edited.encode(), 0o644)
    left = apply(machine)
    assert left.state == "left" and "the owner has changed or removed" in left.reason
    assert machine.file() == edited
    assert apply(machine, CHANGED).state == "applied"


def test_nothing_is_written_where_nothing_can_be_remembered(
    machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the change, not the network."""
    from csagent.errors import ApplyError

    def full(*_arguments: object) -> None:
        raise ApplyError("cannot remember: No space left on device")

    monkeypatch.setattr(state, "begin", full)
    failed = apply(machine)
    assert failed.state == "failed" and "No space left" in failed.reason
    assert machine.file() is None and machine.reloads() == 0


def test_records_hold_no_secret_and_are_roots(machine: FakeNetworkd) -> None:
    """0600 below a directory of 0700."""
    apply(machine)
    status = machine.system.tree.stat(state.APPLIED)
    assert status is not None and status.st_mode & 0o777 == 0o600
    text = machine.system.tree.read_text(state.APPLIED)
    assert text is not None and json.loads(text)["nics"][MAC]["state"] == "applied"


def cut_short(machine: FakeNetworkd) -> None:
    """A power cut in the midst of a second document."""
    apply(machine)
    machine.killed_at = "reload"
    with pytest.raises(Killed):
        apply(machine, CHANGED)
    machine.killed_at = None


def test_the_owners_edit_of_a_change_that_was_cut_short_stays(machine: FakeNetworkd) -> None:
    """Between the power cut and the next pass: neither the former state comes back, nor the document's."""
    cut_short(machine)
    edited = str(machine.file()).replace("10.7.0.22", "10.7.0.99")
    machine.system.tree.write(PATH, edited.encode(), 0o644)
    ended = recovery.recover(machine.system, nothing)
    assert ended is not None and ended.state == "left"
    assert f"somebody has changed {PATH} since" in ended.reason
    assert machine.file() == edited
    left = apply(machine, CHANGED)
    assert left.state == "left" and "the owner has changed or removed" in left.reason
    assert machine.file() == edited
    assert apply(machine, GOOD).state == "applied"


def test_a_file_that_the_owner_has_removed_since_does_not_come_back(machine: FakeNetworkd) -> None:
    """It was csagent's, of an earlier document."""
    cut_short(machine)
    machine.system.tree.remove(PATH)
    ended = recovery.recover(machine.system, nothing)
    assert ended is not None and ended.state == "left" and machine.file() is None
    assert apply(machine, CHANGED).state == "left" and machine.file() is None


def test_the_owners_edit_while_the_gateway_is_asked_stays(
    machine: FakeNetworkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who mends a file by hand while csagent still looks is not undone when it puts the former state back."""
    apply(machine)
    edited: List[str] = []

    def ask(_index: int, gateway: str) -> None:
        if gateway == "10.7.0.77" and not edited:
            edited.append(str(machine.file()).replace("10.7.0.77", "10.7.0.1"))
            machine.system.tree.write(PATH, edited[0].encode(), 0o644)

    monkeypatch.setattr(probe, "_ask", ask)
    failed = apply(machine, BAD)
    assert failed.state == "failed" and f"somebody has changed {PATH} since" in failed.reason
    assert [machine.file()] == edited
    assert apply(machine, BAD).state == "failed" and [machine.file()] == edited
