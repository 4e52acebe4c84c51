"""Our block in /etc/resolv.conf, and what others have written around it."""

from __future__ import annotations

import pytest

from csagent.apply.network.resolver import BEGIN, END, with_servers, without_block

OWNERS = "search example\noptions rotate\nnameserver 192.0.2.53\n"
OURS = f"{BEGIN}\nnameserver 10.7.0.2\n{END}\n"


@pytest.mark.parametrize("before", [OWNERS, OURS + OWNERS, OWNERS + OURS, OURS + OWNERS + OURS])
def test_the_block_is_replaced_and_goes(before: str) -> None:
    """It comes first; what the owner wrote stays, and is all that stays without it."""
    after = with_servers(before, ["10.7.0.3"])
    assert after == f"{BEGIN}\nnameserver 10.7.0.3\n{END}\n{OWNERS}"
    assert without_block(after) == OWNERS


def test_a_block_that_has_lost_its_end() -> None:
    """An editor may have taken the last marker away: nothing behind the first one is ours to remove."""
    torn = f"search example\n{BEGIN}\nnameserver 10.7.0.2\noptions rotate\nnameserver 192.0.2.53\n"
    for after in (with_servers(torn, ["10.7.0.3"]), without_block(torn)):
        assert "options rotate\nnameserver 192.0.2.53\n" in after
        assert after.count(BEGIN) == after.count(END)
