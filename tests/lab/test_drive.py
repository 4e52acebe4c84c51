"""Config drives as ISO makers write them, read from end to end."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from csagent.lab import drive as lab
from csagent.lab.network_data import CloudNetwork
from csagent.model import Place, Reading
from csagent.sources.drive import device
from csagent.system.seams import System

UUID = "3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f one@example"
KEY2 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA two@example"
CLOUDSTACK_FLAGS = [
    *("-ldots", "-allow-lowercase", "-allow-multidot", "-cache-inodes", "-l"),
    *("-quiet", "-J", "-r", "-V", "config-2"),
]
USER_DATA = b"\x1f\x8b\x08\0" + bytes(range(256)) + b"\r\n"

FILES: Dict[str, bytes] = {
    "cloudstack/metadata/availability-zone.txt": rb"Z\u00FCrich",
    "cloudstack/metadata/cloud-identifier.txt": b"CloudStack-{" + UUID.encode() + b"}",
    "cloudstack/metadata/instance-id.txt": UUID.encode(),
    "cloudstack/metadata/vm-id.txt": UUID.encode(),
    "cloudstack/metadata/local-hostname.txt": b"web01",
    "cloudstack/metadata/local-ipv4.txt": b"10.7.0.21",
    "cloudstack/metadata/public-keys.txt": f"{KEY}\n{KEY2}".encode(),
    "cloudstack/metadata/service-offering.txt": b"Small Instance",
    "cloudstack/metadata/tier-x.txt": b"frontend",
    "cloudstack/password/vm_password.txt": b"EXAMPLE-pw",
    "cloudstack/password/vm-password-md5checksum.txt": b"",
    "cloudstack/userdata/user_data.txt": USER_DATA,
    "openstack/latest/meta_data.json": json.dumps(
        {"uuid": UUID, "hostname": "web01", "tier-x": "frontend"}
    ).encode(),
    "openstack/latest/network_data.json": b'{"services": [{"type": "dns", "address": "10.7.0.2"}]}',
    "openstack/latest/vendor_data.json": b'{"cloud-init": "#cloud-config\\npassword: EXAMPLE-vendor\\n"}',
    "openstack/latest/user_data": USER_DATA,
}


def md5_of(text: bytes) -> bytes:
    """As CloudStack writes it: hexadecimal without leading zeros."""
    import hashlib

    return hashlib.md5(text).hexdigest().lstrip("0").encode()


FILES["cloudstack/password/vm-password-md5checksum.txt"] = md5_of(b"EXAMPLE-pw")


def write_tree(base: Path, files: Dict[str, bytes]) -> Path:
    """The files, as files; the second user-data is a hard link, as CloudStack makes it."""
    for name, content in files.items():
        target = base / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == "openstack/latest/user_data" and "cloudstack/userdata/user_data.txt" in files:
            os.link(base / "cloudstack/userdata/user_data.txt", target)
        else:
            target.write_bytes(content)
    return base


def need(program: str) -> str:
    """The program's path; on a developer's machine without it, the test is skipped."""
    path = shutil.which(program)
    if path is None:
        assert not os.environ.get("CI"), f"{program} must be installed where CI runs"
        pytest.skip(f"{program} is not installed")
    return path


def make(
    tmp_path: Path, command: str, files: Optional[Dict[str, bytes]] = None, flags: Optional[List[str]] = None
) -> str:
    """An image made by a real ISO maker."""
    program, *mode = command.split()
    tree = write_tree(tmp_path / "tree", FILES if files is None else files)
    target = str(tmp_path / "drive.iso")
    arguments = [
        need(program),
        *mode,
        "-o",
        target,
        *(CLOUDSTACK_FLAGS if flags is None else flags),
        str(tree),
    ]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    return target


def built(tmp_path: Path, files: Dict[str, bytes], label: str = "config-2", **trees: bool) -> str:
    """An image made by pycdlib."""
    target = tmp_path / "drive.iso"
    target.write_bytes(lab.image(files, label, **trees))
    return str(target)


def read(
    path: str, *, given: bool = True, labels: Tuple[str, ...] = ("config-2",)
) -> Tuple[Optional[Reading], Place]:
    """Both steps, in this process; no descriptor is left open."""
    gc.collect()  # what earlier tests left behind may not go in between
    before = os.listdir("/proc/self/fd")
    opened = device.open_place(System.at("/"), path, given=given)
    device.warm_up(opened)
    result = device.read(opened, labels=labels)
    assert os.listdir("/proc/self/fd") == before
    return result


def check_whole(reading: Optional[Reading], place: Place) -> None:
    """Everything of FILES was read."""
    assert reading is not None, place
    assert place.outcome == "ok"
    assert reading.instance_id == UUID
    assert reading.metadata["local-hostname"] == "web01"
    assert reading.metadata["availability-zone"] == "Zürich"
    assert reading.metadata["tier-x"] == "frontend"
    assert reading.metadata["local-ipv4"] == "10.7.0.21"
    assert reading.ssh_keys == (KEY, KEY2)
    assert reading.password.state == "offered"
    assert reading.password.value is not None and reading.password.value.reveal() == b"EXAMPLE-pw"
    assert reading.user_data == USER_DATA
    assert reading.network is not None
    assert reading.refusals == ()
    assert "EXAMPLE" not in repr(place) + repr(reading)


MAKERS = ["genisoimage", "xorrisofs", "xorriso -as mkisofs"]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_drive_made_as_cloudstack_makes_it_is_read_whole(tmp_path: Path, maker: str) -> None:
    """The exact flags of CloudStack, with both programs that management servers have."""
    check_whole(*read(make(tmp_path, maker)))


@pytest.mark.parametrize("maker", ["genisoimage", "xorrisofs"])
@pytest.mark.parametrize(
    "flags",
    [
        "-quiet -l -J -V config-2",
        "-quiet -r -V config-2",
        "-quiet -l -V config-2",
        "-quiet -l -J -r -V CONFIG-2",
    ],
    ids=["joliet", "rock-ridge", "plain", "upper-case-label"],
)
def test_every_tree_of_an_image_will_do(tmp_path: Path, maker: str, flags: str) -> None:
    """Joliet without Rock Ridge, Rock Ridge alone, plain names, and the label in the other case."""
    arguments = flags.split()
    if maker == "xorrisofs" and "-r" not in arguments:
        arguments.append("--norock")
    check_whole(*read(make(tmp_path, maker, flags=arguments), given=True))


def test_names_cut_to_8_3_still_give_what_is_unambiguous(tmp_path: Path) -> None:
    """xorriso without -l; the password beside its checksum cannot be told from it, and is refused."""
    reading, place = read(make(tmp_path, "xorrisofs", flags=["--norock", "-quiet", "-V", "config-2"]))
    assert reading is not None and place.outcome == "ok"
    assert reading.instance_id == UUID
    assert reading.metadata["local-hostname"] == "web01"
    assert reading.ssh_keys == (KEY, KEY2)
    assert reading.user_data == USER_DATA
    assert reading.password.state == "unknown"
    assert ["8.3" in refusal.reason for refusal in reading.refusals if refusal.datum == "password"] == [True]


@pytest.mark.parametrize(
    ("rock_ridge", "joliet"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_drive_of_the_lab_is_read_whole(tmp_path: Path, rock_ridge: bool, joliet: bool) -> None:
    """pycdlib's own images, in all four combinations of trees."""
    check_whole(*read(built(tmp_path, FILES, rock_ridge=rock_ridge, joliet=joliet)))


