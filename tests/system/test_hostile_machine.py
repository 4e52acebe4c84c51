"""Homes, disks and a chpasswd that are against us: each has an outcome in status, fails alone, and recovers.

The trees are mounted over in a mount namespace of the test's own; the real chpasswd runs in a small root
file system with namespaces of its own. All of it ends with the test, however that ends.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import pytest
from support.guest_passes import DATA, DEADLINE, ENVIRONMENT, REPOSITORY, Pass, Tree
from support.printed_lines import line_of
from support.replace_fields import replace
from support.requirements import require
from support.samples import CLOUD, INSTANCE, PASSWORD, make_key

from csagent.apply import ssh_keys
from csagent.errors import ApplyError
from csagent.lab.router import LabRouter
from csagent.lab.vm.namespace import Namespace
from csagent.state import applied
from csagent.system import accounts
from csagent.system.seams import System

pytestmark = [pytest.mark.netns, pytest.mark.root]

ALICE, BOB = 12345, 12346
OWNERS = b"# the owner's\n"
SECRET = "EXAMPLE-of-somebody-else"


@pytest.fixture(autouse=True)
def _able() -> None:
    require(("unshare", "nsenter", "mount", "mkfs.ext4", "losetup", "chattr"), "mounts in a namespace")


class Holder:
    """Namespaces with a shell in them that waits; they end when this object, or this process, does."""

    def __init__(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if line_of(self._process) != b"up\n":
            told = self.close()
            raise RuntimeError(f"the namespace did not start: {told}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.pid = int((children.read_text().split() or [str(self._process.pid)])[0])

    def close(self) -> str:
        try:
            _out, error = self._process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _out, error = self._process.communicate(timeout=300)
        return error.decode("utf-8", "replace")


@pytest.fixture
def guest(tree: Path) -> Iterator[Tree]:
    """A guest whose account alice has nothing but her own, in a mount namespace."""
    tree.chmod(0o755)
    (tree / "etc/passwd").write_text(
        f"root:x:0:0:root:/root:/bin/bash\nalice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n"
    )
    (tree / "etc/csagent").mkdir()
    (tree / "etc/csagent/csagent.yaml").write_text("user: alice\n")
    (tree / "victim").write_text(SECRET + "\n")
    (tree / "victim").chmod(0o600)
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere").chmod(0o700)
    os.chown(tree / "home/alice", ALICE, ALICE)
    holder = Holder(
        ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && echo up && exec cat >/dev/null"]
    )
    try:
        with LabRouter(CLOUD) as router:
            yield Tree(tree, router, ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"])
    finally:
        holder.close()


def shell(guest: Tree, script: str) -> None:
    """Run a script as root, in the mount namespace and in the tree. $A is alice, $B is bob."""
    environment = {**os.environ, "A": str(ALICE), "B": str(BOB), "R": str(guest.root)}
    done = subprocess.run(
        [*guest.prefix, "sh", "-ec", f'cd "$R"; {script}'],
        env={**environment, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


class Case(NamedTuple):
    """What is done to the tree, why the datum then fails, and how it is mended."""

    spoil: str
    words: str
    mend: str


SSH = "mkdir -m 700 home/alice/.ssh; chown $A:$A home/alice/.ssh; "
KEYS = SSH + "echo '# the owner'\"'\"'s' >home/alice/.ssh/authorized_keys; chown $A:$A home/alice/.ssh/*; "
AWAY = "mv home/alice home/away; "
BACK = "rm -rf home/alice; mv home/away home/alice"
NO_SSH = "rm -rf home/alice/.ssh"
UMOUNT = "umount home/alice"
EXT4 = (
    "truncate -s 8M disk; mkfs.ext4 -q -I 256 disk; mount -o loop disk home/alice; chown $A:$A home/alice; "
)
NOT_OURS = "belongs to another user .12346., and sshd would not believe it"
NOT_A_DIRECTORY = r"\.ssh is not a directory of its own; links are not followed"
NOT_A_FILE = "it is not a regular file; links are not followed"
IMMUTABLE = "Operation not permitted: immutable, or not its owner's"
FULL = "No space left on device"
READ_ONLY = "Read-only file system"

HOMES: Dict[str, Case] = {
    # the home directory
    "home leads to somebody else's": Case(
        AWAY + "mkdir home/bob; chown $B:$B home/bob; ln -s bob home/alice", NOT_OURS, BACK
    ),
    "home leads to root's": Case(
        AWAY + "ln -s /elsewhere home/alice", "Permission denied to its owner", BACK
    ),
    "home leads nowhere": Case(AWAY + "ln -s gone home/alice", "No such file or directory", BACK),
    "home is a loop": Case(AWAY + "ln -s alice home/alice", "Too many levels of symbolic links", BACK),
    "home is a fifo": Case(AWAY + "mkfifo home/alice", "Not a directory", BACK),
    "home is a device": Case(AWAY + "mknod home/alice c 1 3", "Not a directory", BACK),
    "home is a file": Case(AWAY + "touch home/alice", "Not a directory", BACK),
    "home is missing": Case(AWAY, "No such file or directory", "mv home/away home/alice"),
    "home is somebody else's": Case("chown $B home/alice", NOT_OURS, "chown $A home/alice"),
    "home is on a full tmpfs": Case(
        "mount -t tmpfs -o size=16k,uid=$A,gid=$A tmpfs home/alice; cat /dev/zero >home/alice/x 2>&1 || :",
        FULL,
        "rm home/alice/x",
    ),
    "home is on a full disk": Case(
        EXT4 + KEYS + "cat /dev/zero >home/alice/x 2>&1 || :; cp /dev/zero home/alice/y 2>&1 || :",
        FULL,
        "rm home/alice/x home/alice/y",
    ),
    "home is read-only": Case(
        KEYS + "mount --bind home/alice home/alice; mount -o remount,ro,bind home/alice", READ_ONLY, UMOUNT
    ),
    "home is immutable": Case(EXT4 + "chattr +i home/alice", IMMUTABLE, "chattr -i home/alice"),
    # .ssh
    "ssh leads elsewhere": Case("ln -s /elsewhere home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH),
    "ssh leads nowhere": Case("ln -s gone home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH),
    "ssh is a loop": Case("ln -s .ssh home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH),
    "ssh leads to our own working directory": Case(
        "ln -s /proc/self/cwd home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH
    ),
    "ssh is a fifo": Case("mkfifo home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH),
    "ssh is a device": Case("mknod home/alice/.ssh c 1 8", NOT_A_DIRECTORY, NO_SSH),
    "ssh is a file": Case("touch home/alice/.ssh", NOT_A_DIRECTORY, NO_SSH),
    "ssh is somebody else's": Case(
        SSH + "chmod 777 home/alice/.ssh; chown $B home/alice/.ssh", NOT_OURS, NO_SSH
    ),
    "ssh is root's": Case(SSH + "chown 0:0 home/alice/.ssh", "Permission denied to its owner", NO_SSH),
    "ssh is read-only": Case(
        KEYS + "mount --bind home/alice/.ssh home/alice/.ssh; mount -o remount,ro,bind home/alice/.ssh",
        READ_ONLY,
        "umount home/alice/.ssh",
    ),
    "ssh is immutable": Case(
        EXT4 + KEYS + "chattr +i home/alice/.ssh", IMMUTABLE, "chattr -i home/alice/.ssh"
    ),
    # authorized_keys
    "keys lead to root's file": Case(
        SSH + "ln -s /victim home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH
    ),
    "keys lead nowhere": Case(SSH + "ln -s gone home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH),
    "keys are a loop": Case(
        SSH + "ln -s authorized_keys home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH
    ),
    "keys lead to a descriptor": Case(
        SSH + "ln -s /proc/self/fd/3 home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH
    ),
    "keys are a fifo": Case(SSH + "mkfifo -m 666 home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH),
    "keys are a device": Case(SSH + "mknod -m 666 home/alice/.ssh/authorized_keys c 1 5", NOT_A_FILE, NO_SSH),
    "keys are a directory": Case(SSH + "mkdir -m 777 home/alice/.ssh/authorized_keys", NOT_A_FILE, NO_SSH),
    "keys are 100 MB": Case(
        KEYS + "truncate -s 100M home/alice/.ssh/authorized_keys",
        "larger than 1048576 bytes: not touched",
        NO_SSH,
    ),
    "keys are a hard link to root's file": Case(
        SSH + "ln victim home/alice/.ssh/authorized_keys", "Permission denied to its owner", NO_SSH
    ),
    "keys are somebody else's": Case(
        KEYS + "chown $B home/alice/.ssh/authorized_keys; chmod 666 home/alice/.ssh/authorized_keys",
        NOT_OURS,
        NO_SSH,
    ),
    "keys are immutable": Case(
        EXT4 + KEYS + "chattr +i home/alice/.ssh/authorized_keys",
        IMMUTABLE,
        "chattr -i home/alice/.ssh/authorized_keys",
    ),
}


def untouched(guest: Tree) -> None:
    """What is not alice's is as it was."""
    victim, elsewhere = guest.root / "victim", guest.root / "elsewhere"
    assert victim.read_text() == SECRET + "\n"
    assert (victim.stat().st_uid, stat.S_IMODE(victim.stat().st_mode)) == (0, 0o600)
    assert list(elsewhere.iterdir()) == [] and stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


