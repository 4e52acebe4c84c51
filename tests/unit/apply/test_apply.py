from __future__ import annotations

import base64
import errno
import os
import shlex
import shutil
import stat
import struct
from pathlib import Path
from typing import Any, List, Optional, Sequence

import pytest
from support.replace_fields import replace
from support.samples import make_key

from csagent.apply import hostname, libcrypt, password, ssh_keys
from csagent.apply.authorized_keys import BEGIN, END
from csagent.errors import ApplyError
from csagent.model import Secret
from csagent.system import accounts, files
from csagent.system.seams import Completed, Runner, System
from csagent.system.selinux import relabel
from csagent.system.tree import Tree

SECRET = Secret(b"EXAMPLE: p'a\"s$s=1")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- accounts ---


def test_accounts_of_a_tree_are_its_own(system: System) -> None:
    """Under a root other than / the tree's passwd counts, not this machine's."""
    assert accounts.find(system, "alice").home == "/home/alice"
    with pytest.raises(ApplyError, match="there is no account daemon"):
        accounts.find(system, "daemon")


def test_missing_account_on_the_running_system() -> None:
    """The error names the setting to look at."""
    with pytest.raises(ApplyError, match="see the setting user"):
        accounts.find(System(), "no-such-account")


# --- password in a tree ---


def test_password_in_a_tree(system: System, tree: Path) -> None:
    """etc/shadow gets a salted hash that verifies; the other entries, mode and owner stay."""
    alice = accounts.find(system, "alice")
    before = (tree / "etc/shadow").read_text().split("\n")
    password.set_password(system, alice, SECRET)
    after = (tree / "etc/shadow").read_text().split("\n")
    assert before[0] == after[0] and len(before) == len(after)
    fields = after[1].split(":")
    assert fields[1].startswith(("$y$", "$6$")) and int(fields[2]) > 20000
    assert mode(tree / "etc/shadow") == 0o640
    assert libcrypt.matches(SECRET, fields[1]) and password.is_set(system, alice, SECRET)
    assert not password.is_set(system, alice, Secret(b"EXAMPLE-other"))
    assert SECRET.reveal().decode() not in (tree / "etc/shadow").read_text()


def test_no_shadow_entry(system: System, tree: Path) -> None:
    """An account without one (LDAP) is a clear failure, and nothing is written."""
    (tree / "etc/shadow").write_text("root:*:1::::::\n")
    with pytest.raises(ApplyError, match="has no entry"):
        password.set_password(system, accounts.find(system, "alice"), SECRET)
    assert (tree / "etc/shadow").read_text() == "root:*:1::::::\n"


def test_openssl_makes_the_hash_where_libcrypt_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without crypt_gensalt, openssl's SHA-512 is used, the password on its standard input."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    monkeypatch.setattr(libcrypt, "LIBRARIES", ())
    made = libcrypt.make_hash(System(), SECRET)
    assert made.startswith("$6$")
    monkeypatch.undo()
    assert libcrypt.matches(SECRET, made) is True


# --- password on a running system, with chpasswd played ---


class FakeChpasswd(Runner):
    """Does what a chpasswd would do to the tree's shadow, or what a broken one does."""

    def __init__(self, tree: Path, behaviour: str) -> None:
        self.tree, self.behaviour, self.seen = tree, behaviour, b""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = 0
    ) -> Completed:
        self.seen = stdin
        assert not any(SECRET.reveal().decode() in word for word in argv)
        if self.behaviour == "missing":
            return Completed(None, b"", b"No such file or directory")
        if self.behaviour == "refuses":
            return Completed(1, b"", b"chpasswd: (line 1) BAD PASSWORD: " + SECRET.reveal())
        if self.behaviour != "lies":
            value = SECRET if self.behaviour == "works" else Secret(b"EXAMPLE-else")
            shadow = self.tree / "etc/shadow"
            shadow.write_text(
                shadow.read_text().replace("root:*:", f"root:{libcrypt.make_hash(System(), value)}:")
            )
        return Completed(0, b"", b"")