def test_a_directory_is_read_whole(tmp_path: Path) -> None:
    """As somebody copied or mounted a drive."""
    check_whole(*read(str(write_tree(tmp_path / "tree", FILES))))


def test_a_drive_that_was_found_is_read_inside_the_tree(tmp_path: Path) -> None:
    """Paths that were found are the guest's: below --root, links stay inside."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/sr1").write_bytes(lab.image(FILES))
    (tmp_path / "dev/cdrom").symlink_to("/dev/sr1")
    system = System.at(str(tmp_path))
    for path in ("/dev/sr1", "/dev/cdrom"):
        opened = device.open_place(system, path, given=False, why="labelled config-2")
        reading, place = device.read(opened)
        check_whole(reading, place)
        assert (place.place, place.why) == (f"drive {path}", "labelled config-2")
    reading, place = device.read(device.open_place(system, "/dev/sr0", given=False))
    assert (reading, place.outcome) == (None, "absent")


@pytest.mark.parametrize(
    ("label", "labels", "given", "outcome"),
    [
        ("config-2", ("config-2",), False, "ok"),
        ("CONFIG-2", ("config-2",), False, "ok"),
        ("config-2", ("Config-2",), False, "ok"),
        ("ours", ("config-2", "ours"), False, "ok"),
        ("ours", ("config-2",), False, "foreign"),
        ("ours", ("config-2",), True, "ok"),
        ("config-2x", ("config-2",), False, "foreign"),
    ],
)
def test_the_label_must_be_one_of_those_configured(
    tmp_path: Path, label: str, labels: Tuple[str, ...], given: bool, outcome: str
) -> None:
    """Case folded; where the operator named the drive, any label will do."""
    (tmp_path / "drive.iso").write_bytes(lab.image(FILES, label))
    system = System.at("/" if given else str(tmp_path))
    path = str(tmp_path / "drive.iso") if given else "/drive.iso"
    reading, place = device.read(device.open_place(system, path, given=given), labels=labels)
    assert place.outcome == outcome
    assert (reading is not None) == (outcome == "ok")


# --- parts of a drive


def test_a_drive_with_only_the_network_gives_only_that(tmp_path: Path) -> None:
    """CloudStack 4.20 where no network has its user-data on the drive (field/cloudstack#edge-60)."""
    files = {name: FILES[name] for name in FILES if name.endswith(("network_data.json", "vendor_data.json"))}
    reading, place = read(make(tmp_path, "genisoimage", files))
    assert reading is not None and place.outcome == "ok"
    assert reading.network is not None and reading.instance_id is None
    assert reading.password.state == "unknown"
    assert "no cloudstack/ directory" in place.detail and "vendor_data.json" in place.detail


def test_a_drive_of_openstack_is_foreign(tmp_path: Path) -> None:
    """The same label, no cloudstack/ directory, OpenStack's own members; given by the operator or not."""
    document = {"uuid": UUID, "hostname": "x", "launch_index": 0, "random_seed": "x", "project_id": "p"}
    files = {
        "ec2/latest/meta-data.json": b"{}",
        "openstack/2018-08-27/meta_data.json": json.dumps(document).encode(),
        "openstack/latest/meta_data.json": json.dumps(document).encode(),
    }
    reading, place = read(built(tmp_path, files))
    assert (reading, place.outcome) == (None, "foreign")
    assert "OpenStack" in place.detail


def test_without_latest_the_newest_version_counts(tmp_path: Path) -> None:
    """openstack/VERSION/ in place of openstack/latest/, next to cloudstack/."""
    files = {
        "cloudstack/metadata/instance-id.txt": UUID.encode(),
        "openstack/2012-08-10/meta_data.json": b'{"hostname": "old"}',
        "openstack/2018-08-27/meta_data.json": b'{"hostname": "new"}',
    }
    reading, _place = read(built(tmp_path, files))
    assert reading is not None and reading.metadata["local-hostname"] == "new"


@pytest.mark.parametrize("name", ["cloudstack/userdata/user_data.txt", "openstack/latest/user_data"])
def test_either_user_data_will_do(tmp_path: Path, name: str) -> None:
    """Binary gzip, to the byte, from the tree that has it."""
    reading, _place = read(built(tmp_path, {"cloudstack/metadata/vm-id.txt": UUID.encode(), name: USER_DATA}))
    assert reading is not None and reading.user_data == USER_DATA


@pytest.mark.parametrize(
    "name", ["vm-password-md5checksum.txt", "vm_password_md5checksum.txt", "VM_PASSWORD_MD5CHECKSUM.TXT"]
)
@pytest.mark.parametrize(("checksum", "state"), [(md5_of(b"EXAMPLE-pw"), "offered"), (b"abc", "unknown")])
def test_the_checksum_counts_in_every_spelling(
    tmp_path: Path, name: str, checksum: bytes, state: str
) -> None:
    """With hyphens, underscores, upper case."""
    files = {
        "cloudstack/password/vm_password.txt": b"EXAMPLE-pw",
        f"cloudstack/password/{name}": checksum,
        "cloudstack/metadata/vm-id.txt": UUID.encode(),
    }
    reading, place = read(make(tmp_path, "genisoimage", files))
    assert reading is not None and place.outcome == "ok"
    assert reading.password.state == state
    assert len(reading.refusals) == (state != "offered")


# --- what is no drive


def test_what_is_not_there_or_no_drive_has_a_reason(tmp_path: Path) -> None:
    """Missing, empty, text, a pipe, an empty directory, a too large file."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"x" * 100)
    (tmp_path / "text").write_bytes(b"x" * 50_000)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    image = lab.image(FILES)
    (tmp_path / "large").write_bytes(image)
    os.truncate(tmp_path / "large", (64 << 20) + 1)
    expected = {
        "missing": ("absent", "no such device or file"),
        "text/x": ("absent", "no such device or file"),
        "bad\0name": ("malformed", "no valid path"),
        "empty": ("malformed", "empty"),
        "short": ("malformed", "100 bytes, too short for an ISO 9660 image"),
        "text": ("malformed", "not an ISO 9660 image"),
        "pipe": ("malformed", "neither a block device nor a file nor a directory"),
        "directory": ("absent", "the drive is empty"),
        "large": ("malformed", "64 MiB; CloudStack makes no config drive larger than 64 MiB"),
    }
    for name, (outcome, detail) in expected.items():
        reading, place = read(str(tmp_path / name))
        assert (name, reading, place.outcome, place.detail) == (name, None, outcome, detail)
    assert read("/dev/null")[1].outcome == "malformed"


def test_an_iso_with_nothing_on_it_is_absent(tmp_path: Path) -> None:
    """An empty drive is not a foreign one."""
    reading, place = read(built(tmp_path, {}))
    assert (reading, place.outcome, place.detail) == (None, "absent", "the drive is empty")


def test_an_iso_with_other_things_is_foreign(tmp_path: Path) -> None:
    """A NoCloud seed labelled config-2, for one."""
    reading, place = read(built(tmp_path, {"user-data": b"#cloud-config", "meta-data": b""}))
    assert (reading, place.outcome) == (None, "foreign")


def test_an_empty_cd_drive_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOMEDIUM while opening, and while reading the first sector."""

    def no_medium(*_arguments: Any) -> bytes:
        raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))

    path = built(tmp_path, FILES)
    for name in ("pread", "open"):
        monkeypatch.setattr(os, name, no_medium)
        reading, place = device.read(device.open_place(System.at("/"), path, given=True))
        assert (reading, place.outcome, place.detail) == (None, "absent", "no medium")


