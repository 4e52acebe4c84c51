"""The files of each configuration system, against golden ones in tests/fixtures/network-rendered."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Dict

import pytest
from support.network_nics import MAC, SECOND_MAC
from support.replace_fields import replace

from csagent.apply.network import renderers
from csagent.apply.network.machine import (
    IFUPDOWN,
    MANAGERS,
    NETWORKD,
    NETWORKMANAGER,
    RESOLVCONF,
    RESOLVED,
    Machine,
)
from csagent.apply.network.plan import Route, Wanted
from csagent.apply.network.renderers import ifupdown, networkmanager

GOLDEN = Path(__file__).resolve().parents[3] / "fixtures" / "network-rendered"
EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
CASES: Dict[str, Wanted] = {
    "dual-stack": Wanted(
        MAC,
        "ens3",
        ("10.7.0.21/24", "fd00:7::1:ff:fec4:5/64"),
        (Route(EVERYWHERE[4], "10.7.0.1"), Route(EVERYWHERE[6], "fd00:7::1")),
        ("10.7.0.2", "fd00:7::2"),
    ),
    "routed": Wanted(
        MAC,
        "ens3",
        ("203.0.113.10/32", "2001:db8::10/128"),
        (Route(EVERYWHERE[4], "169.254.0.1", onlink=True), Route(EVERYWHERE[6], "fe80::1", onlink=True)),
    ),
    "second-nic": Wanted(
        SECOND_MAC,
        "ens4",
        ("10.8.0.21/24",),
        (Route(EVERYWHERE[4], "10.8.0.1", order=2, metric=2001),),
        mtu=1450,
    ),
    "six-only": Wanted(MAC, "ens3", ("fd00:7::21/64",), (Route(EVERYWHERE[6], "fd00:7::1"),), ("fd00:7::2",)),
    "no-gateway": Wanted(MAC, "ens3", ("10.7.0.21/24", "fd00:7::21/64")),
}


def rendered(manager: str, wanted: Wanted, resolver: str = RESOLVED) -> str:
    """All files, each behind its path and mode."""
    files = renderers.render(manager, wanted, Machine(resolver=resolver), raised=False)
    return "\n".join(f"==> {file.path} {file.mode:04o} <==\n{file.content}" for file in files)


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("case", CASES)
def test_files_are_the_golden_ones(case: str, manager: str) -> None:
    """Byte for byte, modes included; who changes a renderer reads the difference."""
    assert rendered(manager, CASES[case]) == (GOLDEN / f"{case}.{manager}").read_text()


def test_there_is_no_other_golden_file() -> None:
    """Each is of a case that is tested."""
    names = {f"{case}.{manager}" for case in CASES for manager in MANAGERS}
    assert {path.name for path in GOLDEN.iterdir()} == names


def test_ifupdown_hands_name_servers_to_resolvconf() -> None:
    """Where that has resolv.conf; else there is no such line."""
    line = "    dns-nameservers 10.7.0.2 fd00:7::2\n"
    assert line in rendered(IFUPDOWN, CASES["dual-stack"], RESOLVCONF)
    assert "dns" not in rendered(IFUPDOWN, CASES["dual-stack"], "file")


def test_ifupdown_brings_a_nic_up_that_nobody_else_does() -> None:
    """A line of somebody's for that stays the only one."""
    machine = Machine(resolver=RESOLVED)
    for raised, count in ((True, 0), (False, 1)):
        files = renderers.render(IFUPDOWN, CASES["dual-stack"], machine, raised=raised)
        assert sum(str(file.content).count("allow-hotplug ens3\n") for file in files) == count


def test_the_blocks_of_other_nics_stay() -> None:
    """ifupdown's file is shared: one NIC's block changes, the other's does not; a name is one NIC's."""
    machine = Machine(resolver=RESOLVED)
    (_script, first) = renderers.render(IFUPDOWN, CASES["dual-stack"], machine, raised=True)
    both = machine._replace(interfaces=str(first.content))
    (_script, second) = renderers.render(IFUPDOWN, CASES["second-nic"], both, raised=True)
    blocks = ifupdown.blocks_of(str(second.content))
    assert list(blocks) == [MAC, SECOND_MAC]
    assert blocks[MAC] == ifupdown.blocks_of(str(first.content))[MAC]
    moved = replace(CASES["second-nic"], interface="ens3")
    (_script, third) = renderers.render(IFUPDOWN, moved, both, raised=True)
    assert list(ifupdown.blocks_of(str(third.content))) == [SECOND_MAC]


def test_a_planned_block_goes_into_the_file_as_it_is_now() -> None:
    """Two NICs are planned at once and written one after the other: neither takes the other's block away."""
    empty = Machine(resolver=RESOLVED)
    first = renderers.render(IFUPDOWN, CASES["dual-stack"], empty, raised=True)
    second = renderers.render(IFUPDOWN, CASES["second-nic"], empty, raised=True)
    both = ifupdown.renewed(second, SECOND_MAC, str(first[-1].content))
    assert list(ifupdown.blocks_of(str(both[-1].content))) == [MAC, SECOND_MAC]
    gone = ifupdown.without(MAC, str(first[-1].content))
    left = ifupdown.renewed(gone, MAC, str(both[-1].content))
    assert list(ifupdown.blocks_of(str(left[-1].content))) == [SECOND_MAC]
    assert ifupdown.renewed(gone, MAC, str(first[-1].content)) == gone


def test_a_keyfile_in_networkmanagers_spelling_is_the_same_one() -> None:
    """It writes ours anew when it goes back to a checkpoint: that is nobody's change."""
    (file,) = renderers.render(NETWORKMANAGER, CASES["dual-stack"], Machine(), raised=False)
    path = networkmanager.path(MAC)
    theirs = (
        "[connection]\nid=csagent 02:01:00:c4:00:05\n"
        f"uuid={networkmanager.uuid(MAC)}\ntype=ethernet\nautoconnect-priority=50\ntimestamp=1764100000\n\n"
        "[ethernet]\nmac-address=02:01:00:C4:00:05\n\n"
        "[ipv4]\naddress1=10.7.0.21/24,10.7.0.1\ndns=10.7.0.2;\nmethod=manual\nroute-metric=100\n\n"
        "[ipv6]\naddr-gen-mode=stable-privacy\naddress1=fd00:7::1:ff:fec4:5/64,fd00:7::1\n"
        "dns=fd00:7::2;\nmethod=manual\nroute-metric=100\n\n[proxy]\n"
    )
    ours = str(file.content)
    assert renderers.fingerprint(MAC, path, theirs) == renderers.fingerprint(MAC, path, ours)
    edited = theirs.replace("10.7.0.21", "10.7.0.99")
    assert renderers.fingerprint(MAC, path, edited) != renderers.fingerprint(MAC, path, ours)


@pytest.mark.parametrize("manager", MANAGERS)
def test_readers_may_read_them(manager: str) -> None:
    """networkd is no root and wants to read its file, NetworkManager refuses what others may read."""
    files = renderers.render(manager, CASES["dual-stack"], Machine(), raised=False)
    readable = [bool(file.mode & stat.S_IROTH) for file in files]
    assert readable == [manager != NETWORKMANAGER] * len(files)
    assert manager != NETWORKD or files[0].path.startswith("/etc/systemd/network/05-csagent-")
