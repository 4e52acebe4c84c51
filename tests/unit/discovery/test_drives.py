"""DMI, and the block devices that carry the config drive's label."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.discovery import drives
from csagent.discovery.dmi import judge, read_dmi
from csagent.system.seams import Clock, NoCommands, System
from csagent.system.tree import Tree

UUID = "0b5a2f5e-8a0e-4c4d-9a52-2f1e1c0f6a10"


@pytest.mark.parametrize(
    ("vendor", "product", "verdict"),
    [
        ("Apache Software Foundation", "CloudStack KVM Hypervisor", True),
        ("Example Cloud", "CloudStack VMware Hypervisor", True),
        ("Apache Software Foundation", "Cosmic KVM Hypervisor", True),
        ("QEMU", "Standard PC (i440FX + PIIX, 1996)", None),
        ("VMware, Inc.", "VMware Virtual Platform", None),
        ("Xen", "HVM domU", None),
        (None, None, None),
        ("Amazon EC2", "m5.large", False),
        ("Google", "Google Compute Engine", False),
        ("Google", "Chromebook", None),
        ("OpenStack Foundation", "OpenStack Nova", False),
        ("DigitalOcean", "Droplet", False),
    ],
)
def test_platform_verdict(vendor, product, verdict):
    """CloudStack's own strings prove it, another cloud's disprove it, anything else proves nothing."""
    assert judge(vendor, product) is verdict


def dmi(root, **values):
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / name).write_bytes(value)
    return read_dmi(System.at(str(root)))


def test_dmi_values(tmp_path):
    """The UUID is lower case; strings lose line ends and control characters."""
    found = dmi(
        tmp_path,
        sys_vendor=b"Apache Software Foundation\n",
        product_name=b"CloudStack\x1b[2J KVM\n",
        product_uuid=UUID.upper().encode() + b"\n",
    )
    assert (found.vendor, found.uuid, found.cloudstack) == ("Apache Software Foundation", UUID, True)
    assert found.product == "CloudStack[2J KVM"


NO_UUIDS = [b"-".join(digit * count for count in (8, 4, 4, 4, 12)) for digit in (b"0", b"F")]


@pytest.mark.parametrize("value", [b"", b"Not Settable\n", b"\xff" * 300, b"0" * 36, *NO_UUIDS])
def test_dmi_nonsense(tmp_path, value):
    """What is no UUID is none, and empty strings are not known."""
    found = dmi(tmp_path, product_uuid=value, sys_vendor=b"  \n")
    assert (found.vendor, found.product, found.uuid, found.cloudstack) == (None, None, None, None)


# --- drives -----------------------------------------------------------------------------------

WANTED = {"config-2"}


def entry(label, kind="iso9660", cd=True, **more):
    said = {"ID_FS_LABEL": label, "ID_FS_TYPE": kind, **more}
    return {**said, "ID_CDROM": "1"} if cd else said


def test_cd_drives_first_and_all_of_them():
    """Every device with the label counts, whatever its case: CDs, then disks, ISO 9660 before the rest."""
    listed = [
        ("/dev/vdb", entry("config-2", "vfat", cd=False)),
        ("/dev/vdc", entry("CONFIG-2", cd=False)),
        ("/dev/sr1", entry("CONFIG-2")),
        ("/dev/sr0", entry("config-2")),
        ("/dev/sr2", entry("ubuntu")),
        ("/dev/vda1", {}),
        (None, entry("config-2")),
    ]
    found = drives.rank(listed, WANTED)
    assert [drive.device for drive in found] == ["/dev/sr0", "/dev/sr1", "/dev/vdc", "/dev/vdb"]
    assert [drive.label for drive in found][:2] == ["config-2", "CONFIG-2"]


def test_partition_of_a_listed_disk_is_not_listed_again():
    """A hybrid image shows its label on the disk and on its partition; sr11 is no partition of sr1."""
    listed = [
        (node, entry("config-2", cd=False))
        for node in ("/dev/vdb", "/dev/vdb1", "/dev/sdc1", "/dev/nvme0n1p1")
    ]
    assert [drive.device for drive in drives.rank(listed, WANTED)] == [
        "/dev/nvme0n1p1",
        "/dev/sdc1",
        "/dev/vdb",
    ]
    discs = [(node, entry("config-2")) for node in ("/dev/sr1", "/dev/sr11")]
    assert len(drives.rank(discs, WANTED)) == 2
    namespaced = [(node, entry("config-2", cd=False)) for node in ("/dev/nvme0n1", "/dev/nvme0n1p1")]
    assert [drive.device for drive in drives.rank(namespaced, WANTED)] == ["/dev/nvme0n1"]


def test_encoded_label():
    r"""A label that udev only has in its encoded form (``\x20`` for a blank) is recognised."""
    listed = [("/dev/sr0", {"ID_FS_LABEL": "config_2", "ID_FS_LABEL_ENC": "config\\x202"})]
    assert drives.rank(listed, {"config 2"})[0].label == "config 2"
    assert drives.decoded("a\\x2fb\\xc3\\xa9\\xff") == "a/bé�"


class LiveTree(Tree):
    """A scratch directory that passes for the running system."""

    def __init__(self, root):
        super().__init__(str(root))
        self.live = True


def live(root):
    return System(tree=LiveTree(root), clock=Clock(), runner=NoCommands())


class Devices(LiveTree):
    """A running system with block devices by path, of which nothing is opened."""

    def __init__(self, root, **kernel):
        super().__init__(root)
        self.numbers = {}
        (root / "sys/dev/block").mkdir(parents=True)
        for number, (name, where) in enumerate(kernel.items()):
            self.numbers[f"/dev/{name}"] = os.makedev(8, number)
            (root / f"sys/dev/block/8:{number}").symlink_to(f"../../devices/{where}/block/{name}")

    def stat(self, path, *, follow=True):
        if path not in self.numbers:
            return super().stat(path, follow=follow)
        return os.stat_result((stat.S_IFBLK | 0o660, *[0] * 9), {"st_rdev": self.numbers[path]})


PCI = "pci0000:00/0000:00:01.1/ata1"


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [
        ("sr0", PCI, ""),
        ("vdb1", PCI, ""),
        ("xvdz", "vbd-51712", ""),
        ("nvme0n1p2", PCI, ""),
        ("loop1", "virtual", "made by software"),
        ("dm-3", "virtual", "made by software"),
        ("zram0", "virtual", "made by software"),
        ("md127", "virtual", "made by software"),
        ("sr7", "virtual", "made by software"),
        ("nvme0n1", "virtual/nvme-subsystem/nvme-subsys0", "made by software"),
        ("fd0", "platform/floppy.0", "no CD drive or disk"),
        ("srx", PCI, "no CD drive or disk"),
        ("nbd0", PCI, "no CD drive or disk"),
    ],
)
def test_which_devices_may_be_read(tmp_path, name, where, words):
    """A hypervisor's CD drives and disks, by a list; nothing that software in this machine has made."""
    system = live(tmp_path)._replace(tree=Devices(tmp_path, **{name: where}))
    reason = drives.why_not_node(system, f"/dev/{name}")
    assert words in reason and bool(words) == bool(reason)
    assert drives.why_not_node(system, f"/dev/{name}", [f"/dev/{name}"]) == ""
    assert bool(words) == bool(drives.why_not_node(system, f"/dev/{name}", ["/dev/other"]))


