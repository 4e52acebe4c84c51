"""What was applied, durably: `/var/lib/csagent/instances/ID.json`, one file per instance id.

A template or a clone that carries another VM's memory is thus no danger (field/cloudstack#edge-48), and what
the old guest scripts remembered is read from where they kept it (field/cloudstack#7 and #edge-45). Passwords
are remembered as scrypt fingerprints under one random salt per instance, the newest last.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from csagent.errors import ApplyError, Distrusted
from csagent.model import NOTHING, Endpoint, Secret
from csagent.state import instances
from csagent.system import json_limits, trusted_path
from csagent.system.mounts import without_servers

if TYPE_CHECKING:
    from csagent.system.seams import System

STATE = instances.STATE
NO_INSTANCE = instances.NO_INSTANCE
SIZE_LIMIT = instances.SIZE_LIMIT
SCHEMA = 1
PASSWORDS_KEPT = 500
IDS_KEPT = 8
SERVERS_KEPT = 32
USERS_KEPT = 32

# One fingerprint costs 4 MiB for the time of about 10 ms (measured on this project's 2-core machine): six
# characters of CloudStack's alphabet (field/cloudstack#4.7) then take an attacker who is root a core-decade
# to try, where the scripts' MD5 takes seconds.
SCRYPT = {"n": 1 << 12, "r": 8, "p": 1, "dklen": 32}
PBKDF2_ROUNDS = 100_000

# Markers of the scripts that csagent replaces: MD5 of the password plus a newline.
SCRIPT_MARKERS = ("/var/vmpasswordmd5sum",)
SCRIPT_MARKER_IN_HOME = ".password.md5"


class Memory(NamedTuple):
    """What was applied to this machine for one instance id. None: never applied anything of the kind.

    `forgotten_by`: by password server, the fingerprint of the newest password when that server confirmed that
    it has forgotten it. `hostname_todo` and `former_users`: what failed after the main effect and is tried
    again alone (`csagent.plan.FinishHostname`, `RevokeFormer`). `known_as`: the other ids that DMI or a drive
    has shown to be this machine's.
    """

    instance_id: str = NO_INSTANCE
    salt: bytes = b""
    passwords: Tuple[str, ...] = ()
    password_users: Tuple[str, ...] = ()  # for whom the newest was set; () where that is not known
    forgotten_by: Mapping[str, str] = NOTHING
    by_script: str = ""  # the fingerprint of the one that only a script's marker says was set
    hostname: Optional[str] = None
    domain: Optional[str] = None  # that the host name was completed with
    hostname_todo: Mapping[str, str] = NOTHING
    ssh_keys: Optional[Tuple[str, ...]] = None
    keys_beside: bool = False  # others stand in our block, of which nobody can tell whose they are
    ssh_user: Optional[str] = None
    former_users: Tuple[str, ...] = ()
    user_data: Optional[str] = None  # sha256 of the copy that is kept
    user_data_doubt: str = ""  # why that copy is not surely whole; "" where it is
    # By datum, the values that were seen and outdone by a better-trusted place (`decide`, `as_passed_over`).
    passed_over: Mapping[str, Tuple[str, ...]] = NOTHING
    known_as: Tuple[str, ...] = ()
    moved_from: str = ""  # the id under which its file lies still
    nameless: Tuple[str, ...] = ()  # of `passwords`, those set under no id; () once they lie under this one
    script_markers: Tuple[str, ...] = ()  # hexadecimal MD5s left by older scripts
    note: str = ""  # why an existing memory could not be used
    damaged: bytes = b""  # what stood in its file; kept beside it
    withheld: str = ""  # why nothing may be changed: its file knows what was applied, and we do not
    rest: Mapping[str, Any] = NOTHING  # members that a newer csagent wrote

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever applied for this instance, as far as anybody can tell.

        What was applied under no id may have been for another one: a clone carries that along, too.
        """
        nothing = (self.hostname, self.ssh_keys, self.user_data) == (None, None, None)
        return nothing and self.passwords == self.nameless and not self.withheld

    @staticmethod
    def as_passed_over(value: Union[str, Sequence[str]]) -> str:
        """A value as `passed_over` has it: a host name, or the digest of a set of keys."""
        if isinstance(value, str):
            return value
        import hashlib

        return hashlib.sha256("\n".join(value).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def whole_user_data(self) -> Optional[str]:
        """The sha256 of the copy that is kept, where it came whole: no other is ever run."""
        return None if self.user_data_doubt else self.user_data

    def fingerprint(self, secret: Secret) -> str:
        """The fingerprint of a password under this memory's salt."""
        return _fingerprint(self.salt, secret)

    def age_of(self, secret: Secret) -> Optional[str]:
        """`newest` or `older` for a password that was applied before, None for one that never was."""
        if not self.passwords:
            return None
        mark = self.fingerprint(secret)
        if mark == self.passwords[-1]:
            return "newest"
        return "older" if mark in self.passwords else None

    def is_forgotten_by(self, endpoints: Sequence[Endpoint]) -> bool:
        """Whether one of these servers has confirmed that it has forgotten the newest password."""
        newest = self.passwords[-1:]
        return any((self.forgotten_by.get(where(one)),) == newest for one in endpoints)

    def with_forgotten_by(self, endpoints: Sequence[Endpoint]) -> "Memory":
        """The memory after these servers have confirmed it."""
        if not self.passwords:
            return self
        newest = self.passwords[-1]
        kept = {server: mark for server, mark in self.forgotten_by.items() if mark == newest}
        told = {**kept, **{where(one): newest for one in endpoints}}
        return self._replace(forgotten_by=dict(list(told.items())[-SERVERS_KEPT:]))

    def set_by_script(self, secret: Secret) -> bool:
        """Whether an older guest script says that it has set this very password."""
        if not self.script_markers:
            return False
        import hashlib

        # A format of other people's scripts, no protection.
        return hashlib.md5(secret.reveal() + b"\n", usedforsecurity=False).hexdigest() in self.script_markers

    def with_password(self, secret: Secret, user: str = "") -> "Memory":
        """The memory after this password was applied, for an account: it becomes the newest."""
        mark = self.fingerprint(secret)
        others = tuple(known for known in self.passwords if known != mark)
        users = self.password_users if self.passwords[-1:] == (mark,) else ()
        return self._replace(
            passwords=(*others, mark)[-PASSWORDS_KEPT:],
            password_users=tuple(dict.fromkeys((*users, *([user] if user else []))))[-USERS_KEPT:],
            by_script="",
        )

    def never_reached(self, user: str) -> bool:
        """Whether the newest password was set for other accounts alone: the setting `user` has changed."""
        return bool(self.password_users) and user not in self.password_users

    def with_scripts_password(self, secret: Secret) -> "Memory":
        """The memory after a script's marker has said so: that counts for drives, and for no router."""
        return self.with_password(secret)._replace(by_script=self.fingerprint(secret))

    def is_by_script(self, secret: Secret) -> bool:
        """Whether nothing but a script's marker says that this password was applied."""
        return bool(self.by_script) and self.fingerprint(secret) == self.by_script

    def with_older(self, secret: Secret) -> "Memory":
        """The memory that takes this password for an older one from now on: a better-trusted place won."""
        mark = self.fingerprint(secret)
        if mark in self.passwords or not self.passwords:
            return self
        return self._replace(passwords=(*self.passwords[:-1], mark, self.passwords[-1])[-PASSWORDS_KEPT:])


def where(server: Endpoint) -> str:
    """How memory calls a password server."""
    return f"{server.address}:{server.port}"


@lru_cache(maxsize=16)
def _fingerprint(salt: bytes, secret: Secret) -> str:
    """Decided with, then remembered: once is enough for a pass."""
    import hashlib  # 3 MB of OpenSSL, for the passes in which a password is offered

    try:
        return hashlib.scrypt(secret.reveal(), salt=salt, **SCRYPT).hex()
    except (ValueError, AttributeError):  # OpenSSL in FIPS mode, or built without it
        return hashlib.pbkdf2_hmac("sha256", secret.reveal(), salt, PBKDF2_ROUNDS).hex()


def load(
    system: "System", instance_id: Optional[str], home: Optional[str] = None, same: Sequence[str] = ()
) -> Memory:
    """The memory of an instance; an empty one, with a fresh salt, where there is none.

    Args:
        system: whose state directory.
        instance_id: None where no source told it.
        home: the account's home directory, where a script's marker may lie.
        same: the ids that DMI or a drive shows to be this machine's now. A memory under one of them is this
            machine's, too: an id changes its form, from i-2-3-VM to a UUID, when CloudStack is upgraded.
    """
    key = instance_id or NO_INSTANCE
    markers = _script_markers(system, home)
    fresh = Memory(instance_id=key, salt=os.urandom(16), script_markers=markers)
    known = _read(system, key, fresh)
    if known is not None:
        return known
    # A password that was applied before anybody told the id must not be set again once it is known.
    moved = _moved(system, key, fresh, same) if key != NO_INSTANCE else None
    if moved is not None:
        return moved
    nameless = _read(system, NO_INSTANCE, fresh) if key != NO_INSTANCE else None
    if nameless is not None and nameless.withheld:
        return nameless
    if nameless is not None and nameless.passwords:
        return fresh._replace(
            salt=nameless.salt,
            passwords=nameless.passwords,
            nameless=nameless.passwords,
            password_users=nameless.password_users,
            by_script=nameless.by_script,
            forgotten_by=nameless.forgotten_by,
        )
    return fresh


def _moved(system: "System", key: str, fresh: Memory, same: Sequence[str]) -> Optional[Memory]:
    """What this machine remembers under another id."""
    for other in instances.known(system):
        known = _read(system, other, fresh) if other not in (key, NO_INSTANCE) else None
        if known is not None and known.withheld and other in same:
            return known
        if known is None or known.note or known.withheld:
            continue
        if other in same or key in known.known_as or set(same) & set(known.known_as):
            return known._replace(instance_id=key, moved_from=other)
    return None


def _read(system: "System", key: str, fresh: Memory) -> Optional[Memory]:
    path = instances.memory_path(key)
    where = system.tree.shown(path)
    try:
        raw = trusted_path.read_own(system, STATE, path, SIZE_LIMIT)
    except Distrusted as error:
        return fresh._replace(withheld=f"not touched: {error}")
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        why = f"not touched: {where} cannot be read ({error.strerror})"
        return fresh._replace(withheld=f"{why}; mend that, or remove the file for a first run")
    try:
        return _parse(raw, fresh)
    except _Newer as newer:
        return fresh._replace(
            withheld=f"not touched: {where} was written by a newer csagent (schema {newer}); "
            "install that one again, or remove the file for a first run",
        )
    except (ValueError, RecursionError):
        return fresh._replace(note=f"{where} is damaged: taken for a first run", damaged=raw)


def save(system: "System", memory: Memory) -> Memory:
    """Write it down, durably, before anyone is told; the memory as it lies there now.

    Raises:
        ApplyError: it could not be written.
    """
    return _save(system, memory)


def reserve(system: "System", memory: Memory, more: int, keys: Optional[Tuple[str, ...]] = None) -> Memory:
    """Find out whether what will be changed can be remembered: by writing it as it is, and more bytes.

    A memory that stands there as it is says nothing of a disk that has no room for a larger one, nor whether
    it can be read again with these keys.

    Raises:
        ApplyError: it cannot.
    """
    size = len(_dump(system, memory if keys is None else memory._replace(ssh_keys=keys)))
    saved = _save(system, memory)
    room = f"{instances.memory_path(memory.instance_id)}.room"
    try:
        system.tree.write(room, bytes(size + more), 0o600)
        system.tree.remove(room)
    except OSError as error:
        raise _cannot(system, memory, error) from None
    return saved


def _save(system: "System", memory: Memory) -> Memory:
    if memory.withheld:
        raise ApplyError(memory.withheld)
    path = instances.memory_path(memory.instance_id)
    raw = _dump(system, memory)
    try:
        instances.prepare(system)
        if memory.moved_from:
            instances.move(system, memory.moved_from, memory.instance_id)
        instances.note_latest(system, memory.instance_id)
        if memory.damaged:
            system.tree.write(path + ".damaged", memory.damaged, 0o600)
        system.tree.write(path, raw, 0o600)
        if memory.moved_from:
            instances.remove(system, memory.moved_from)
    except OSError as error:
        raise _cannot(system, memory, error) from None
    instances.prune(system)
    return memory._replace(moved_from="", damaged=b"", nameless=())


def _cannot(system: "System", memory: Memory, error: OSError) -> ApplyError:
    path = instances.memory_path(memory.instance_id)
    beside = (instances.STATE, instances.INSTANCES, instances.LATEST, f"{path}.damaged", f"{path}.room")
    if error.errno == errno.EISDIR:
        path = next((one for one in beside[2:] if _is_directory(system, one)), path)
    elif error.errno == errno.ENOTDIR:
        path = next((one for one in beside[:2] if not _is_directory(system, one)), path)
    return ApplyError(f"cannot remember in {system.tree.shown(path)}: {error.strerror}")


def _is_directory(system: "System", path: str) -> bool:
    status = system.tree.stat(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _dump(system: "System", memory: Memory) -> bytes:
    """What stands in its file; ApplyError where it could not be read again."""
    document = {
        **memory.rest,
        "schema": memory.rest.get("schema", SCHEMA),
        "instance_id": memory.instance_id,
        "salt": memory.salt.hex(),
        "passwords": list(memory.passwords),
        "password_users": list(memory.password_users),
        "forgotten_by": dict(memory.forgotten_by),
        "by_script": memory.by_script,
        "hostname": memory.hostname,
        "domain": memory.domain,
        "hostname_todo": dict(memory.hostname_todo),
        "ssh_keys": None if memory.ssh_keys is None else list(memory.ssh_keys),
        "keys_beside": memory.keys_beside,
        "ssh_user": memory.ssh_user,
        "former_users": list(memory.former_users),
        "user_data": memory.user_data,
        "user_data_doubt": memory.user_data_doubt,
        "passed_over": dict(memory.passed_over),
        "known_as": list(memory.known_as),
    }
    raw = json.dumps(document, indent=1).encode() + b"\n"
    try:
        if len(raw) > SIZE_LIMIT:
            raise ValueError(f"more than {SIZE_LIMIT >> 20} MiB")
        json_limits.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _cannot(system, memory, OSError(errno.EFBIG, f"it could not be read again ({error})")) from None
    return raw


def last_instance(system: "System") -> Optional[str]:
    """The id that was remembered last, for a pass in which nobody says whose machine this is."""
    return next(iter(instances.known(system)), None)


def user_data_path(instance_id: Optional[str]) -> str:
    """Where the user-data of an instance is kept, 0600."""
    return f"{instances.INSTANCES}/{instances.stem(instance_id or NO_INSTANCE)}.user-data"


class _Newer(Exception):
    """A memory of a later schema that lacks what we need, or means something else by it."""


def _parse(raw: bytes, fresh: Memory) -> Memory:
    document = json_limits.loads(raw)
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        raise ValueError("not a memory")
    schema = document["schema"]
    if schema <= SCHEMA:
        return _members(document, fresh)
    if not {"salt", "passwords", "hostname", "ssh_keys", "ssh_user", "user_data"} <= set(document):
        raise _Newer(schema)
    try:
        return _members(document, fresh)
    except ValueError:
        raise _Newer(schema) from None


def _members(document: Dict[str, Any], fresh: Memory) -> Memory:
    keys = document.pop("ssh_keys", None)
    document.pop("instance_id", None)
    if document["schema"] <= SCHEMA:
        del document["schema"]
    return Memory(
        instance_id=fresh.instance_id,
        script_markers=fresh.script_markers,
        salt=bytes.fromhex(_str(document.pop("salt", ""))) or fresh.salt,
        passwords=_strings(document.pop("passwords", [])),
        password_users=_strings(document.pop("password_users", [])),
        forgotten_by=_texts(document.pop("forgotten_by", {})),
        by_script=_str(document.pop("by_script", "")),
        hostname_todo=_texts(document.pop("hostname_todo", {})),
        former_users=_strings(document.pop("former_users", [])),
        known_as=_strings(document.pop("known_as", [])),
        hostname=_optional(document.pop("hostname", None)),
        domain=_optional(document.pop("domain", None)),
        ssh_keys=None if keys is None else _strings(keys),
        keys_beside=document.pop("keys_beside", False) is True,
        ssh_user=_optional(document.pop("ssh_user", None)),
        user_data=_optional(document.pop("user_data", None)),
        user_data_doubt=_str(document.pop("user_data_doubt", "")),
        passed_over=_passed_over(document.pop("passed_over", {})),
        rest=document,
    )


def _passed_over(value: Any) -> Dict[str, Tuple[str, ...]]:
    """An earlier csagent has written key sets as lists of their lines."""
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return {
        datum: tuple(
            Memory.as_passed_over(_strings(one) if isinstance(one, list) else _str(one))
            for one in _list(values)
        )
        for datum, values in value.items()
    }


def _texts(value: Any) -> Dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return {key: _str(text) for key, text in value.items()}


def _strings(value: Any) -> Tuple[str, ...]:
    return tuple(_str(one) for one in _list(value))


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def _optional(value: Any) -> Optional[str]:
    return None if value is None else _str(value)


def _list(value: Any) -> List[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _script_markers(system: "System", home: Optional[str]) -> Tuple[str, ...]:
    """The MD5s that the old scripts left; md5sum's own format, `HEX  -`, is read too.

    They ran as root, into root's directories: what an account's owner could have written there says nothing.
    """
    places = [(system, path) for path in SCRIPT_MARKERS]
    if home:  # a server that is gone would never answer: root's own home, too, may lie on one
        places.append((without_servers(system), f"{home}/{SCRIPT_MARKER_IN_HOME}"))
    found = []
    for where, path in places:
        try:
            raw = trusted_path.read(where, path, trusted_path.SYSTEM, 4096, follow=False)
            words = raw.decode("ascii", "replace").split()
        except (OSError, Distrusted):
            continue
        if words and len(words[0]) == 32 and all(char in "0123456789abcdefABCDEF" for char in words[0]):
            found.append(words[0].lower())
    return tuple(found)