@pytest.mark.root
def test_a_block_device_is_read_and_an_empty_one_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop device, where it is named; then one whose CD drive says that it has no disc, opens as it may."""
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    path = built(tmp_path, FILES)
    losetup = need("losetup")
    done = subprocess.run(
        [losetup, "-f", "--show", "-r", path], capture_output=True, text=True, check=False, timeout=300
    )
    loop = done.stdout.strip()
    if not device:
        pytest.skip(f"no loop device to be had: {done.stderr.strip()}")
    try:
        live = System.at("/")
        assert device.read(device.open_place(live, loop, given=False))[1].outcome == "refused"
        check_whole(*device.read(device.open_place(live, loop, given=False, named=(loop,))))
        (tmp_path / "link").symlink_to(loop)
        check_whole(*read(str(tmp_path / "link")))
        tree = System.at(str(tmp_path))
        os.mknod(tmp_path / "node", 0o600 | stat.S_IFBLK, os.stat(loop).st_rdev)
        assert device.read(device.open_place(tree, "/node", given=False))[1].outcome == "absent"
        monkeypatch.setattr(fcntl, "ioctl", lambda *_arguments: 1)  # CDS_NO_DISC
        reading, place = device.read(device.open_place(live, loop, given=False, named=(loop,)))
        assert (reading, place.outcome, place.detail) == (None, "absent", "no medium")
    finally:
        subprocess.run([losetup, "-d", loop], check=True, timeout=300)


def test_what_a_child_names_is_no_way_to_files(tmp_path: Path) -> None:
    """On the running system only a block device is opened of what was found: no image, no directory."""
    path = built(tmp_path, FILES)
    write_tree(tmp_path / "drive", FILES)
    for place in (path, str(tmp_path / "drive"), "/dev/null"):
        reading, told = device.read(device.open_place(System.at("/"), place, given=False))
        assert reading is None and told.outcome == "malformed" and "block device" in told.detail


def test_a_medium_pulled_while_reading_is_a_reason(tmp_path: Path) -> None:
    """EIO, or in this test an image that has become empty, in the middle of it."""
    path = built(tmp_path, FILES)
    opened = device.open_place(System.at("/"), path, given=True)
    os.truncate(path, 0)
    reading, place = device.read(opened)
    assert (reading, place.outcome) == (None, "malformed")


def test_a_truncated_image_gives_a_reason_or_whole_files(tmp_path: Path) -> None:
    """Cut at every sector: what is read is right, and what is cut is said."""
    image = lab.image(FILES)
    path = tmp_path / "cut.iso"
    path.write_bytes(image)
    whole, _place = read(str(path))
    assert whole is not None
    outcomes = set()
    for size in range(16 * 2048, len(image), 2048):
        path.write_bytes(image[:size])
        reading, place = read(str(path))
        outcomes.add(place.outcome)
        if reading is None:
            continue
        assert set(reading.metadata.items()) <= set(whole.metadata.items())
        assert reading.user_data in (None, USER_DATA)
        assert reading.password.value in (None, whole.password.value)
        if reading != whole:
            assert reading.refusals, (size, place)
    assert "malformed" in outcomes


# --- limits


def test_too_many_files_are_refused_on_an_image(tmp_path: Path) -> None:
    """3,000 metadata files are no drive of CloudStack's."""
    files = {f"cloudstack/metadata/key{number}.txt": b"x" for number in range(3000)}
    reading, place = read(make(tmp_path, "genisoimage", files))
    assert (reading, place.outcome) == (None, "malformed")
    assert "more than 2000 files" in place.detail


