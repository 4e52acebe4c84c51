"""The account files: one reading of passwd, group, shadow and login.defs for all who need them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, List

import pytest

from csagent.errors import ApplyError
from csagent.system import accounts
from csagent.system.accounts import Account, Group, Shadow
from csagent.system.seams import System

Etc = Callable[..., System]


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    """A tree whose /etc holds the files that are given."""

    def write(**files: str) -> System:
        (tmp_path / "etc").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / "etc" / name.replace("_", ".")).write_bytes(text.encode("utf-8", "surrogateescape"))
        return System.at(str(tmp_path))

    return write


def test_an_account_has_the_groups_that_name_it(etc: Etc) -> None:
    """Its own group and those among whose members it is, each once."""
    system = etc(
        passwd="root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1000:,,,:/home/alice:/bin/sh\n",
        group="root:x:0:\nsudo:x:27:bob,alice\nalice:x:1000:alice\nnobody:x:9:alicea\n",
    )
    alice = Account("alice", 1000, 1000, "/home/alice", "/bin/sh", (27, 1000))
    assert accounts.passwd(system)[1] == accounts.find(system, "alice") == alice
    assert accounts.groups(system)[1] == Group("sudo", 27, ("bob", "alice"))
    assert accounts.group_names(system, alice) == ["alice", "sudo"]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("bob:x:7:8", Account("bob", 7, 8, "", "", (8,))),
        ("bob:x:7:8::/home/bob", Account("bob", 7, 8, "/home/bob", "", (8,))),
        ("bob:x:7:8::/home/bob:/bin/sh:more", Account("bob", 7, 8, "/home/bob", "/bin/sh", (8,))),
        ("bob:x:7", None),
        ("bob:x:seven:8::/home/bob:/bin/sh", None),
        ("bob:x:\u00b2:8::/home/bob:/bin/sh", None),
        ("bob:x:-1:8::/home/bob:/bin/sh", None),
        ("bob:x:99999999999:8::/home/bob:/bin/sh", None),
        ("", None),
        ("\udcff\udcfe", None),
    ],
)
def test_a_line_that_is_short_or_broken_costs_no_other(etc: Etc, line: str, known: Account) -> None:
    """As for the C library: what is missing at the end is empty, a line without numbers is none."""
    system = etc(passwd=f"{line}\nalice:x:1000:1000::/home/alice:/bin/sh\n")
    found = accounts.passwd(system)
    assert found[:-1] == ((known,) if known else ()) and found[-1].name == "alice"


def test_what_cannot_be_read_has_no_entries(etc: Etc) -> None:
    """No files, no accounts: for the account itself and the shadow entry that is an error of one line."""
    system = etc()
    assert accounts.passwd(system) == accounts.groups(system) == ()
    with pytest.raises(ApplyError, match=r"there is no account bob in .*/etc/passwd: see the setting user"):
        accounts.find(system, "bob")
    with pytest.raises(ApplyError, match=r"cannot read .*/etc/shadow: No such file"):
        accounts.shadow_hash(system, "bob")
    with pytest.raises(FileNotFoundError):
        accounts.shadow(system, "bob")


def test_a_shadow_entry_has_the_fields_that_decide_about_a_login(etc: Etc) -> None:
    """Days are numbers, an empty field is None, and so is nonsense."""
    system = etc(shadow="a:$y$x:19000:0:90:7:14:20000:\nb:!:::::x:\nc:*\nd\n")
    assert accounts.shadow(system, "a") == Shadow("a", "$y$x", 19000, 90, 14, 20000)
    assert accounts.shadow(system, "b") == Shadow("b", "!", None, None, None, None)
    assert accounts.shadow(system, "c") == Shadow("c", "*", None, None, None, None)
    assert accounts.shadow(system, "d") is None and accounts.shadow_hash(system, "a") == "$y$x"
    with pytest.raises(ApplyError, match=r"d has no entry in .*its password lies elsewhere"):
        accounts.shadow_hash(system, "d")


@pytest.mark.parametrize(
    ("field", "locked"),
    [("$y$x", False), ("!$y$x", True), ("!", True), ("*", True), ("x", True), ("", False)],
)
def test_no_password_opens_a_locked_entry(etc: Etc, field: str, locked: bool) -> None:
    """`!` in front locks a password, `*` and `x` are none."""
    entry = accounts.shadow(etc(shadow=f"root:{field}:1::::::\n"), "root")
    assert entry is not None and entry.locked is locked


def test_a_shadow_file_is_changed_in_its_named_lines_only() -> None:
    """Other lines, broken ones and bytes that are no text stay as they are."""
    text = "root:a:1::::::\nrooty:b:1::::::\n\udcff:c\nalice:d:1::::::\nroot\n"

    def change(fields: List[str]) -> None:
        fields[1:3] = "NEW", "7"

    assert accounts.edit_shadow(text, ["root", "alice"], change) == (
        "root:NEW:7::::::\nrooty:b:1::::::\n\udcff:c\nalice:NEW:7::::::\nroot\n"
    )


def test_login_defs_says_where_people_begin(etc: Etc) -> None:
    """A number; what is a remark, or none, leaves the default."""
    system = etc(login_defs="#UID_MIN 7\nUID_MIN\t\t500\nUID_MAX many\n")
    assert accounts.login_defs(system, "UID_MIN", accounts.FIRST_PERSON) == 500
    assert accounts.login_defs(system, "UID_MAX", accounts.LAST_PERSON) == 60000


def test_the_running_system_is_asked_by_its_name_service() -> None:
    """On / itself the name service answers, not the file."""
    import pwd

    entry = pwd.getpwuid(os.getuid())
    found = accounts.find(System.at("/"), entry.pw_name)
    assert (found.uid, found.home) == (entry.pw_uid, entry.pw_dir) and entry.pw_gid in found.groups
    assert accounts.group_names(System.at("/"), found)
    with pytest.raises(ApplyError, match="there is no account no-such-account: see the setting user"):
        accounts.find(System.at("/"), "no-such-account")


@pytest.mark.parametrize(
    ("uid", "gid", "shell", "words"),
    [
        (104, 110, "/usr/sbin/nologin", ""),
        (999, 65534, "/sbin/nologin", ""),
        (104, 110, "/bin/false", ""),
        (1500, 1500, "/usr/sbin/nologin", "a person's"),
        (104, 1000, "/usr/sbin/nologin", "a person's"),
        (104, 110, "/bin/bash", "its shell is /bin/bash"),
        (104, 110, "", "its shell is /bin/sh"),
        (104, 0, "/usr/sbin/nologin", "root's"),
        (0, 110, "/usr/sbin/nologin", "root's"),
    ],
)
def test_whose_account_may_read_strangers_bytes(
    system: System, uid: int, gid: int, shell: str, words: str
) -> None:
    """A system account without a shell, in no group of root's or a person's."""
    reason = accounts.why_no_reader(system, accounts.Account("csagent", uid, gid, "/", shell))
    assert words in reason and bool(words) == bool(reason)