class LiveTree(Tree):
    """A tree that says it is the running system."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.live = True


def live(tree: Path, behaviour: str) -> tuple[System, FakeChpasswd, accounts.Account]:
    runner = FakeChpasswd(tree, behaviour)
    account = accounts.Account("root", os.getuid(), os.getgid(), "/root", "/bin/sh")
    return replace(System(), tree=LiveTree(str(tree)), runner=runner), runner, account


def test_chpasswd_gets_it_on_stdin(tree: Path) -> None:
    """The distribution's tool is given name:password on standard input, colons and quotes as they are."""
    system, runner, account = live(tree, "works")
    password.set_password(system, account, SECRET)
    assert runner.seen == b"root:" + SECRET.reveal() + b"\n"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("missing", "No such file"),
        ("refuses", "chpasswd failed with 1"),
        ("lies", "did not change"),
        ("wrong", "not to the new password"),
    ],
)
def test_a_chpasswd_that_does_not_do_it(tree: Path, behaviour: str, words: str) -> None:
    """Missing, refusing, lying, setting something else: each is a failure without the password in it."""
    system, _runner, account = live(tree, behaviour)
    with pytest.raises(ApplyError, match=words) as caught:
        password.set_password(system, account, SECRET)
    assert SECRET.reveal().decode() not in str(caught.value)


DENIED = (
    "chpasswd: (user root) pam_chauthtok() failed, error:\nAuthentication token manipulation error\n"
    "chpasswd: (line 1, user root) password not changed\n"
)
LOCKED = (
    "chpasswd: existing lock file /etc/passwd.lock with an invalid PID '\n'\n"
    "chpasswd: cannot lock /etc/passwd; try again later.\n"
)


class Saying(Runner):
    """A chpasswd that fails with these words."""

    def __init__(self, words: bytes) -> None:
        self.words = words

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = 0
    ) -> Completed:
        return Completed(1, b"", self.words)


def refusal(tree: Path, secret: bytes, words: bytes) -> str:
    """The reason when chpasswd fails with these words for this password."""
    account = accounts.Account("root", os.getuid(), os.getgid(), "/root", "/bin/sh")
    system = replace(System(), tree=LiveTree(str(tree)), runner=Saying(words))
    with pytest.raises(ApplyError) as caught:
        password.set_password(system, account, Secret(secret))
    return str(caught.value)


@pytest.mark.parametrize("words", [DENIED, LOCKED])
@pytest.mark.parametrize(
    "secret",
    ["Passw0rd!", "MyPassword1", "EXAMPLEpass7", "changeme", "superuser1", "rootroot", "lockedOut", "token",
     "password", "root", "chpasswd", "error"],
)  # fmt: skip
def test_what_chpasswd_says_is_shown_for_ordinary_passwords(tree: Path, secret: str, words: str) -> None:
    """Words that a password shares with chpasswd's own are no reason to hide the message; it says it once."""
    reason = refusal(tree, secret.encode(), words.encode())
    lines = dict.fromkeys(line.strip() for line in (words + words).splitlines())
    assert reason == f"chpasswd failed with 1: {'; '.join(lines)}"
    assert refusal(tree, secret.encode(), (words + words).encode()) == reason