def test_too_many_files_are_refused_in_a_directory(tmp_path: Path) -> None:
    """The same limit."""
    files = {f"cloudstack/metadata/key{number}.txt": b"x" for number in range(3000)}
    reading, place = read(str(write_tree(tmp_path, files)))
    assert (reading, place.outcome) == (None, "malformed")


@pytest.mark.parametrize("form", ["image", "directory"])
def test_too_large_a_file_costs_only_itself(tmp_path: Path, form: str) -> None:
    """5 MB of user-data: refused before it is read, the rest is used."""
    files = {
        "cloudstack/metadata/vm-id.txt": UUID.encode(),
        "cloudstack/userdata/user_data.txt": b"x" * 5_000_000,
    }
    path = built(tmp_path, files) if form == "image" else str(write_tree(tmp_path / "tree", files))
    reading, _place = read(path)
    assert reading is not None and reading.instance_id == UUID
    assert reading.user_data is None
    (refusal,) = reading.refusals
    assert refusal.datum == "user_data" and "5000000 bytes" in refusal.reason


@pytest.mark.parametrize("form", ["image", "directory"])
def test_symlinks_are_not_followed(tmp_path: Path, form: str) -> None:
    """Not to files outside, nor inside, nor as a directory: what they name is not there."""
    tree = write_tree(
        tmp_path / "tree", {"cloudstack/metadata/vm-id.txt": UUID.encode(), "elsewhere/x": b"i"}
    )
    (tmp_path / "secret").write_text("EXAMPLE-secret")
    (tree / "cloudstack/metadata/local-hostname.txt").symlink_to(tmp_path / "secret")
    (tree / "cloudstack/metadata/tier.txt").symlink_to("vm-id.txt")
    (tree / "cloudstack/password").symlink_to(tree / "cloudstack/metadata")
    os.mkfifo(tree / "cloudstack/metadata/pipe.txt") if form == "directory" else None
    path = str(tree)
    if form == "image":
        path = str(tmp_path / "drive.iso")
        subprocess.run(
            [need("genisoimage"), "-o", path, *CLOUDSTACK_FLAGS, str(tree)], check=True, timeout=300
        )
    reading, _place = read(path)
    assert reading is not None
    assert reading.metadata == {"vm-id": UUID}
    assert reading.password.state == "none"


