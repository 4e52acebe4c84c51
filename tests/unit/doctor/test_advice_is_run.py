"""Every advice in csagent's sources is run by a test, or is listed here with the reason why it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest
from support.advice import CASES
from support.advice_case import CLOUD, HAND, Case
from support.advice_texts import COMMAND, TEXTS, Text, pattern, single, texts

TESTS = Path(__file__).resolve().parents[2]
RAN = {
    part for case in CASES for command in (case.commands or (case.advice,)) for part in command.split("; ")
}

# What a text begins with or has in it -> the test that runs its commands.
ELSEWHERE: Dict[str, str] = {
    "see which: ip rule": "system/test_only_root.py::test_doctor_proves_that_only_root_gets_there",
    "ping -c3 -M do -s 1472 {address};": "system/test_small_packets.py::test_the_mtu_is_named_and_lowered",
    "restorecon -RFv": "vm/test_selinux.py::test_the_advice_mends_a_label",
    "csagent network apply --again": "system/test_network_apply.py::test_what_belongs_to_somebody_else",
    "ifdown {nic} && ifup {nic}": "system/test_network_apply.py::test_what_belongs_to_somebody_else",
    "nmcli device connect {nic}": "system/test_network_apply.py::test_what_belongs_to_somebody_else",
    "csagent user-data run --document": "system/test_user_data_network.py::test_includes_of_every_kind",
    "csagent daemon --router": "lab/test_daemon.py::test_a_late_router_is_caught",
    "csagent install-units": "system/test_wheel.py::test_install_units_on_a_machine",
    "csagent seal": "system/test_seal_chroot.py::test_sealed_from_inside_and_back_on_the_first_boot",
}
# What a text has in it -> why no test runs it.
NOT_RUN: Dict[str, str] = {
    "cmk ": "CloudStack's administrator does that, on a management server",
    ".htaccess shows whose": "the virtual router's administrator does that, on the router",
    "timedatectl": "it sets the clock of the machine that runs the tests: namespaces have none",
    "dnf remove cloud-init": "EL has it",
    "chkconfig --del {name}": "EL has it",
    "wicked ifdown": "openSUSE has it",
    "dhcpcd --rebind {nic}": "dhcpcd keeps its lease where it is; no test has it as the only client of a NIC",
    "not seen: df and": "no advice: two things that say nothing",
    "sshd -T was not": "no advice: why sshd_config was read",
    "tar -tzf {}": "no advice: what --bundle prints when it is done; the file is listed beside it",
}
NOT_ADVICE = ("sshd -T",)  # a single command in a list of words


def is_run(text: Text) -> bool:
    """Whether a case of the table has it, printed by the module that it stands in."""
    return any(text.module in case.by and pattern(text.text).search(case.advice) for case in CASES)


def excused(text: str) -> List[str]:
    """The entries of the two lists that are about it."""
    return [part for part in (*ELSEWHERE, *NOT_RUN) if part in text]


def test_each_advice_is_run_or_has_its_reason() -> None:
    """A new one is neither: add a case to tests/support/advice_of_*.py that breaks a machine and runs it."""
    advice = [one for one in texts() if one.module.startswith(TEXTS) and one.text not in NOT_ADVICE]
    assert len(advice) > 130
    assert [one for one in advice if not is_run(one) and not excused(one.text)] == []


def test_each_command_that_other_modules_tell_of_is_run() -> None:
    """What status, plan, seal and errors say to run is among the commands of the table."""
    known = [*RAN, *ELSEWHERE]
    told = [(one, word) for one in texts() if not one.module.startswith(TEXTS) for word in single(one.text)]
    assert len(told) > 15
    assert [one for one, word in told if not any(word in command for command in known)] == []


def test_no_entry_of_the_lists_is_about_nothing() -> None:
    """Advice that is gone is not listed, and the tests that are named are there."""
    everything = [one.text for one in texts()]
    assert [part for part in (*ELSEWHERE, *NOT_RUN) if not any(part in text for text in everything)] == []
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), place


@pytest.mark.parametrize("case", CASES, ids=[f"{number}: {case.saw}" for number, case in enumerate(CASES)])
def test_all_the_commands_of_an_advice_are_run(case: Case) -> None:
    """Without those that are run nothing is left of it that reads like a command, and each is in it."""
    rest = case.advice
    for command in case.commands or (case.advice,):
        if not command.startswith((HAND, CLOUD)):
            assert command in rest, command
            rest = rest.replace(command, "...", 1)
    left = [part for part in rest.split("; ") if COMMAND.search(part) and not excused(part)]
    assert [part for part in left if part not in RAN] == []
    mine = [one for one in texts() if one.module in case.by and one.module.startswith(TEXTS)]
    assert not mine or any(pattern(one.text).search(case.advice) for one in mine)