def alices_keys_are_right(guest: Tree) -> None:
    shell(
        guest,
        'test "$(stat -c %u:%g:%a home/alice/.ssh home/alice/.ssh/authorized_keys | tr "\\n" " ")"'
        f' = "{ALICE}:{ALICE}:700 {ALICE}:{ALICE}:600 "; '
        f'grep -qF "{make_key(1)}" home/alice/.ssh/authorized_keys; '
        'test -z "$(find . -name "*csagent-new*")"',
    )


@pytest.mark.parametrize("case", HOMES)
def test_a_home_that_is_against_us(guest: Tree, case: str) -> None:
    """The keys fail for a reason that says what is wrong, alone; mended, the next pass writes them."""
    spoil, words, mend = HOMES[case]
    shell(guest, spoil)
    first = guest.apply()
    first.failed_alone("ssh_keys", words)
    assert SECRET not in first.output + first.error
    untouched(guest)
    assert guest.password_is(user="alice") and len(guest.router.acknowledged) == 1
    shell(guest, 'test -z "$(find . -xdev -name "*csagent-new*")"')
    shell(guest, mend)
    second = guest.apply()
    second.is_well()
    assert [datum for datum, state in second.states.items() if state == "applied"] == ["ssh_keys"]
    alices_keys_are_right(guest)
    untouched(guest)