def test_a_device_that_the_kernel_does_not_know(tmp_path):
    """Without sysfs nobody can tell what a device is: it is not read, unless a setting names it."""
    system = live(tmp_path)._replace(tree=Devices(tmp_path, sr0=PCI))
    system.tree.numbers["/dev/sr0"] = os.makedev(11, 5)
    assert "does not tell" in drives.why_not_node(system, "/dev/sr0")
    assert drives.why_not_node(system, "/dev/sr0", ["/dev/sr0"]) == ""


def test_virtual_devices_rank_last(tmp_path, monkeypatch):
    """Whoever makes loop devices with the label moves no other drive, and is named."""
    tree = Devices(tmp_path, loop0="virtual", loop1="virtual", sr1=PCI, vdb=PCI)
    listed = [(f"/dev/{name}", entry("config-2", cd=False)) for name in ("loop0", "loop1", "sr1", "vdb")]
    monkeypatch.setattr(drives, "_listed", lambda _system: listed)
    monkeypatch.setattr(drives, "udev_runs", lambda _system: True)
    system = live(tmp_path)._replace(tree=tree)
    found = drives.drives(system, ["config-2"])
    assert [drive.device for drive in found] == ["/dev/sr1", "/dev/vdb", "/dev/loop0", "/dev/loop1"]
    found = drives.drives(system, ["config-2"], named=["/dev/loop1"])
    assert [drive.device for drive in found] == ["/dev/sr1", "/dev/loop1", "/dev/vdb", "/dev/loop0"]


def test_many_virtual_devices_hide_no_drive(tmp_path):
    """The bound on what is read of udev's database counts a config drive's kinds first."""
    for number, name in enumerate((*(f"loop{one}" for one in range(drives.MAX_DEVICES + 5)), "sr0")):
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
        (tmp_path / "sys/class/block" / name / "dev").write_text(f"7:{number}\n")
    assert drives.udev_database(live(tmp_path))[0][0] == "/dev/sr0"


def by_label(root, *names):
    folder = root / "dev/disk/by-label"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).symlink_to("../../sr1")


def test_hint_by_label_links(tmp_path):
    """With udev running, only a link that equals a label (case folded, decoded) makes it worth a look."""
    (tmp_path / "run/udev").mkdir(parents=True)
    (tmp_path / "run/udev/control").write_text("")
    by_label(tmp_path, "CONFIG-2", "my\\x20disk", "root")
    assert drives.worth_a_look(live(tmp_path), ["config-2"])
    assert drives.worth_a_look(live(tmp_path), ["My disk"])
    assert not drives.worth_a_look(live(tmp_path), ["other"])
    assert not drives.worth_a_look(System.at(str(tmp_path)), ["config-2"])


