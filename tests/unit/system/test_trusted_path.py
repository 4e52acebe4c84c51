"""Who could have written a file: its owner, its mode, and those of everything on the way to it."""

import errno
import os
import struct

import pytest

from csagent.errors import Distrusted, UsageError
from csagent.system import trusted_path
from csagent.system.seams import System

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others"),
]
PERSON, SYSTEM_ACCOUNT, NOBODY = 1000, 998, 65534
NONE = 0xFFFFFFFF
FILE = "/var/lib/dhcp/dhclient.leases"
GROUPS = "root:x:0:\nsystemd-network:x:998:\ndhcpd:x:997:\nlxd:x:996:mallory\nmallory:x:1000:\n"
PASSWD = (
    "root:x:0:0::/root:/bin/sh\nsystemd-network:x:998:998::/:/usr/sbin/nologin\n"
    "mallory:x:1000:995::/home/mallory:/bin/sh\n"
)


@pytest.fixture
def machine(tmp_path):
    """A machine with a lease file of root's."""
    for path, content in (("etc/passwd", PASSWD), ("etc/group", GROUPS), (FILE[1:], "lease {}\n")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return tmp_path


def judge(machine, path=FILE, owner=trusted_path.SYSTEM):
    """The objection, as on the running system: the tree is not its builder's."""
    system = System.at(str(machine))
    system.tree.live = True
    return judge_in(system, path, owner)


def judge_in(system, path=FILE, owner=trusted_path.SYSTEM):
    """Why the file is not believed, or that there is none to be had; None where it is open."""
    try:
        os.close(trusted_path.open_file(system, path, owner))
    except Distrusted as error:
        return str(error)
    except OSError as error:
        return error.strerror
    return None


def test_roots_own(machine):
    """Nobody else can write there; what is not there is nothing, and no directory is a file."""
    assert judge(machine) is None
    assert judge(machine, "/var/lib/dhcp/none") == "No such file or directory"
    assert judge(machine, "/var/lib/dhcp") == "not a regular file"


@pytest.mark.parametrize("where", ["/", "/var", "/var/lib/dhcp", FILE])
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "says"),
    [
        (0, 0, 0o755, None),
        (SYSTEM_ACCOUNT, 998, 0o755, None),
        (SYSTEM_ACCOUNT, 998, 0o775, None),
        (0, 997, 0o775, None),
        (0, 0, 0o775, None),
        (PERSON, 0, 0o755, "belongs to user 1000"),
        (NOBODY, 0, 0o755, "belongs to user 65534"),
        (0, 0, 0o757, "everybody can write"),
        (0, 996, 0o775, "group 996 can write"),
        (0, 995, 0o775, "group 995 can write"),
        (0, PERSON, 0o775, "group 1000 can write"),
    ],
)
def test_every_step_counts(machine, where, uid, gid, mode, says):
    """Root or a system account may hold it; no person may write it, nor a group that has a person in it."""
    step = machine / where.strip("/")
    os.chown(step, uid, gid)
    step.chmod(mode)
    told = judge(machine)
    assert (told is None) if says is None else (told is not None and says in told and "\n" not in told), told


def test_the_sticky_bit(machine):
    """In /var/tmp it is the file's owner that counts, since nobody changes another's there."""
    (machine / "var/tmp/cloud-init").mkdir(parents=True)
    for path in ("var/tmp", "var/tmp/cloud-init"):
        (machine / path).chmod(0o1777)
    lease = machine / "var/tmp/cloud-init/eth0.lease.json"
    lease.write_text("{}\n")
    assert judge(machine, "/var/tmp/cloud-init/eth0.lease.json") is None
    os.chown(lease, PERSON, PERSON)
    assert "belongs to user 1000" in judge(machine, "/var/tmp/cloud-init/eth0.lease.json")
    os.chown(lease, 0, 0)
    os.chown(machine / "var/tmp/cloud-init", PERSON, PERSON)
    assert "/var/tmp/cloud-init belongs to user 1000" in judge(machine, "/var/tmp/cloud-init/eth0.lease.json")