TOLERATED = {
    "home leads to her own elsewhere": AWAY
    + "mkdir srv; mv home/away srv/alice; ln -s ../srv/alice home/alice",
    "keys of root's that she may read": SSH + "install -m 644 /dev/null home/alice/.ssh/authorized_keys",
    "binary keys": KEYS + "printf 'ssh-rsa \\0\\377\\376\\033]0;x\\007\\n' >>home/alice/.ssh/authorized_keys",
    "modes that sshd refuses": KEYS + "chmod 777 home/alice/.ssh; chmod 666 home/alice/.ssh/authorized_keys",
    "a temporary file of hers": KEYS + "ln -s /victim home/alice/.ssh/.authorized_keys.csagent-new",
}


@pytest.mark.parametrize("case", TOLERATED)
def test_a_home_that_is_odd(guest: Tree, case: str) -> None:
    """The keys are written as alice, into what is hers; her own lines stay, and nothing else is touched."""
    shell(guest, TOLERATED[case])
    keys = guest.root / "home/alice/.ssh/authorized_keys"
    before = keys.read_bytes() if keys.exists() else b""
    guest.apply().is_well()
    alices_keys_are_right(guest)
    untouched(guest)
    assert keys.read_bytes().startswith(before)
    guest.apply().is_well()


def test_a_hard_link_is_cut(guest: Tree) -> None:
    """A readable file of root's with a second name in ~/.ssh: the name gets a new file, root's stays."""
    (guest.root / "other").write_bytes(OWNERS)
    (guest.root / "other").chmod(0o644)
    shell(guest, SSH + "ln other home/alice/.ssh/authorized_keys")
    guest.apply().is_well()
    alices_keys_are_right(guest)
    assert (guest.root / "other").read_bytes() == OWNERS and (guest.root / "other").stat().st_uid == 0


@pytest.mark.parametrize("what", ["root", "root/.ssh", "root/.ssh/authorized_keys"])
def test_roots_files_that_belong_to_another(guest: Tree, what: str) -> None:
    """sshd ignores them; written anew as root's, the other's lines would open root's account to him."""
    guest.settings("")
    ssh = guest.root / "root/.ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_text(make_key(66, "alice") + "\n")
    os.chown(guest.root / what, ALICE, ALICE)
    first = guest.apply()
    first.failed_alone("ssh_keys", "belongs to another user .12345., and sshd would not believe it")
    assert (ssh / "authorized_keys").read_text() == make_key(66, "alice") + "\n"
    os.chown(guest.root / what, 0, 0)
    guest.apply().is_well()
    assert make_key(1) in (ssh / "authorized_keys").read_text()


# --- the disk -------------------------------------------------------------------------------------

ETC = "truncate -s 8M disk; mkfs.ext4 -q disk; mount -o loop disk mnt; cp -a etc/. mnt; umount mnt; "
ETC = "mkdir mnt; " + ETC + "mount -o loop disk etc; "


