"""The machine's name servers by its own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from csagent.discovery import resolv_conf
from csagent.discovery.candidates import Resolver
from csagent.system.seams import System

ETC, RESOLVED = resolv_conf.FILES


def machine(root: Path, etc: str, resolved: str = "") -> System:
    """A machine with these files."""
    for path, text in ((ETC, etc), (RESOLVED, resolved)):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text(text)
    return System.at(str(root))


def test_behind_a_resolver_of_the_machine_the_next_file_counts(tmp_path: Path) -> None:
    """systemd-resolved's stub is no server of the network's; nor is one at an address of this machine."""
    system = machine(tmp_path, "nameserver 127.0.0.53\n", "search x.internal\nnameserver 10.1.1.12\n")
    assert resolv_conf.read(system) == (Resolver(("10.1.1.12",), "x.internal", RESOLVED),)
    system = machine(tmp_path, "nameserver 10.1.1.42\n", "nameserver 10.1.1.42\nnameserver 10.1.1.12\n")
    found = resolv_conf.read(system)
    assert resolv_conf.elsewhere(found, {"10.1.1.42"}) == Resolver(("10.1.1.12",), None, RESOLVED)
    assert resolv_conf.elsewhere(found, {"10.1.1.42", "10.1.1.12"}) == Resolver()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_users_file_says_nothing(tmp_path: Path) -> None:
    """Who could write it could name a server of his own."""
    system = machine(tmp_path, "nameserver 10.1.1.66\n", "nameserver 10.1.1.12\n")
    os.chown(tmp_path / ETC[1:], 1000, 1000)
    assert [one.path for one in resolv_conf.read(system)] == [RESOLVED]