def test_a_shadow_file_that_is_immutable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As hardening guides have it: PAM does not say so, and opening it for writing does."""

    def opened(self: Any, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        if path == accounts.SHADOW and flags & os.O_WRONLY:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return os.open(f"{tree}{path}", flags, mode)

    monkeypatch.setattr(LiveTree, "open", opened)
    reason = refusal(tree, b"EXAMPLEpass7", DENIED.encode())
    assert reason.endswith("; /etc/shadow: Operation not permitted")


SPELLED = {
    "as it is": SECRET.reveal(),
    "in upper case": SECRET.reveal().upper(),
    "in lower case": SECRET.reveal().lower(),
    "reversed": SECRET.reveal()[::-1],
    "without blanks": SECRET.reveal().replace(b" ", b""),
    "spaced out": b" ".join(bytes([one]) for one in SECRET.reveal()),
    "on several lines": SECRET.reveal()[:9] + b"\n" + SECRET.reveal()[9:],
    "quoted": shlex.quote(SECRET.reveal().decode()).encode(),
    "in hexadecimal": SECRET.reveal().hex().upper().encode(),
    "as in a URL": b"".join(b"%%%02X" % one for one in SECRET.reveal()),
    "escaped": b"".join(b"\\x%02x" % one for one in SECRET.reveal()),
    "escaped in octal": b"".join(b"\\%03o" % one for one in SECRET.reveal()),
    "in base64": base64.b64encode(SECRET.reveal()),
    "in base64 with the account": base64.b64encode(b"root:" + SECRET.reveal() + b"\n"),
    "in base64 behind one byte": base64.b64encode(b"x" + SECRET.reveal() + b"yz"),
    "in base64 behind two bytes": base64.urlsafe_b64encode(b"xx" + SECRET.reveal() + b"y"),
}


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_message_with_the_password_in_it_is_not_shown(tree: Path, spelled: str) -> None:
    """However it is spelled; and a password that has chpasswd's own words in it is found, too."""
    hidden = "chpasswd failed with 1; its message has the password in it, and is not shown"
    assert refusal(tree, SECRET.reveal(), b"chpasswd: bad: " + SPELLED[spelled] + b" (line 1)") == hidden
    umlauts = "EXAMPLE-Größe-Élan".encode()
    assert refusal(tree, umlauts, b"not good: " + "example-größe-élan".encode()) == hidden
    assert refusal(tree, b"EXAMPLE-\xc9lan", b"not good: EXAMPLE-\xc9lan") == hidden
    secret = b"EXAMPLE-chpasswd: error detected, changes ignored-marker"
    assert refusal(tree, secret, b"chpasswd: you said " + secret) == hidden


def test_a_message_that_is_cut_in_the_password(tree: Path) -> None:
    """A long one may end in its midst; of equal lines one is shown, and its beginning would be among them."""
    message = b"no\n" * (password.READ_LIMIT // 3 - 3) + SECRET.reveal()
    assert len(message) > password.READ_LIMIT
    assert refusal(tree, SECRET.reveal(), message) == "chpasswd failed with 1: no"


@pytest.mark.parametrize(
    ("flags", "free", "files", "words"),
    [
        (os.ST_RDONLY, 1000, 10, "/etc: Read-only file system"),
        (0, 0, 10, "/etc: No space left on device"),
        (0, 1000, 0, "/etc: No space left on device"),
    ],
)
def test_what_pam_does_not_say_of_the_file_system_is_added(
    tree: Path, monkeypatch: pytest.MonkeyPatch, flags: int, free: int, files: int, words: str
) -> None:
    """PAM has one sentence for a rule, a full disk and a read-only one."""
    fields = (4096, 4096, 2000, free, free, 100, files, files, flags, 255)
    monkeypatch.setattr(os, "statvfs", lambda _descriptor: os.statvfs_result(fields))
    assert refusal(tree, b"EXAMPLEpass7", DENIED.encode()).endswith(f"password not changed; {words}")


def test_a_directory_that_is_immutable_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chattr +i /etc: PAM's sentence is the same again, and shadow itself can be opened to write."""
    real = os.open

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: Optional[int] = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)
    said = refusal(tree, b"EXAMPLEpass7", DENIED.encode())
    assert said.endswith("password not changed; /etc: Operation not permitted")
    monkeypatch.undo()
    assert refusal(tree, b"EXAMPLEpass7", DENIED.encode()).endswith("password not changed")


# --- hostname ---


def rename(system: System, name: str, domain: Optional[str] = None) -> hostname.Finished:
    """The name and all that comes after it."""
    return hostname.finish(system, name, domain, hostname.set_hostname(system, name))