@pytest.mark.parametrize(
    ("spoil", "words", "mend"),
    [
        (
            ETC + "chattr +i etc/shadow",
            "cannot write .*/etc/shadow: Operation not permitted",
            "chattr -i etc/shadow",
        ),
        ("mv etc/shadow etc/away", "cannot read .*/etc/shadow: No such file", "mv etc/away etc/shadow"),
        (
            "mv etc/shadow etc/away; mkfifo etc/shadow",
            "cannot read .*/etc/shadow: not a regular file",
            "mv etc/away etc/shadow",
        ),
        (
            "mv etc/shadow etc/away; ln -s shadow etc/shadow",
            "cannot read .*/etc/shadow: Too many levels",
            "mv etc/away etc/shadow",
        ),
        (
            "mount --bind etc/shadow etc/shadow; mount -o remount,ro,bind etc/shadow",
            "cannot write .*/etc/shadow: (Device or resource busy|Read-only)",
            "umount etc/shadow",
        ),
    ],
)
def test_a_shadow_file_that_cannot_be_written(guest: Tree, spoil: str, words: str, mend: str) -> None:
    """The password fails alone and is offered again; afterwards it is set, and acknowledged once."""
    shell(guest, spoil)
    guest.apply().failed_alone("password", words)
    assert guest.router.acknowledged == [] and guest.router.waiting("127.0.0.1") == PASSWORD
    shell(guest, mend)
    second = guest.apply()
    second.is_well()
    assert second.states["password"] == "applied" and len(guest.router.acknowledged) == 1
    shell(guest, 'test -z "$(find . -name "*csagent-new*")"')


STATE = "mkdir -p var/lib/csagent; "
FILL = "cat /dev/zero >var/lib/csagent/x 2>&1 || :"


@pytest.mark.parametrize(
    ("spoil", "words", "mend"),
    [
        (STATE + "mount -t tmpfs -o size=16k tmpfs var/lib/csagent; " + FILL, FULL, "rm var/lib/csagent/x"),
        (
            STATE + "mount --bind var/lib/csagent var/lib/csagent; mount -o remount,ro,bind var/lib/csagent",
            READ_ONLY,
            "umount var/lib/csagent",
        ),
        (
            STATE + "truncate -s 8M disk; mkfs.ext4 -q disk; mount -o loop disk var/lib/csagent; "
            "chattr +i var/lib/csagent",
            "Operation not permitted",
            "chattr -i var/lib/csagent",
        ),
    ],
)
def test_a_state_directory_that_cannot_be_written(guest: Tree, spoil: str, words: str, mend: str) -> None:
    """What cannot be remembered is not done, nor acknowledged; it is done once, when it can be."""
    shell(guest, spoil)
    first = guest.apply()
    assert first.code == 1 and set(first.states.values()) == {"failed"}, first
    first.says("password", f"not changed: cannot remember in .*/{INSTANCE}.json: {words}")
    assert guest.router.acknowledged == [] and not guest.password_is(user="alice")
    shell(guest, mend)
    guest.apply().is_well()
    shadow = guest.shadow("alice")
    guest.apply().is_well()
    assert guest.password_is(user="alice") and guest.shadow("alice") == shadow
    assert len(guest.router.acknowledged) == 1
    shell(guest, 'test -z "$(find . -name "*csagent-new*")"')


FULL_BUT_FOR_WHAT_STANDS = """
mkdir keep; cp -a var/lib/csagent/. keep
mount -t tmpfs -o size=1M,mode=700 tmpfs var/lib/csagent
cp -a keep/. var/lib/csagent; rm -r keep
head -c 2M /dev/zero >var/lib/csagent/fill 2>/dev/null || true
"""


def test_a_state_directory_that_is_full_but_for_what_stands(guest: Tree) -> None:
    """Memory that can be written as it is, and not with more in it, undoes no choice of the owner's."""
    guest.apply().is_well()
    shell(guest, FULL_BUT_FOR_WHAT_STANDS)
    guest.router.cloud = replace(
        CLOUD, hostname="web-02", password="EXAMPLE-marker-2", ssh_keys=(make_key(7),)
    )
    before, keys = guest.shadow("alice"), (guest.root / "home/alice/.ssh/authorized_keys").read_text()
    (guest.root / "etc/hostname").write_text("owners-own\n")
    for _ in range(2):
        passed = guest.apply()
        assert passed.states == {**dict.fromkeys(DATA, "failed"), "user_data": "unchanged"}
        passed.says("hostname", f"not changed: cannot remember in .*: {FULL}")
        assert (guest.root / "etc/hostname").read_text() == "owners-own\n"
        assert guest.shadow("alice") == before
        assert (guest.root / "home/alice/.ssh/authorized_keys").read_text() == keys
    shell(guest, "rm var/lib/csagent/fill")
    guest.apply().is_well()


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("mount -t tmpfs -o ro tmpfs run", "umount run"),
        (
            "mount -t tmpfs -o size=8k,nr_inodes=4 tmpfs run; mkdir run/csagent; "
            "cat /dev/zero >run/x 2>&1 || :; touch run/y",
            "umount run",
        ),
    ],
)
def test_a_run_directory_that_cannot_be_written(guest: Tree, spoil: str, mend: str) -> None:
    """The machine is made right all the same; that the pass is not on record is said."""
    shell(guest, spoil)
    done = guest.run("apply", *guest.places)
    assert done.returncode == 0 and "record of this pass could not be written" in done.stderr, done
    assert guest.password_is(user="alice") and len(guest.router.acknowledged) == 1
    shell(guest, mend)
    guest.apply().is_well()