def test_only_what_is_wanted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is not CloudStack's is read, and the password comes first."""
    from csagent.sources.drive import iso

    asked: List[str] = []
    content = iso._content

    def recording(image: Any, tree: Any, entry: Any) -> bytes:
        asked.append("/".join(entry.path))
        return content(image, tree, entry)

    monkeypatch.setattr(iso, "_content", recording)
    check_whole(*read(built(tmp_path, {**FILES, "cloudstack/other/x": b"1", "boot/x": b"2"})))
    assert sorted(asked) == sorted(FILES)
    assert asked[0] == "cloudstack/password/vm_password.txt"


# --- the lab's own drives


class Cloud:
    """The description that the lab's router and drives share."""

    instance_id = UUID
    hostname = "wéb01"
    ssh_keys = (KEY, KEY2)
    password = "EXAMPLE-pw"
    user_data = USER_DATA
    network = CloudNetwork()

    @property
    def metadata(self) -> Dict[str, str]:
        """Known keys, one of the user's, and a blank one."""
        return {"availability-zone": "Zürich", "cloud-name": "ours", "tier": "前 😀", "public-hostname": " "}


def test_the_labs_drive_says_what_the_cloud_says(tmp_path: Path) -> None:
    """From a description to a drive and back, escapes included."""
    files = lab.files_for(Cloud())
    assert files["cloudstack/metadata/tier.txt"] == rb"\u524D \uD83D\uDE00"
    assert "cloudstack/metadata/public-hostname.txt" not in files
    path = tmp_path / "drive.iso"
    lab.build(str(path), files)
    assert path.stat().st_mode & 0o777 == 0o600
    reading, _place = read(str(path))
    assert reading is not None
    assert reading.metadata["local-hostname"] == "wéb01"
    assert (reading.metadata["tier"], reading.metadata["cloud-name"]) == ("前 😀", "ours")
    assert reading.ssh_keys == (KEY, KEY2)
    assert reading.refusals == ()