def test_hostname_files(system: System, tree: Path) -> None:
    """/etc/hostname and our line in /etc/hosts; all other lines stay, and doing it again writes nothing."""
    rename(system, "web01", "cs2cloud.internal")
    assert (tree / "etc/hostname").read_text() == "web01\n"
    hosts = (tree / "etc/hosts").read_text()
    assert hosts == (
        "127.0.0.1\tlocalhost\n127.0.1.1\tweb01.cs2cloud.internal web01\t# csagent\n"
        "127.0.1.1\tdebian\n::1\tlocalhost\n"
    )
    inode = (tree / "etc/hosts").stat().st_ino
    rename(system, "web01", "cs2cloud.internal")
    assert (tree / "etc/hosts").stat().st_ino == inode
    rename(system, "db01")
    assert (tree / "etc/hosts").read_text() == hosts.replace("web01.cs2cloud.internal web01", "db01")


def test_an_owners_line_that_ends_like_ours(system: System, tree: Path) -> None:
    """Ours has our mark at its end and our address in front; another's note stays, whatever it ends with."""
    theirs = "10.0.0.5 proxy # csagent\n# as the manual says of # csagent\n# csagent\n"
    (tree / "etc/hosts").write_text(f"127.0.0.1\tlocalhost\n{theirs}")
    for name in ("web01", "db01"):
        assert rename(system, name).problems == ()
        ours = f"127.0.1.1\t{name}\t# csagent\n"
        assert (tree / "etc/hosts").read_text() == f"127.0.0.1\tlocalhost\n{ours}{theirs}"
        assert hostname.preview_hosts(system, name, None, "")[0] == ours.rstrip()


def test_hostname_with_a_domain_of_its_own(system: System, tree: Path) -> None:
    """A name with dots keeps them and gets its short form beside it."""
    rename(system, "web01.example.org", "other.internal")
    assert "\tweb01.example.org web01\t" in (tree / "etc/hosts").read_text()