# --- the owner of the account as the adversary ----------------------------------------------------

SWAPPER = r"""
import ctypes, os, sys
home, uid, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
os.umask(0o077)
os.chdir(home)
libc = ctypes.CDLL(None, use_errno=True)
def exchange(one, other):
    libc.renameat2(-100, one.encode(), -100, other.encode(), 2)
def make(path, how):
    try:
        how(path)
    except OSError:
        pass
targets = [root + "/secret", root + "/open", "/proc/self/cwd", "/proc/self/root" + root + "/open", "/etc"]
make(".ssh", os.mkdir)
for number, target in enumerate(targets):
    make(f"l{number}", lambda path: os.symlink(target, path))
    make(f".ssh/f{number}", lambda path: os.symlink(target + "/authorized_keys", path))
make("f0", lambda path: os.symlink("/secret/marker", path))  # as the guest names it
make("fifo", os.mkfifo)
print("up", flush=True)
while True:
    for number in range(len(targets)):
        exchange(".ssh", f"l{number}")
        exchange(".ssh", f"l{number}")
        exchange(".ssh/authorized_keys", f".ssh/f{number}")
        exchange(".ssh/authorized_keys", f".ssh/f{number}")
        make(".ssh/.authorized_keys.csagent-new", lambda path: os.symlink(root + "/secret/marker", path))
        make(".ssh/.authorized_keys.csagent-new", os.unlink)
    exchange(".password.md5", "f0")
    exchange(".password.md5", "fifo")
"""


