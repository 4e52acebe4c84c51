"""Accounts and groups, with the system's own tools; in a tree, in its own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, NamedTuple, Optional, Tuple

from csagent.errors import ApplyError
from csagent.model import NOTHING, Secret
from csagent.user_data.execute import account_tools, tree_accounts

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SUDOERS_FOLDER = "/etc/sudoers.d"
SUDOERS = SUDOERS_FOLDER + "/90-cloud-init-users"
OPTIONS = {
    "gecos": "--comment",
    "homedir": "--home",
    "primary_group": "--gid",
    "uid": "--uid",
    "shell": "--shell",
    "expiredate": "--expiredate",
    "inactive": "--inactive",
    "selinux_user": "--selinux-user",
}
FLAGS = {"system": "--system", "no_user_group": "--no-user-group", "no_log_init": "--no-log-init"}
LOGIN_AS = (
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,"
    'command="echo \'Please login as the user \\"$USER\\" rather than the user \\"$DISABLE_USER\\".\';'
    'echo;sleep 10;exit 142"'
)
"""cloud-init's disable_root_opts: a key that only says who to log in as."""


class AddGroup(NamedTuple):
    """Make a group, and put accounts that exist into it."""

    name: str
    members: Tuple[str, ...] = ()

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not account_tools.has_group(machine, self.name):
            account_tools.make_group(machine, self.name)
        for member in self.members:
            if account_tools.has_user(machine, member):
                account_tools.join_group(machine, member, self.name)
            else:
                machine.warn(f"{member[:60]} does not exist and was not put into the group {self.name}")


class AddUser(NamedTuple):
    """Make an account, or give an existing one what it gets again each time (field/user-data#U57).

    `texts` and `switches` are useradd's. `only_new`: an existing account is left alone.
    `lock`: None leaves the password as it is. `may_make`: false for a default user that only the setting
    create_user makes.
    """

    name: str
    texts: Mapping[str, str] = NOTHING
    switches: Tuple[str, ...] = ()
    groups: Tuple[str, ...] = ()
    create_groups: bool = True
    lock: Optional[bool] = True
    sudo: Tuple[str, ...] = ()
    keys: Tuple[str, ...] = ()
    redirect_to: str = ""
    passwd: Optional[Secret] = None
    hashed: Optional[Secret] = None
    plain: Optional[Secret] = None
    only_new: bool = False
    may_make: bool = True

    def carry_out(self, machine: "Machine") -> None:
        """Each of what the account gets is tried, also where one of them fails.

        Raises:
            StepFailed: something of it was not done.
        """
        new = not account_tools.has_user(machine, self.name)
        if new:
            if not self.may_make:
                machine.fail(f"there is no account {self.name}, and the setting create_user does not make it")
            self._create(machine)
        elif self.only_new:
            return
        problems: List[str] = []
        for part in (self._passwords, self._sudo, self._keys):
            try:
                part(machine, new)
            except ApplyError as error:
                problems.append(str(error))
        if problems:
            machine.fail("; ".join(problems))

    def _create(self, machine: "Machine") -> None:
        wanted = [*self.groups]
        if self.texts.get("primary_group"):
            wanted.append(self.texts["primary_group"])
        for group in wanted if self.create_groups else ():
            if not account_tools.has_group(machine, group):
                account_tools.make_group(machine, group)
        if not machine.system.live:
            tree_accounts.add_user(machine.system, self.name, self.texts, self.switches, self.groups)
            return
        words = ["useradd"]
        for key, option in sorted(OPTIONS.items()):
            if self.texts.get(key):
                words += [option, self.texts[key]]
        words += ["--groups", ",".join(self.groups)] if self.groups else []
        # Without a shell of its own the account gets that of useradd's defaults, as with cloud-init.
        words += [flag for key, flag in FLAGS.items() if key in self.switches]
        words += ["-M" if {"no_create_home", "system"} & set(self.switches) else "-m", "--", self.name]
        machine.command(words, quiet=True)

    def _passwords(self, machine: "Machine", new: bool) -> None:
        if self.name == machine.keeps_password and not new:
            if self.lock or self.hashed is not None or self.plain is not None:
                machine.warn(f"{self.name} has CloudStack's own password, which stays")
            return
        given = False
        if new and self.passwd is not None:
            account_tools.set_password(machine, self.name, self.passwd, hashed=True)
            given = True
        elif self.passwd is not None and self.hashed is None and self.plain is None:
            machine.warn(f"{self.name} existed before: passwd is for new accounts, use hashed_passwd")
        for secret, hashed in ((self.plain, False), (self.hashed, True)):
            if secret is not None:
                account_tools.set_password(machine, self.name, secret, hashed=hashed)
                given = True
        if self.lock:
            account_tools.lock_password(machine, self.name)
        elif self.lock is False and not new:
            account_tools.unlock_password(machine, self.name)
        elif new and not given:
            machine.warn(f"{self.name} has no password although lock_passwd is false: it stays locked")

    def _sudo(self, machine: "Machine", _new: bool) -> None:
        if not self.sudo:
            return
        lines = [f"# User rules for {self.name}", *(f"{self.name} {rule}" for rule in self.sudo)]
        block = "\n".join(lines) + "\n"

        def with_block(before: str) -> str:
            if block in before:
                return before
            head = "" if before else "# Written by csagent for the user-data of this instance\n"
            text = f"{before}{head}\n{block}"
            account_tools.check_sudoers(machine, text)
            return text

        try:
            machine.system.tree.mkdir(SUDOERS_FOLDER, 0o750)
        except OSError as error:
            machine.fail(f"cannot make {machine.shown(SUDOERS_FOLDER)}: {error.strerror}")
        machine.change(SUDOERS, with_block, 0o440, keep=False)
        account_tools.include_sudoers(machine, SUDOERS_FOLDER)

    def _keys(self, machine: "Machine", _new: bool) -> None:
        if self.keys:
            account_tools.authorize(machine, self.name, self.keys)
        if self.redirect_to:
            account_tools.authorize(
                machine,
                self.name,
                machine.metadata.get("public-keys", "").splitlines(),
                login_as(self.redirect_to, self.name),
            )


def login_as(user: str, disabled: str, options: str = LOGIN_AS) -> str:
    """The options that stand before a key which only says who to log in as."""
    return options.replace("$USER", user).replace("$DISABLE_USER", disabled)
