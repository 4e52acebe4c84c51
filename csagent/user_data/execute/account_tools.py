"""What is done to accounts and groups: shadow's own tools on the running machine, the files of a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from csagent.errors import ApplyError
from csagent.model import Secret
from csagent.system import accounts
from csagent.system.files import lines_of
from csagent.user_data.execute import tree_accounts

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0
SUDOERS_MAIN = "/etc/sudoers"


def has_user(machine: "Machine", name: str) -> bool:
    """Whether the account exists."""
    try:
        accounts.find(machine.system, name)
    except ApplyError:
        return False
    return True


def has_group(machine: "Machine", name: str) -> bool:
    """Whether the group exists."""
    return accounts.group_id(machine.system, name) is not None


def make_group(machine: "Machine", name: str) -> None:
    """Make a group. Raises: StepFailed."""
    if machine.system.live:
        machine.command(["groupadd", "--", name], quiet=True)
    else:
        tree_accounts.add_group(machine.system, name)


def join_group(machine: "Machine", name: str, group: str) -> None:
    """Put an account into a group, too. Raises: StepFailed."""
    if machine.system.live:
        machine.command(["usermod", "--append", "--groups", group, "--", name], quiet=True)
    else:
        tree_accounts.join_group(machine.system, name, group)


def set_password(machine: "Machine", name: str, secret: Secret, *, hashed: bool) -> None:
    """Set a password, or its hash. Raises: ApplyError; the message has nothing of it."""
    from csagent.apply import password as passwords

    if not hashed:
        passwords.set_password(machine.system, accounts.find(machine.system, name), secret)
        return
    if not machine.system.live:
        tree_accounts.set_hash(machine.system, name, secret.reveal().decode("utf-8", "surrogateescape"))
        return
    line = name.encode() + b":" + secret.reveal() + b"\n"
    done = machine.system.runner.run(["chpasswd", "--encrypted"], stdin=line, timeout=SECONDS)
    if done.code != 0:
        machine.fail(f"chpasswd could not set the hash for {name}", done.code)


def lock_password(machine: "Machine", name: str) -> None:
    """No login with a password. Raises: ApplyError."""
    if machine.system.live:
        machine.command(["usermod", "--lock", "--", name], quiet=True)
        return
    value = accounts.shadow_hash(machine.system, name)
    if not value.startswith("!"):
        tree_accounts.set_hash(machine.system, name, f"!{value}")


def unlock_password(machine: "Machine", name: str) -> None:
    """Logins with the password that it has, where it has one. Raises: ApplyError."""
    value = accounts.shadow_hash(machine.system, name)
    if not value.startswith("!"):
        return
    if not value.lstrip("!").startswith("$"):
        machine.warn(f"{name} has no password: it stays locked")
    elif machine.system.live:
        machine.command(["usermod", "--unlock", "--", name], quiet=True)
    else:
        tree_accounts.set_hash(machine.system, name, value.lstrip("!"))


def expire_password(machine: "Machine", name: str) -> None:
    """A new one at the next login. Raises: ApplyError."""
    if machine.system.live:
        machine.command(["passwd", "--expire", "--", name], quiet=True)
    else:
        tree_accounts.expire(machine.system, name)


def authorize(machine: "Machine", name: str, keys: Sequence[str], options: str = "") -> None:
    """Add keys to an account's file, behind options instead of their own where there are some.

    Raises:
        ApplyError: there is no such account, or its file could not be written.
    """
    from csagent.apply import ssh_keys

    ssh_keys.add_lines(machine.system, accounts.find(machine.system, name), keys, options)


def check_sudoers(machine: "Machine", text: str) -> None:
    """Let visudo look at rules before they are written. Raises: StepFailed."""
    if not machine.system.live or not machine.system.runner.available("visudo"):
        return
    done = machine.system.runner.run(
        ["visudo", "--check", "--quiet", "--file=-"],
        stdin=text.encode("utf-8", "surrogateescape"),
        timeout=SECONDS,
    )
    if done.code is not None and done.code != 0:
        machine.fail("visudo does not accept the sudo rule: it was not written")


def include_sudoers(machine: "Machine", folder: str) -> None:
    """See that /etc/sudoers, where it is, reads the directory of further rules. Raises: StepFailed."""
    if machine.system.tree.exists(SUDOERS_MAIN):
        machine.change(SUDOERS_MAIN, lambda text: _with_include(text, folder), 0o440)


def _with_include(text: str, folder: str) -> str:
    for line in lines_of(text):
        words = line.split()
        if words[:1] in (["@includedir"], ["#includedir"]) and words[1:2] == [folder]:
            return text
    return f"{text}\n@includedir {folder}\n"
