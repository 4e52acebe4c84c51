"""Words of the command line that name a machine: which are taken, and what is said of the others."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import List

import pytest

from csagent.cli.main import main
from csagent.system.argument_types import host, router

ODD = {
    "turned round": "a\u202eb",
    "nothing that is seen": "\u200b",
    "a control character": "x\x1b[31m",
    "no text": "a\udcff",
    "a long label": "a" * 300,
    "a long label of IDNA": "\u00e9" * 60,
    "a long name": "aa." * 100,
    "an empty label": "a..b",
    "an empty first label": ".a",
    "a dot": ".",
    "two dots at its end": "a..",
    "a character too long": f"{'a.' * 125}aaaa",
    "a blank": " ",
    "a blank in it": "a b",
    "a slash": "a/b",
    "a slash of IDNA": "b\u00fccher\uff0fb",
}
LONGEST = f"{'a.' * 125}aaa"
WITH_A_COLON = {  # and what is said of it as a router
    "a:b": "'b' is not a port",
    "::1": "IPv4 addresses only",
    "http://10.1.1.1": "'http://10.1.1.1' is not HOST or HOST:PORT",
}


@pytest.mark.parametrize(
    "name",
    ["10.1.1.1", "router", "a_b.example", "router.example.", "b\u00fccher.example", LONGEST, f"{LONGEST}."],
)
def test_addresses_and_names_are_taken(name: str) -> None:
    """As they were typed."""
    assert host(name) == name and router(f"{name}:81") == (name, 81)


@pytest.mark.parametrize(
    "command", [["fetch", "--router"], ["doctor", "--router"], ["lab", "router", "--listen"]]
)
@pytest.mark.parametrize("name", ODD)
def test_what_can_be_no_host_name_is_wrong_usage(
    command: List[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that shows what was typed, and nothing that steers a terminal."""
    with pytest.raises(ArgumentTypeError):
        host(ODD[name])
    assert main([*command, ODD[name]]) == 2
    said = capsys.readouterr().err
    assert "can be no host name" in said and said.count("\n") == 1 and said[:-1].isprintable()


@pytest.mark.parametrize("name", WITH_A_COLON)
def test_a_colon_is_in_no_host_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the name of a router, and what is behind it is a port or wrong usage."""
    with pytest.raises(ArgumentTypeError):
        host(name)
    assert main(["lab", "router", "--listen", name]) == 2
    assert "can be no host name" in capsys.readouterr().err
    assert main(["fetch", "--router", name]) == 2
    assert WITH_A_COLON[name] in capsys.readouterr().err