def test_a_huge_hosts_file_is_not_cut(system: System, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than we read: not touched, and the reason says so."""
    monkeypatch.setattr(hostname, "HOSTS_LIMIT", 100)
    (tree / "etc/hosts").write_text("0.0.0.0 ads.example\n" * 50)
    before = (tree / "etc/hosts").read_text()
    (problem,) = rename(system, "web01").problems
    assert "larger than" in problem
    assert (tree / "etc/hosts").read_text() == before


def test_hostname_without_any_file(system: System, tree: Path) -> None:
    """Missing files are made."""
    (tree / "etc/hostname").unlink()
    (tree / "etc/hosts").unlink()
    rename(system, "web01")
    assert (tree / "etc/hostname").read_text() == "web01\n"
    assert "localhost" in (tree / "etc/hosts").read_text() and "web01" in (tree / "etc/hosts").read_text()


class Machine:
    """The running name of a machine whose files lie below a directory."""

    def __init__(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.stubborn = "debian", False
        self.system = System.at(str(tree))
        monkeypatch.setattr(System, "live", True)
        monkeypatch.setattr(hostname, "relabel", lambda *_paths: None)
        monkeypatch.setattr("socket.gethostname", lambda: self.name)
        monkeypatch.setattr(hostname, "_tell_kernel", self.tell)

    def tell(self, name: str) -> None:
        if self.stubborn:
            raise PermissionError(1, "Operation not permitted")
        self.name = name


@pytest.fixture
def machine(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tree, monkeypatch)


def read_only(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    """These files cannot be written, as in a read-only store."""

    def refusing(work: Any) -> Any:
        def refuse(self: Tree, path: str, *rest: Any, **more: Any) -> Any:
            if path in paths:
                raise OSError(30, "Read-only file system")
            return work(self, path, *rest, **more)

        return refuse

    monkeypatch.setattr(Tree, "write", refusing(Tree.write))
    monkeypatch.setattr(Tree, "change", refusing(Tree.change))


def test_a_read_only_etc_gets_the_running_name_at_every_boot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NixOS: the files are told as not written, and whoever renames the running machine keeps his name."""
    read_only(monkeypatch, "/etc/hostname", "/etc/hosts")
    finished = rename(machine.system, "web01")
    assert machine.name == "web01"
    assert set(finished.left) == {"/etc/hostname", "/etc/hosts"} and len(finished.problems) == 2
    machine.name = "owners"
    hostname.finish(machine.system, "web01", None, finished.left)
    assert machine.name == "owners"
    machine.name = "debian"  # booted again
    assert hostname.finish(machine.system, "web01", None, finished.left).left == finished.left
    assert machine.name == "web01"


def test_a_file_that_its_owner_has_written_meanwhile_stays(
    machine: Machine, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is tried again only where all is as it was found."""
    with monkeypatch.context() as patched:
        read_only(patched, "/etc/hostname", "/etc/hosts")
        left = rename(machine.system, "web01").left
    (tree / "etc/hostname").write_text("owners\n")
    finished = hostname.finish(machine.system, "web01", None, left)
    assert (finished.left, finished.problems) == ({}, ())
    assert (tree / "etc/hostname").read_text() == "owners\n" and "web01" not in (
        tree / "etc/hosts"
    ).read_text()


def test_a_kernel_that_refuses_costs_only_the_running_name(machine: Machine, tree: Path) -> None:
    """A container without the right to rename itself: both files are written, and it is tried again."""
    machine.stubborn = True
    finished = rename(machine.system, "web01")
    assert set(finished.left) == {hostname.RUNNING_NAME} and "not permitted" in finished.problems[0]
    assert (tree / "etc/hostname").read_text() == "web01\n" and "web01" in (tree / "etc/hosts").read_text()
    machine.stubborn = False
    assert hostname.finish(machine.system, "web01", None, finished.left).done == (hostname.RUNNING_NAME,)
    assert machine.name == "web01"


def test_neither_file_nor_kernel(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it has failed, and nothing is left to do for it."""
    machine.stubborn = True
    read_only(monkeypatch, "/etc/hostname")
    with pytest.raises(ApplyError, match="/etc/hostname: Read-only file system"):
        hostname.set_hostname(machine.system, "web01")


def test_the_hosts_own_name_is_not_touched(system: System) -> None:
    """Under a root the running kernel keeps its name."""
    import socket

    before = socket.gethostname()
    rename(system, "web01")
    assert socket.gethostname() == before


# --- keys ---

NOBODY_SAID = 0xFFFFFFFF  # the number of an entry of an access list that names nobody


def alice_of(system: System) -> accounts.Account:
    return accounts.find(system, "alice")


def test_keys_are_made_with_their_modes(system: System, tree: Path) -> None:
    """~/.ssh 0700 and the file 0600 are made where they are missing; a second write changes nothing."""
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    path = tree / "home/alice/.ssh/authorized_keys"
    assert path.read_text() == f"{BEGIN}\n{make_key(1)}\n{END}\n"
    assert mode(path) == 0o600 and mode(path.parent) == 0o700
    inode = path.stat().st_ino
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert path.stat().st_ino == inode
    assert sorted(os.listdir(path.parent)) == ["authorized_keys"]


def test_wrong_modes_are_mended(system: System, tree: Path) -> None:
    """sshd would ignore a group-writable file: modes are set even where the text is right."""
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    path = tree / "home/alice/.ssh/authorized_keys"
    path.chmod(0o666)
    path.parent.chmod(0o755)
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert mode(path) == 0o600 and mode(path.parent) == 0o700


def test_an_access_list_stays(system: System, tree: Path) -> None:
    """Whom the owner lets read his keys, by an access list, may go on reading them."""
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    path = tree / "home/alice/.ssh/authorized_keys"
    entries = (
        (1, 6, NOBODY_SAID),
        (2, 4, 1234),
        (4, 0, NOBODY_SAID),
        (16, 4, NOBODY_SAID),
        (32, 0, NOBODY_SAID),
    )
    wanted = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", wanted)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("no access lists on this file system")
    ssh_keys.write_keys(system, alice_of(system), [make_key(2)])
    assert make_key(2) in path.read_text()
    assert os.getxattr(path, "system.posix_acl_access") == wanted and mode(path) == 0o640


def test_a_file_that_would_be_too_large_is_not_written(system: System, tree: Path) -> None:
    """What could not be read again could not be revoked again."""
    path = tree / "home/alice/.ssh/authorized_keys"
    path.parent.mkdir(mode=0o700)
    path.write_text("#" * (ssh_keys.SIZE_LIMIT - 50) + "\n")
    path.chmod(0o600)
    with pytest.raises(ApplyError, match="would be larger than"):
        ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert path.stat().st_size == ssh_keys.SIZE_LIMIT - 49


def test_lines_that_somebody_adds_meanwhile_are_kept(
    system: System, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another program writes between our reading and our renaming is read again."""
    (tree / "etc/hosts").write_text("127.0.0.1\tlocalhost\n")
    added: List[str] = []

    keep = files._keep_attributes

    def beside(directory: int, name: str, target: int) -> None:
        keep(directory, name, target)
        if name == "hosts" and len(added) < 2:
            added.append(f"10.0.0.{len(added)}\tpeer{len(added)}\n")
            with (tree / "etc/hosts").open("a") as stream:
                stream.write(added[-1])

    monkeypatch.setattr(files, "_keep_attributes", beside)
    rename(system, "web01")
    text = (tree / "etc/hosts").read_text()
    assert len(added) == 2 and all(line in text for line in added) and "web01" in text


def spoil(tree: Path, how: str) -> Optional[Path]:
    ssh = tree / "home/alice/.ssh"
    victim = tree / "victim"
    victim.write_text("untouched")
    if how == "no-home":
        shutil.rmtree(tree / "home/alice")
        return victim
    if how == "ssh-is-a-link":
        (tree / "elsewhere").mkdir()
        ssh.symlink_to("/elsewhere")
        return victim
    if how == "ssh-is-a-file":
        ssh.write_text("")
        return victim
    ssh.mkdir(mode=0o700)
    path = ssh / "authorized_keys"
    if how == "symlinked-authorized-keys":
        path.symlink_to("/victim")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()
    elif how == "huge":
        path.write_bytes(b"#" * (2 << 20))
    return victim


@pytest.mark.parametrize(
    "how",
    ["no-home", "ssh-is-a-link", "ssh-is-a-file", "symlinked-authorized-keys", "fifo", "directory", "huge"],
)
def test_what_is_not_ours_to_follow_is_refused(system: System, tree: Path, how: str) -> None:
    """Links, FIFOs and the like are a failure with the path and a reason; nothing else is written."""
    victim = spoil(tree, how)
    with pytest.raises(ApplyError) as caught:
        ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert "alice" in str(caught.value) and "\n" not in str(caught.value)
    assert victim is not None and victim.read_text() == "untouched"
    assert not (tree / "elsewhere/authorized_keys").exists()


def test_a_hard_link_is_cut_not_written_through(system: System, tree: Path) -> None:
    """The file is replaced, so that its other names keep the old text."""
    ssh = tree / "home/alice/.ssh"
    ssh.mkdir(mode=0o700)
    (tree / "other").write_text("# shared\n")
    os.link(tree / "other", ssh / "authorized_keys")
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert (tree / "other").read_text() == "# shared\n"
    assert (ssh / "authorized_keys").read_text().startswith("# shared\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_file_is_written_as_its_owner(tmp_path: Path, tree: Path) -> None:
    """The child has become the owner: a home that others may write to is not written, one's own is."""
    uid = 12345
    (tree / "etc/passwd").write_text(f"alice:x:{uid}:{uid}::/home/alice:/bin/sh\n")
    system = System.at(str(tree))
    (tree / "home/alice").chmod(0o775)
    with pytest.raises(ApplyError, match="Permission denied"):
        ssh_keys.write_keys(system, accounts.find(system, "alice"), [make_key(1)])
    os.chown(tree / "home/alice", uid, uid)
    ssh_keys.write_keys(system, accounts.find(system, "alice"), [make_key(1)])
    path = tree / "home/alice/.ssh/authorized_keys"
    assert (path.stat().st_uid, path.stat().st_gid, path.parent.stat().st_uid) == (uid, uid, uid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("there", [False, True])
def test_a_home_of_roots(tree: Path, there: bool) -> None:
    """Nobody else may write there: the directory is made, or given to the owner, who writes the file."""
    uid = 12345
    (tree / "etc/passwd").write_text(f"alice:x:{uid}:{uid}::/home/alice:/bin/sh\n")
    (tree / "home/alice").chmod(0o755)
    if there:
        (tree / "home/alice/.ssh").mkdir()
    system = System.at(str(tree))
    ssh_keys.write_keys(system, accounts.find(system, "alice"), [make_key(1)])
    path = tree / "home/alice/.ssh/authorized_keys"
    assert (path.stat().st_uid, path.stat().st_gid, path.parent.stat().st_uid) == (uid, uid, uid)
    assert (tree / "home/alice").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_link_in_a_home_of_roots_is_not_followed(tree: Path) -> None:
    """What it leads to stays root's, and nothing is written there."""
    (tree / "etc/passwd").write_text("alice:x:12345:12345::/home/alice:/bin/sh\n")
    (tree / "home/alice").chmod(0o755)
    (tree / "roots").mkdir()
    (tree / "home/alice/.ssh").symlink_to(tree / "roots")
    system = System.at(str(tree))
    with pytest.raises(ApplyError, match="links are not followed"):
        ssh_keys.write_keys(system, accounts.find(system, "alice"), [make_key(1)])
    assert (tree / "roots").stat().st_uid == 0
    assert list((tree / "roots").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("how", ["another's link", "closed"])
def test_nothing_is_made_in_a_directory_of_roots_that_is_no_home(tree: Path, how: str) -> None:
    """Somebody's link must not choose where, and a home that its owner cannot enter takes no keys."""
    (tree / "etc/passwd").write_text("alice:x:12345:12345::/home/alice:/bin/sh\n")
    (tree / "home/alice").rmdir()
    (tree / "roots").mkdir(mode=0o755 if how == "another's link" else 0o700)
    (tree / "home/alice").symlink_to("/roots")
    if how == "another's link":
        os.lchown(tree / "home/alice", 12345, 12345)
    system = System.at(str(tree))
    with pytest.raises(ApplyError, match="Permission denied to its owner"):
        ssh_keys.write_keys(system, accounts.find(system, "alice"), [make_key(1)])
    assert list((tree / "roots").iterdir()) == []


def test_undecodable_lines_of_the_owner_survive(system: System, tree: Path) -> None:
    """Bytes that are no UTF-8 are kept."""
    ssh = tree / "home/alice/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_bytes(b"# caf\xe9\n")
    ssh_keys.write_keys(system, alice_of(system), [make_key(1)])
    assert (ssh / "authorized_keys").read_bytes().startswith(b"# caf\xe9\n")


def test_a_climbing_home_stays_inside(system: System) -> None:
    """A home with .. in it stays inside the tree."""
    account = accounts.Account("x", os.getuid(), os.getgid(), "/../../home/alice", "/bin/sh")
    ssh_keys.write_keys(system, account, [make_key(1)])
    assert ssh_keys.current(system, account) == ssh_keys.current(system, alice_of(system))


class Recording(Runner):
    """Notes what is run."""

    def __init__(self) -> None:
        self.seen: list[Sequence[str]] = []

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = 0
    ) -> Completed:
        self.seen.append(argv)
        return Completed(0, b"", b"")


@pytest.mark.parametrize("selinux", [True, False])
def test_the_selinux_context_is_restored_where_selinux_is(tree: Path, selinux: bool) -> None:
    """On a running system with SELinux what was replaced is relabelled; elsewhere nothing is run (55)."""
    if selinux:
        (tree / "sys/fs/selinux").mkdir(parents=True)
        (tree / "sys/fs/selinux/enforce").write_text("1")
    runner = Recording()
    system = replace(System(), tree=LiveTree(str(tree)), runner=runner)
    relabel(system, "/etc/hosts")
    assert runner.seen == ([["restorecon", "-RF", "/etc/hosts"]] if selinux else [])