def snapshot(directory: Path) -> Dict[str, Tuple[Any, ...]]:
    """All that is below a directory: who owns it, how, and what is in it."""
    found: Dict[str, Tuple[Any, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_ino, status.st_uid, status.st_gid, status.st_mode, content)
    return found


def test_the_owner_races_with_us_and_wins_nothing(tree: Path) -> None:
    """She swaps directories, files and links for two seconds: nothing of others is written, given or read."""
    scratch = Path(tempfile.gettempdir())
    for path in (tree, *tree.parents):
        if scratch in path.parents and path.owner() == "root":
            path.chmod(path.stat().st_mode | 0o011)  # she has to get to her home
    home = tree / "home/alice"
    (tree / "etc/passwd").write_text(f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n")
    for name, mode in (("secret", 0o700), ("open", 0o755)):
        (tree / name).mkdir()
        (tree / name / "authorized_keys").write_text(SECRET + "\n")
        (tree / name / "marker").write_text("0123456789abcdef0123456789abcdef\n")
        (tree / name / "authorized_keys").chmod(0o600)
        (tree / name).chmod(mode)
    (home / ".password.md5").write_text("ffffffffffffffffffffffffffffffff\n")
    os.chown(home / ".password.md5", ALICE, ALICE)
    os.chown(home, ALICE, ALICE)
    system = System.at(str(tree))
    account = accounts.find(system, "alice")
    before = snapshot(tree / "secret"), snapshot(tree / "open"), snapshot(tree / "etc")
    done: Dict[str, int] = {"written": 0, "refused": 0}
    told: List[str] = []
    with subprocess.Popen(
        [sys.executable, "-I", "-c", SWAPPER, str(home), str(ALICE), str(tree)], stdout=subprocess.PIPE
    ) as swapper:
        try:
            assert line_of(swapper) == b"up\n"
            end = time.monotonic() + 2.0
            while time.monotonic() < end or sum(done.values()) < 200:
                try:
                    ssh_keys.write_keys(system, account, [make_key(1 + sum(done.values()) % 9)])
                    done["written"] += 1
                except ApplyError as error:
                    told.append(str(error))
                    done["refused"] += 1
                try:
                    assert SECRET not in (ssh_keys.current(system, account) or "")
                except ApplyError:
                    pass
                assert set(applied.load(system, INSTANCE, account.home).script_markers) <= {"f" * 32}
            assert swapper.poll() is None, "she was at it all the time"
        finally:
            swapper.kill()
    assert not any("\n" in line or SECRET in line for line in told)
    assert (snapshot(tree / "secret"), snapshot(tree / "open"), snapshot(tree / "etc")) == before
    assert done["written"] and done["refused"], f"always lost, or always won, it tells nothing: {done}"
    for path in home.rglob("*"):
        assert path.lstat().st_uid == ALICE, f"{path} is not hers"
    subprocess.run(["rm", "-rf", str(home / ".ssh")], check=True, timeout=300)
    ssh_keys.write_keys(system, account, [make_key(1)])


def test_a_stopped_child_is_not_waited_for(guest: Tree) -> None:
    """She may stop the child that has become her: that costs her keys the patience for it, nobody else."""
    code = (
        "import sys; from csagent.apply import ssh_keys; ssh_keys.TIMEOUT = 1.0; import os, signal;"
        "real = ssh_keys._edit;"
        "ssh_keys._edit = lambda *words: (os.kill(os.getpid(), signal.SIGSTOP), real(*words))[1];"
        "from csagent.cli.main import main; sys.exit(main())"
    )
    words = [sys.executable, "-c", code, "--root", str(guest.root), "apply", *guest.places]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=DEADLINE, env=ENVIRONMENT, cwd=REPOSITORY
    )
    status = json.loads((guest.root / "run/csagent/status.json").read_text())
    first = Pass(done.returncode, done.stdout, done.stderr, status)
    first.failed_alone("ssh_keys", "authorized_keys: no answer within 1 s")
    guest.apply().is_well()


# --- the real chpasswd ----------------------------------------------------------------------------

# A root file system of bind mounts: this machine's programs, read-only, and an /etc of its own.
BOX = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
cd "$1"; shift
mkdir -p etc/pam.d proc sys dev run tmp var/lib root home/alice old
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then cp -P "/$name" "$name"; elif [ -d "/$name" ]; then set -- "/$name" "$@"; fi
done
for path in /usr "$@"; do
    mkdir -p ".$path"
    mount --bind "$path" ".$path"
    mount -o remount,ro,bind ".$path"
done
mount -t proc proc proc
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"; done
cp -r /etc/pam.d /etc/login.defs etc/
for name in security ld.so.cache ld.so.conf ld.so.conf.d alternatives; do
    if [ -e "/etc/$name" ]; then cp -r "/etc/$name" etc/; fi
done
printf 'passwd: files\ngroup: files\nshadow: files\n' >etc/nsswitch.conf
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >etc/passwd
printf 'alice:x:12345:12345::/home/alice:/bin/sh\n' >>etc/passwd
printf 'root:x:0:\nshadow:x:42:\nalice:x:12345:\n' >etc/group
printf 'root:!:19000:0:99999:7:::\nalice:!:19000:0:99999:7:::\n' >etc/shadow
chown 0:42 etc/shadow; chmod 640 etc/shadow; chown 12345:12345 home/alice
printf '127.0.0.1\tlocalhost\n' >etc/hosts; echo template >etc/hostname; hostname template
pivot_root . old
umount -l /old
echo up
exec cat >/dev/null
"""


class Box(Tree):
    """A running system, for all that csagent can tell."""

    def __init__(self, directory: Path, network: Namespace) -> None:
        python = {sys.base_prefix, sys.prefix, str(REPOSITORY)}
        shown = sorted(path for path in python if not path.startswith("/usr"))
        flags = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        directory.mkdir()
        self.holder = Holder(
            network.command(["unshare", *flags, "sh", "-c", BOX, "box", str(directory), *shown])
        )
        root = Path(f"/proc/{self.holder.pid}/root")
        enter = [
            "nsenter",
            f"--target={self.holder.pid}",
            "--net",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--",
        ]
        super().__init__(root, None, enter)
        self.patience = 30.0

    def command(self, *words: str) -> List[str]:
        code = (
            f"import sys; sys.path.insert(0, {str(REPOSITORY)!r});"
            f"import csagent.apply.password as p; p.CHPASSWD_TIMEOUT = {self.patience};"
            "from csagent.cli.main import main; sys.exit(main())"
        )
        return [*self.prefix, sys.executable, "-I", "-c", code, *words]

    def do(self, script: str) -> str:
        done = subprocess.run(
            [*self.prefix, "sh", "-ec", script], capture_output=True, text=True, timeout=600, cwd="/"
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def chpasswd(self, script: str) -> None:
        """Put a chpasswd of our own over the distribution's."""
        path = "/run/fake-chpasswd"
        self.do(f"printf '#!/bin/sh\\n%s\\n' '{script}' >{path}; chmod +x {path}")
        self.do(f"mount --bind {path} /usr/sbin/chpasswd")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """The small system, and a router in its network."""
    with Namespace() as network:
        made = Box(tmp_path / "box", network)
        try:
            router = LabRouter(CLOUD)
            network.call(router.start)
            made.router = router
            try:
                yield made
            finally:
                router.stop()
        finally:
            made.holder.close()


NO_FAKE = "umount /usr/sbin/chpasswd; rm /run/fake-chpasswd"
HELD = r"""
import ctypes, sys, time
libc = ctypes.CDLL(None)
print("held" if libc.lckpwdf() == 0 else "not held", flush=True)
sys.stdin.read()
"""

CHPASSWDS: Dict[str, Case] = {
    "missing": Case(
        "mount -t tmpfs tmpfs /usr/sbin", "chpasswd: No such file or directory", "umount /usr/sbin"
    ),
    "not executable": Case(
        "touch /run/x; mount --bind /run/x /usr/sbin/chpasswd",
        "chpasswd: Permission denied",
        "umount /usr/sbin/chpasswd",
    ),
    "failing": Case("echo cannot today >&2; exit 3", "chpasswd failed with 3: cannot today", NO_FAKE),
    "failing, with the password": Case(
        "cat >&2; exit 1", "chpasswd failed with 1; its message has the password in it", NO_FAKE
    ),
    "killed": Case("kill -9 $$", "chpasswd was killed by signal 9", NO_FAKE),
    "lying": Case(
        "cat >/dev/null", "the shadow entry of root did not change: the password was not set", NO_FAKE
    ),
    "lying, without listening": Case("exit 0", "did not change: the password was not set", NO_FAKE),
    "setting another": Case(
        'sed -i "s|^root:[^:]*:|root:\\$6\\$EXAMPLE\\$x:|" /etc/shadow',
        "changed, but not to the new password",
        NO_FAKE,
    ),
    "losing the entry": Case('sed -i "/^root:/d" /etc/shadow', "root has no entry in /etc/shadow", NO_FAKE),
    "hanging": Case("sleep 600", "chpasswd: no end after 2 s", NO_FAKE),
    "hanging, deaf to signals": Case('trap "" TERM INT HUP; cat; sleep 600', "no end after 2 s", NO_FAKE),
    "hanging behind its back": Case("setsid sleep 60 & wait", "no end after 2 s", NO_FAKE),
    "talking for ever": Case("yes >&2", "no end after 2 s", NO_FAKE),
}
FAKES = {name for name, case in CHPASSWDS.items() if case.mend == NO_FAKE}


@pytest.mark.parametrize("case", CHPASSWDS)
def test_a_chpasswd_that_is_against_us(box: Box, case: str) -> None:
    """The password fails alone and in time, and is not acknowledged; the real chpasswd sets it afterwards."""
    spoil, words, mend = CHPASSWDS[case]
    box.patience = 2.0
    if case in FAKES:
        box.chpasswd(spoil)
    else:
        box.do(spoil)
    start = time.monotonic()
    first = box.apply()
    assert time.monotonic() - start < 200
    first.failed_alone("password", words)
    assert box.router.acknowledged == [] and box.router.waiting("127.0.0.1") == PASSWORD
    box.do(mend)
    if case == "losing the entry":
        box.do("echo 'root:!:19000:0:99999:7:::' >>/etc/shadow")
    box.patience = 30.0
    second = box.apply()
    second.is_well()
    assert second.states["password"] == "applied"
    assert box.password_is() and len(box.router.acknowledged) == 1


def test_the_real_chpasswd_unlocks(box: Box) -> None:
    """An account that is locked, as templates have it, takes the password that CloudStack gives it."""
    box.apply().is_well()
    assert box.password_is() and box.shadow("alice") == "!"
    assert box.do("hostname").strip() == "web01"


def test_pam_refuses(box: Box) -> None:
    """A stack that denies: its words are the reason; with the old stack the next pass sets the password."""
    box.do("cp /etc/pam.d/chpasswd /etc/away; echo 'password required pam_deny.so' >/etc/pam.d/chpasswd")
    box.apply().failed_alone("password", "chpasswd failed with 1: .*(pam_chauthtok|password not changed)")
    assert box.shadow() == "!" and box.router.acknowledged == []
    box.do("mv /etc/away /etc/pam.d/chpasswd")
    box.apply().is_well()
    assert box.password_is() and len(box.router.acknowledged) == 1


def test_the_shadow_file_is_locked_by_another_tool(box: Box) -> None:
    """Somebody holds lckpwdf(3): the password fails in time, alone; released, the next pass sets it."""
    box.patience = 2.0
    with subprocess.Popen(
        [*box.prefix, sys.executable, "-I", "-c", HELD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert line_of(other) == b"held\n"
        box.apply().failed_alone("password", "chpasswd: no end after 2 s|chpasswd failed with 1: .*lock")
        other.stdin.close()
    assert box.shadow() == "!" and box.router.acknowledged == []
    box.apply().is_well()
    assert box.password_is() and len(box.router.acknowledged) == 1


def test_a_lock_file_of_a_tool_that_runs(box: Box) -> None:
    """/etc/shadow.lock of a living vipw: whatever chpasswd makes of it, what status says is what is true."""
    box.patience = 3.0
    box.do("echo 1 >/etc/shadow.lock; echo 1 >/etc/passwd.lock")
    first = box.apply()
    assert (first.states["password"] == "applied") is box.password_is()
    assert bool(box.router.acknowledged) is box.password_is()
    if not box.password_is():
        first.failed_alone("password", "chpasswd: no end after 3 s|chpasswd failed with 1: .*lock")
    box.do("rm -f /etc/shadow.lock /etc/passwd.lock")
    box.apply().is_well()
    assert box.password_is() and len(box.router.acknowledged) == 1


@pytest.mark.parametrize("user", ["carol", "toor"])
def test_an_account_that_another_database_knows(box: Box, user: str) -> None:
    """Known to NSS and not to /etc/shadow (LDAP): keys yes, password no, and status says why."""
    box.do(f"echo '{user}:x:{0 if user == 'toor' else 4711}:4711::/home/{user}:/bin/sh' >>/etc/passwd")
    box.do(f"mkdir /home/{user}; chown {0 if user == 'toor' else 4711}:4711 /home/{user}")
    box.settings(f"user: {user}\n")
    box.apply().failed_alone("password", f"{user} has no entry in /etc/shadow: its password lies elsewhere")
    assert box.router.acknowledged == []
    box.do(f"echo '{user}:!:19000:0:99999:7:::' >>/etc/shadow")
    box.apply().is_well()
    assert box.password_is(user=user) and len(box.router.acknowledged) == 1


def test_a_missing_account_on_a_running_system(box: Box) -> None:
    """Keys and password fail with the setting to look at; the name is given; made, the account gets both."""
    box.settings("user: carol\n")
    first = box.apply()
    assert first.code == 3 and first.states["hostname"] == "applied"
    for datum in ("ssh_keys", "password"):
        assert first.states[datum] == "failed"
        first.says(datum, "there is no account carol: see the setting user")
    box.do(
        "echo 'carol:x:4711:4711::/home/carol:/bin/sh' >>/etc/passwd; echo 'carol:!:1::::::' >>/etc/shadow"
    )
    box.do("mkdir /home/carol; chown 4711:4711 /home/carol")
    box.apply().is_well()
    assert box.password_is(user="carol") and len(box.router.acknowledged) == 1


def test_the_shadow_file_alone_is_read_only(box: Box) -> None:
    """PAM's words are those of a rule for passwords; what is told is the file, and what helps."""
    box.do("mount --bind /etc/shadow /etc/shadow; mount -o remount,ro,bind /etc/shadow")
    first = box.apply()
    first.failed_alone("password", f"/etc/shadow: {READ_ONLY}: the file system is read-only; do: dmesg")
    assert box.router.acknowledged == []
    box.do("umount /etc/shadow")
    box.apply().is_well()
    assert box.password_is()


def test_etc_is_full_while_the_real_chpasswd_runs(box: Box) -> None:
    """No room for a new shadow file: the old one stays whole, and is not told; with room it is set."""
    box.do("mkdir /full; mount -t tmpfs -o size=4m tmpfs /full; cp -a /etc/. /full; mount --move /full /etc")
    box.do("cat /dev/zero >/etc/x 2>/dev/null || :; cat /dev/zero >/etc/y 2>/dev/null || :")
    before = box.do("cat /etc/shadow /etc/passwd")
    box.patience = 5.0
    first = box.apply()
    assert first.code == 3 and first.states["password"] == "failed" and first.states["ssh_keys"] == "applied"
    assert box.do("cat /etc/shadow /etc/passwd") == before and box.router.acknowledged == []
    box.do("rm -f /etc/x /etc/y")
    box.apply().is_well()
    assert box.password_is() and len(box.router.acknowledged) == 1
