"""What lets somebody in: authorized_keys, passwords, SSH host keys. These go last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Tuple

from csagent.apply import ssh_keys
from csagent.apply.authorized_keys import merge
from csagent.errors import ApplyError
from csagent.seal import identity, units
from csagent.seal.context import EXPIRE, KEEP, Leftover, Scene
from csagent.seal.rewrite import rewriting, same_label
from csagent.system.accounts import FILE_LIMIT, SHADOW, Account, edit_shadow, parse_shadow

if TYPE_CHECKING:
    from csagent.system.seams import System

UNIT = "csagent-host-keys.service"
# EL and Fedora have them by key type, Arch and others one for all; each makes what is missing.
MAKERS = ("sshd-keygen@.service", "sshd-keygen.service", "sshdgenkeys.service")
SSHD = ("/usr/sbin/sshd", "/usr/bin/sshd")


# Debian's daily copies, until 12; hashes stood in all four of them at one time or another.
BACKUPS = ("shadow.bak", "gshadow.bak", "passwd.bak", "group.bak")


# --- authorized_keys --------------------------------------------------------------------------


def keys(scene: Scene) -> Iterator[Leftover]:
    """Our block in each authorized_keys, and with `all_keys` everybody's lines."""
    for account in scene.people:
        text = authorized(scene, account)
        if text is None:
            continue
        rest = merge(text, ())
        if scene.choice.all_keys and text:
            yield Leftover(ssh_keys.path(account), "empty", _writing(scene, account, True), len(text))
        elif rest != text:
            detail = "csagent's block, and lines of older guest scripts"
            yield Leftover(
                ssh_keys.path(account),
                "rewrite",
                _writing(scene, account, False),
                len(text) - len(rest),
                detail,
            )


def authorized(scene: Scene, account: Account) -> Optional[str]:
    """The text of an account's authorized_keys; None where there is none to be read, or it is not ours to."""
    if not _ours(scene, account):
        return None
    try:
        return ssh_keys.current(scene.system, account)
    except ApplyError as error:
        scene.overlooked.unseen[ssh_keys.path(account)] = str(error).rpartition(": ")[2]
        return None


def _ours(scene: Scene, account: Account) -> bool:
    """Whether there is such a file that is a part of the template: no home that is mounted from elsewhere."""
    name = f"{ssh_keys.DIRECTORY}/{ssh_keys.FILE}"
    home = scene.ground(account.home.rstrip("/") or "/")
    if list(home.find(name)):
        return True
    known = (home.base, home.path(ssh_keys.DIRECTORY), home.path(name))
    if any(path in scene.overlooked.spared or path in scene.overlooked.unseen for path in known):
        return False
    return scene.system.tree.stat(ssh_keys.path(account), follow=False) is not None  # behind a link


def _writing(scene: Scene, account: Account, everything: bool) -> Callable[[], None]:
    def act() -> None:
        if not _ours(scene, account):
            raise ApplyError("it is not there any more, or something is mounted there now")
        with same_label(scene.system, ssh_keys.path(account)):
            if everything:
                ssh_keys.clear(scene.system, account)
            else:
                ssh_keys.write_keys(scene.system, account, ())

    return act


# --- passwords --------------------------------------------------------------------------------


def password(scene: Scene) -> Iterator[Leftover]:
    """The password of root and of the setting `user`, as chosen, and the copies of older hashes.

    `lock` writes `*`: no password fits, and unlike with `!` sshd still takes keys (its LOCKED_PASSWD_PREFIX).
    What CloudStack offers at the first boot replaces the field as a whole.
    """
    chosen = scene.choice.password
    if chosen == KEEP:
        return
    names = sorted({"root", scene.settings.user})

    def change(text: str) -> str:
        return _sealed(text, names, chosen)

    concerned = [name for name in names if change_needed(scene, name)]
    what = "locked until CloudStack sets one" if chosen != EXPIRE else "to be changed at the first login"
    detail = f"{', '.join(concerned)}: {what}"
    yield from rewriting(scene, SHADOW, change, detail, action=chosen, limit=FILE_LIMIT)
    yield from scene.remove("/etc", "shadow-", "gshadow-")
    yield from scene.remove("/var/backups", *BACKUPS)
    yield from scene.empty("/etc/security", "opasswd")


def change_needed(scene: Scene, name: str) -> bool:
    """Whether an account's shadow entry is not yet as chosen."""
    text = scene.text(SHADOW, FILE_LIMIT) or ""
    return _sealed(text, [name], scene.choice.password) != text


def with_password(scene: Scene) -> List[str]:
    """The accounts that a password opens, or none at all does."""
    entries = parse_shadow(scene.text(SHADOW, FILE_LIMIT) or "")
    return [entry.name for entry in entries if not entry.password.startswith(("*", "!"))]


def _sealed(text: str, names: List[str], chosen: str) -> str:
    def change(fields: List[str]) -> None:
        if chosen == EXPIRE and fields[1] and not fields[1].startswith(("*", "!")):
            fields[2] = "0"  # shadow(5): a new password at the next login
        elif fields[1] not in ("!", "!!") and not fields[1].startswith("*"):
            fields[1] = "*"  # also `!` and a hash: `passwd -u` would bring that back, and DES's has no `$`

    return edit_shadow(text, names, change)


# --- host keys --------------------------------------------------------------------------------


def host_keys(scene: Scene) -> Iterator[Leftover]:
    """SSH's host keys, where something makes new ones: without any sshd does not start."""
    maker = maker_of_host_keys(scene.system)
    patterns: Tuple[str, ...] = ("ssh_host_*_key", "ssh_host_*_key.pub", "ssh_host_*_key-cert.pub")
    for leftover in scene.remove("/etc/ssh", *patterns, links=True):
        if maker is None:
            yield Leftover(leftover.path, leftover.action, _refuse, leftover.size, "nothing makes new ones")
        else:
            yield leftover


def maker_of_host_keys(system: "System") -> Optional[str]:
    """What makes host keys at boot where there are none; None for nothing, "" where there is no sshd."""
    tree = system.tree
    if not any(tree.exists(path) for path in SSHD):
        return ""
    if units.enabled(system, UNIT):
        return UNIT
    for name in MAKERS:
        if units.installed(system, name):
            return name
    found = identity.cloud_init_at_boot(system)
    return "cloud-init" if found is not None and "ssh" in found.modules else None


def _refuse() -> None:
    raise ApplyError(
        f"not removed: nothing here makes new ones, and sshd would not start. Do: systemctl enable {UNIT}"
    )