def test_a_link_on_the_way(machine):
    """A person's link is a person's word; root's leads on, and what it leads to is judged as well."""
    (machine / "home/mallory").mkdir(parents=True)
    (machine / "home/mallory/leases").write_text("lease {}\n")
    os.chown(machine / "home/mallory", PERSON, PERSON)
    link = machine / "var/lib/dhcp/linked"
    (machine / "leases").write_text("lease {}\n")
    os.chown(machine / "leases", PERSON, PERSON)
    link.symlink_to("/leases")
    assert judge(machine, "/var/lib/dhcp/linked").startswith("/leases belongs"), "where it leads"
    link.unlink()
    link.symlink_to("/home/mallory/leases")
    assert "/home/mallory belongs to user 1000" in judge(machine, "/var/lib/dhcp/linked")
    link.unlink()
    link.symlink_to("dhclient.leases")
    assert judge(machine, "/var/lib/dhcp/linked") is None
    for uid in (PERSON, SYSTEM_ACCOUNT):  # a system account's could have root read what only root may
        os.chown(link, uid, uid, follow_symlinks=False)
        assert f"linked belongs to user {uid}, not to root" in judge(machine, "/var/lib/dhcp/linked")
    os.chown(link, 0, 0, follow_symlinks=False)
    link.unlink()
    link.symlink_to("linked")
    assert "symbolic links" in judge(machine, "/var/lib/dhcp/linked")


def test_where_persons_begin(machine):
    """Old distributions number them from 500: login.defs says so."""
    os.chown(machine / FILE[1:], 500, 500)
    assert judge(machine) is None
    (machine / "etc/login.defs").write_text("# UID_MIN 1\nUID_MIN\t\t  500\n")
    assert "belongs to user 500" in judge(machine)


def test_root_alone(machine):
    """Where root's code is concerned a system account is somebody else."""
    os.chown(machine / FILE[1:], SYSTEM_ACCOUNT, 0)
    assert judge(machine, owner=trusted_path.ROOT).endswith("belongs to user 998, not to root")


def test_a_tree_may_be_its_builders(machine):
    """A checkout belongs to whoever made it; another person's file in it is still not believed."""
    system = System.at(str(machine))
    os.chown(machine / FILE[1:], PERSON, PERSON)
    assert "belongs to user 1000" in judge_in(system)
    os.chown(machine, PERSON, PERSON)
    assert judge_in(system) is None


def test_only_root_counts_where_everybody_makes_files(machine):
    """Of a system account's file in /var/tmp nobody can tell who had that account make it."""
    (machine / "var/tmp").mkdir()
    (machine / "var/tmp").chmod(0o1777)
    (machine / "var/tmp/lease").write_text("lease {}\n")
    os.chown(machine / "var/tmp/lease", SYSTEM_ACCOUNT, SYSTEM_ACCOUNT)
    assert "not to root" in judge(machine, "/var/tmp/lease")


def test_a_person_in_the_group_root(machine):
    """0664 root:root is not root's word alone where somebody is in that group."""
    (machine / FILE[1:]).chmod(0o664)
    assert judge(machine) is None
    (machine / "etc/group").write_text(GROUPS.replace("root:x:0:", "root:x:0:mallory"))
    assert "group 0 can write" in judge(machine)


@pytest.mark.parametrize("owner", [trusted_path.SYSTEM, trusted_path.ROOT])
def test_a_member_of_a_group_that_no_file_knows(machine, owner):
    """Somebody of LDAP's in the group is somebody; an account of the system's is not."""
    (machine / FILE[1:]).chmod(0o664)
    (machine / "etc/group").write_text(GROUPS.replace("root:x:0:", "root:x:0:systemd-network"))
    assert judge(machine, owner=owner) is None
    (machine / "etc/group").write_text(GROUPS.replace("root:x:0:", "root:x:0:systemd-network,of-ldap"))
    assert "group 0 can write" in judge(machine, owner=owner)
    os.chown(machine / FILE[1:], 0, 997)
    (machine / "etc/group").write_text(GROUPS.replace("dhcpd:x:997:", "dhcpd:x:997:of-ldap"))
    assert "group 997 can write" in judge(machine, owner=owner)


ACL_HEADER = struct.pack("<I", 2)