def test_hint_without_udev(tmp_path):
    """Without udev there are no links to go by, so every look is worth it."""
    assert drives.worth_a_look(live(tmp_path), ["config-2"])


def test_a_tree_has_no_drives(tmp_path):
    """A mounted image has no devices; of a support archive see test_bundle."""
    by_label(tmp_path, "config-2")
    assert drives.drives(System.at(str(tmp_path)), ["config-2"], (("/dev/sr0", "config-2"),)) == ()


def test_without_udev_the_labels_read_as_root_count(tmp_path):
    """In a container the ISO's own label decides; CD drives first."""
    volumes = (("/dev/loop0", "config-2"), ("/dev/sr1", "CONFIG-2"), ("/dev/sr0", "UBUNTU"))
    found = drives.drives(live(tmp_path), ["config-2"], volumes)
    assert [(drive.device, drive.label) for drive in found] == [
        ("/dev/sr1", "CONFIG-2"),
        ("/dev/loop0", "config-2"),
    ]
    assert drives.drives(live(tmp_path), [], volumes) == ()


def descriptor(label):
    return b"\x01CD001\x01\0" + b"LINUX".ljust(32) + label.ljust(32)


def test_iso_label():
    """The volume identifier stands padded with blanks at offset 40 of the primary volume descriptor."""
    assert drives.iso_label(descriptor(b"config-2")) == "config-2"
    assert drives.iso_label(descriptor(b"")) is None
    assert drives.iso_label(b"\x02" + descriptor(b"config-2")[1:]) is None
    assert drives.iso_label(b"") is None


@given(sector=st.binary(max_size=100))
def test_any_sector(sector):
    """Any bytes in sector 16 give a label or none."""
    label = drives.iso_label(b"\x01CD001" + sector)
    assert label is None or 0 < len(label) <= 32


def test_only_block_devices_are_opened_for_their_label(tmp_path):
    """A regular file or a FIFO under /dev is not taken for a drive, and a FIFO does not hold us up."""
    (tmp_path / "dev").mkdir()
    image = b"\0" * drives.VOLUME_DESCRIPTOR + descriptor(b"config-2")
    (tmp_path / "dev/sr0").write_bytes(image)
    os.mkfifo(tmp_path / "dev/sr1")
    for name in ("sr0", "sr1", "sr2", "fd0"):
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
    assert drives.read_volumes(live(tmp_path)) == ()


def test_udevs_own_files_where_pyudev_is_missing(tmp_path):
    """udev's database in /run/udev/data tells the same: one file per device number."""
    for name, number, text in (
        ("sr1", "11:1", "E:ID_FS_LABEL=config-2\nE:ID_FS_TYPE=iso9660\nE:ID_CDROM=1\n"),
        ("vda", "254:0", "S:disk/x\nE:ID_FS_LABEL=root\n"),
        ("cciss!c0d0", "104:0", ""),
    ):
        (tmp_path / "sys/class/block" / name).mkdir(parents=True)
        (tmp_path / "sys/class/block" / name / "dev").write_text(number + "\n")
        (tmp_path / "run/udev/data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "run/udev/data" / f"b{number}").write_text(text)
    listed = drives.udev_database(live(tmp_path))
    assert [node for node, _ in listed] == ["/dev/sr1", "/dev/vda", "/dev/cciss/c0d0"]
    assert [drive.device for drive in drives.rank(listed, WANTED)] == ["/dev/sr1"]


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and loop devices"
)
def test_label_of_a_loop_device(tmp_path):
    """A real block device is read at sector 16; a virtual one where a setting names it."""
    import fcntl

    image = tmp_path / "image"
    image.write_bytes(
        b"\0" * drives.VOLUME_DESCRIPTOR + descriptor(b"CONFIG-2").ljust(2048, b"\0") + b"\0" * 65536
    )
    try:
        with open("/dev/loop-control", "rb") as control:
            number = fcntl.ioctl(control, 0x4C82)  # LOOP_CTL_GET_FREE
        loop = open(f"/dev/loop{number}", "r+b", buffering=0)  # noqa: SIM115
    except OSError as error:
        pytest.skip(f"no loop device to be had: {error}")
    with loop, open(image, "r+b") as backing:
        fcntl.ioctl(loop, 0x4C00, backing.fileno())  # LOOP_SET_FD
        try:
            named = [f"/dev/loop{number}"]
            assert drives.volume_label(System(), named[0]) is None
            assert drives.volume_label(System(), named[0], named) == "CONFIG-2"
            assert drives.read_volumes(System(), named) == (
                (named[0], "CONFIG-2"),
                *drives.read_volumes(System()),
            )
        finally:
            fcntl.ioctl(loop, 0x4C01)  # LOOP_CLR_FD