def test_the_labs_openstack_tree_alone_says_the_same(tmp_path: Path) -> None:
    """meta_data.json has CloudStack's members, so the drive is known without its cloudstack/ directory."""
    files = {
        name: content for name, content in lab.files_for(Cloud()).items() if name.startswith("openstack/")
    }
    reading, _place = read(built(tmp_path, files))
    assert reading is not None
    assert (reading.instance_id, reading.metadata["local-hostname"]) == (UUID, "wéb01")
    assert (reading.ssh_keys, reading.user_data) == ((KEY, KEY2), USER_DATA)
    assert reading.metadata["tier"] == "前 😀"


def test_a_lab_drive_is_laid_out_as_cloudstacks(tmp_path: Path) -> None:
    """What isoinfo sees: label, both extensions, modes 0444 and 0555, exact names."""
    need("isoinfo")
    path = built(tmp_path, lab.files_for(Cloud()))
    about = subprocess.run(
        ["isoinfo", "-d", "-i", path], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    assert "Volume id: config-2" in about and "Joliet" in about and "Rock Ridge" in about
    names = subprocess.run(
        ["isoinfo", "-R", "-f", "-i", path], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    assert "/cloudstack/password/vm_password.txt" in names.splitlines()
    listing = subprocess.run(
        ["isoinfo", "-R", "-l", "-i", path], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    assert "-r--r--r--" in listing and "dr-xr-xr-x" in listing


def test_names_that_begin_alike_stay_apart_on_a_lab_drive(tmp_path: Path) -> None:
    """Long keys that the plain tree must cut to the same name."""
    names = {f"cloudstack/metadata/{'k' * 40}{number}.txt": b"%d" % number for number in range(30)}
    reading, _place = read(built(tmp_path, {**names, "cloudstack/metadata/a.b-c d.txt": b"x"}))
    assert reading is not None
    assert reading.metadata == {"a.b-c d": "x", **{"k" * 40 + str(n): str(n) for n in range(30)}}


def test_the_reader_imports_nothing_after_warm_up(tmp_path: Path) -> None:
    """The child may have lost the right to read Python's files by then; and one pread costs no pycdlib."""
    import sys

    path = built(tmp_path, FILES)
    program = (
        "import sys\n"
        "from csagent.sources.drive import device\n"
        "from csagent.system.seams import System\n"
        "opened = device.open_place(System.at('/'), sys.argv[1], given=True)\n"
        "assert 'pycdlib' not in sys.modules\n"
        "device.warm_up(opened)\n"
        "before = set(sys.modules)\n"
        "reading, place = device.read(opened)\n"
        "assert reading is not None, place\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    root = Path(device.__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", program, path],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