@pytest.mark.parametrize(
    ("entry", "mask", "says"),
    [
        ((2, 6, PERSON), 6, "user 1000 can write"),
        ((8, 6, PERSON), 6, "group 1000 can write"),
        ((2, 6, SYSTEM_ACCOUNT), 6, None),
        ((2, 4, PERSON), 6, None),
        ((2, 6, PERSON), 4, None),
    ],
)
def test_access_lists(machine, entry, mask, says):
    """Whom an access list lets write counts as much as the group of the mode; its mask counts for all."""
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (4, 4, none), (16, mask, none), (32, 4, none), entry]
    raw = ACL_HEADER + b"".join(struct.pack("<HHI", *one) for one in sorted(entries))
    target = machine / FILE[1:]
    try:
        os.setxattr(target, "system.posix_acl_access", raw)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip("no access lists on this file system")
    told = judge(machine)
    assert (told is None) if says is None else says in told


def test_what_is_judged_is_what_is_open(machine, monkeypatch):
    """A directory that is swapped after it was looked at is not the one whose file is read."""
    (machine / "home/mallory/dhcp").mkdir(parents=True)
    (machine / "home/mallory/dhcp/dhclient.leases").write_text("EVIL marker\n")
    os.chown(machine / "home/mallory/dhcp", PERSON, PERSON)
    os.chown(machine / "home/mallory/dhcp/dhclient.leases", 0, 0)
    system = System.at(str(machine))
    before = trusted_path._Judge.__call__

    def swap(judge, step):
        before(judge, step)
        if step.path == "/var/lib/dhcp":
            (machine / "var/lib/dhcp").rename(machine / "var/lib/was")
            (machine / "home/mallory/dhcp").rename(machine / "var/lib/dhcp")

    monkeypatch.setattr(trusted_path._Judge, "__call__", swap)
    descriptor = trusted_path.open_file(system, FILE, trusted_path.SYSTEM)
    try:
        assert os.read(descriptor, 100) == b"lease {}\n"
    finally:
        os.close(descriptor)


MODULES = "/opt/csagent/lib"


def judge_modules(machine):
    """The objection to a directory of modules; None where there is none."""
    system = System.at(str(machine))
    system.tree.live = True
    try:
        trusted_path.refuse_if_others_may_change_below(system, MODULES)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("where", ["", "yaml", "yaml/__init__.py", "yaml/__pycache__/x.pyc", "a.pth"])
@pytest.mark.parametrize(("uid", "mode"), [(0, 0o757), (PERSON, 0o755), (SYSTEM_ACCOUNT, 0o755), (0, 0o1777)])
def test_every_module_counts(machine, where, uid, mode):
    """A file or directory, at any depth, that somebody else could write: what is imported runs as root."""
    step = modules(machine) / where
    assert judge_modules(machine) is None
    os.chown(step, uid, 0)
    step.chmod(mode)
    assert "can be changed by others" in judge_modules(machine)


def modules(machine):
    top = machine / MODULES[1:]
    (top / "yaml/__pycache__").mkdir(parents=True)
    for name in ("yaml/__init__.py", "yaml/__pycache__/x.pyc", "a.pth"):
        (top / name).write_text("")
    return top


def test_links_among_modules(machine):
    """What a link leads to is judged, and all below it; one to nowhere or in a circle is passed over."""
    top = modules(machine)
    (machine / "usr/share/lib/deep").mkdir(parents=True)
    (machine / "usr/share/lib/deep/x.py").write_text("")
    (top / "lib").symlink_to("/usr/share/lib")
    (machine / "usr/share/lib/deep/back").symlink_to(MODULES)
    (top / "gone.py").symlink_to("nothing")
    assert judge_modules(machine) is None
    os.chown(machine / "usr/share/lib/deep/x.py", PERSON, 0)
    assert "lib/deep/x.py can be changed" in judge_modules(machine)
    os.chown(machine / "usr/share/lib/deep/x.py", 0, 0)
    os.chown(top / "lib", PERSON, 0, follow_symlinks=False)
    assert f"{MODULES}/lib can be changed" in judge_modules(machine)


def test_a_module_with_an_access_list(machine):
    """A person's entry in an access list is a way to write, too."""
    top = modules(machine)
    given = struct.pack("<I", 2)
    for tag, permissions, number in (
        (0x01, 6, NONE),
        (0x02, 6, PERSON),
        (0x04, 4, NONE),
        (0x10, 6, NONE),
        (0x20, 4, NONE),
    ):
        given += struct.pack("<HHI", tag, permissions, number)
    try:
        os.setxattr(top / "a.pth", "system.posix_acl_access", given)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert "a.pth can be changed" in judge_modules(machine)
