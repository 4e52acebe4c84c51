"""The spellings of names on a config drive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.errors import Malformed
from csagent.sources.drive import layout
from csagent.sources.drive.layout import METADATA, WELL_KNOWN, Budget, ListedFile, fold, gather, select

ROOT = [
    ListedFile(("cloudstack",), 0, True),
    ListedFile(("openstack",), 0, True),
    ListedFile(("openstack", "latest"), 0, True),
]


def planned(*paths: str, directories: tuple = tuple(ROOT)) -> dict:
    """Our name to the path chosen for it."""
    listing = [*directories, *(ListedFile(tuple(path.split("/")), 1) for path in paths)]
    return {name: "/".join(entry.path) for name, entry in select(listing).files.items()}


@pytest.mark.parametrize(
    "name", ["vm-id.txt", "vm_id.txt", "VM-ID.TXT", "VM_ID.TXT;1", "vm_id", "Vm_Id.;1", "vm-id.txt."]
)
def test_every_spelling_of_a_known_key_is_it(name: str) -> None:
    """Case, - and _, ;1, a last dot and a missing .txt make no difference."""
    path = f"cloudstack/metadata/{name}"
    assert planned(path) == {METADATA + "vm-id": path}


def test_the_spelling_of_cloudstack_wins() -> None:
    """Of two spellings in one directory, the one that CloudStack writes is read."""
    names = ("cloudstack/metadata/VM_ID.TXT", "cloudstack/metadata/vm-id.txt", "cloudstack/metadata/vm_id")
    assert planned(*names) == {METADATA + "vm-id": "cloudstack/metadata/vm-id.txt"}


def test_a_key_of_the_user_keeps_its_spelling() -> None:
    """Only the extension and what ISO makers add are taken off."""
    assert list(planned("cloudstack/metadata/Tier_X.txt;1", "cloudstack/metadata/a.b?")) == [
        METADATA + "Tier_X",
        METADATA + "a.b?",
    ]


def test_password_user_data_and_openstack_files_are_found_by_any_spelling() -> None:
    """As the plain tree of genisoimage has them."""
    assert planned(
        "cloudstack/password/vm_password_md5checksum.txt;1",
        "cloudstack/password/vm-password.txt;1",
        "cloudstack/userdata/user_data.txt;1",
        "openstack/latest/user_data.;1",
        "openstack/latest/META_DATA.JSON;1",
        "openstack/latest/network_data.json;1",
        "openstack/latest/vendor_data.json;1",
        "openstack/latest/other.json",
        "cloudstack/other.txt",
        "elsewhere/metadata/vm-id.txt",
    ) == {
        layout.PASSWORD: "cloudstack/password/vm-password.txt;1",
        layout.CHECKSUM: "cloudstack/password/vm_password_md5checksum.txt;1",
        layout.USER_DATA: "cloudstack/userdata/user_data.txt;1",
        layout.OPENSTACK_USER_DATA: "openstack/latest/user_data.;1",
        layout.META_DATA: "openstack/latest/META_DATA.JSON;1",
        layout.NETWORK_DATA: "openstack/latest/network_data.json;1",
        layout.VENDOR_DATA: "openstack/latest/vendor_data.json;1",
    }


def test_names_cut_to_8_3_are_expanded_where_only_one_fits() -> None:
    """xorriso without -l; two keys that begin alike cannot be told apart, and neither is guessed."""
    names = [
        "AVAILABI",
        "CLOUD_D0",
        "CLOUD_D1",
        "CLOUD_ID",
        "HYPERVIS",
        "LOCAL_HO",
        "PUBLIC_K",
        "VM_ID",
        "TIER_X",
    ]
    found = planned(
        *(f"CLOUDSTA/METADATA/{name}.TXT;1" for name in names),
        "CLOUDSTA/PASSWORD/VM_PASSW.TXT;1",
        "CLOUDSTA/USERDATA/USER_DAT.TXT;1",
        "OPENSTAC/LATEST/META_DAT.JSO;1",
        directories=(
            ListedFile(("CLOUDSTA",), 0, True),
            ListedFile(("OPENSTAC",), 0, True),
            ListedFile(("OPENSTAC", "LATEST"), 0, True),
        ),
    )
    keys = [
        "availability-zone",
        "cloud-identifier",
        "hypervisor-host-name",
        "local-hostname",
        "public-keys",
        "vm-id",
    ]
    assert set(found) == {
        *(METADATA + key for key in [*keys, "TIER_X"]),
        *(layout.PASSWORD, layout.USER_DATA, layout.META_DATA),
    }


def test_a_cut_password_beside_a_cut_checksum_is_a_problem() -> None:
    """VM_PASS0.TXT and VM_PASS1.TXT: nobody can say which one is the password."""
    paths = [("CLOUDSTA", "PASSWORD", f"VM_PASS{number}.TXT;1") for number in (0, 1)]
    result = select([ListedFile(("CLOUDSTA",), 0, True), *(ListedFile(path, 6) for path in paths)])
    assert layout.PASSWORD not in result.files
    assert "8.3" in result.problems[layout.PASSWORD]
    assert result.cloudstack


def test_without_latest_the_newest_version_is_read() -> None:
    """Dated directories are compared by their dates; anything else is no version."""
    versions = tuple(
        ListedFile(("openstack", name), 0, True) for name in ("2012-08-10", "2018_08_27", "content")
    )
    listing = [ListedFile(("openstack",), 0, True), *versions]
    listing += [ListedFile(("openstack", one.path[1], "meta_data.json"), 2) for one in versions]
    assert select(listing).files[layout.META_DATA].path[1] == "2018_08_27"


def test_the_budget_is_spent_in_the_order_of_worth() -> None:
    """The password is read before 5 files of 4 MiB use up what may be read; each left out has a reason."""
    listing = [ListedFile(("cloudstack", "metadata", f"k{number}.txt"), 4 << 20) for number in range(5)]
    listing.append(ListedFile(("cloudstack", "password", "vm_password.txt"), 8))
    contents = gather([*ROOT, *listing], lambda entry: b"x" * entry.length, empty=False)
    assert contents.files[layout.PASSWORD] == b"x" * 8
    assert contents.problems == dict.fromkeys(
        [METADATA + "k3", METADATA + "k4"], "more than 16 MiB on the drive"
    )


def test_a_file_is_as_long_as_its_record() -> None:
    """One that is shorter, or longer, is not what was written there: it costs itself, with the figures."""
    listing = [
        *ROOT,
        ListedFile(("cloudstack", "metadata", "a.txt"), 4),
        ListedFile(("cloudstack", "metadata", "b.txt"), 2),
    ]
    contents = gather(listing, lambda entry: b"abc", empty=False)
    assert contents.files == {}
    assert contents.problems == {
        METADATA + "a": "cut short: 3 of 4 bytes",
        METADATA + "b": "cut short: 3 of 2 bytes",
    }


def test_one_unreadable_file_costs_itself() -> None:
    """Whatever reading raises becomes the problem of that file, by the exception's class."""

    def content(entry: ListedFile) -> bytes:
        if entry.path[-1] == "a.txt":
            raise RecursionError("EXAMPLE")
        return b"1"

    listing = [
        *ROOT,
        ListedFile(("cloudstack", "metadata", "a.txt"), 1),
        ListedFile(("cloudstack", "metadata", "b.txt"), 1),
    ]
    contents = gather(listing, content, empty=False)
    assert contents.problems == {METADATA + "a": "cannot be read (RecursionError)"}
    assert dict(contents.files) == {METADATA + "b": b"1"}


def test_vendor_data_is_read_last() -> None:
    """It gives nothing that other files do not, so it is what an exhausted budget costs first."""
    names = ("vendor_data.json", "user_data", "meta_data.json")
    listing = [*ROOT, *(ListedFile(("openstack", "latest", name), 9) for name in names)]
    asked: "list[str]" = []

    def content(entry: ListedFile) -> bytes:
        asked.append(entry.path[-1])
        return b"{}"

    gather(listing, content, empty=False)
    assert asked == ["meta_data.json", "user_data", "vendor_data.json"]


def test_sizes_are_checked_before_reading() -> None:
    """From the record's length: 4 MiB a file, 16 MiB in all, nothing negative; 2,000 files."""
    budget = Budget()
    assert budget.refuses((4 << 20) + 1) is not None
    assert budget.refuses(-1) is not None
    assert [budget.refuses(4 << 20) for _ in range(4)] == [None] * 4
    assert budget.refuses(1) is not None
    layout.check_count(2000)
    with pytest.raises(Malformed, match="2000 files"):
        layout.check_count(2001)


def test_a_directory_in_the_place_of_a_file_is_a_problem() -> None:
    """The file that belongs there has been lost; a directory of the user's own name is nothing."""
    listing = [
        ListedFile(("cloudstack", "metadata", name), 0, True) for name in ("public-keys.txt", "mine.txt")
    ]
    listing.append(ListedFile(("cloudstack", "password", "vm_password.txt"), 0, True))
    result = select([*ROOT, *listing])
    assert result.files == {}
    assert set(result.problems) == {METADATA + "public-keys", layout.PASSWORD}


@given(st.sampled_from(WELL_KNOWN), st.data())
def test_any_mangling_of_a_known_key_is_undone(key: str, data: st.DataObject) -> None:
    """Any mix of case and of - and _, with or without extension, dot and version."""
    mangled = "".join(
        data.draw(st.sampled_from([char.lower(), char.upper()]))
        if char != "-"
        else data.draw(st.sampled_from("-_"))
        for char in key
    )
    mangled += data.draw(st.sampled_from(["", ".", ".txt", ".TXT", ".txt."])) + data.draw(
        st.sampled_from(["", ";1"])
    )
    assert list(planned(f"cloudstack/metadata/{mangled}")) == [METADATA + key]


@given(
    st.lists(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4), max_size=12), st.booleans()
)
def test_any_listing_has_a_plan(paths: list, directory: bool) -> None:
    """Nothing makes planning raise, folding is stable, and only listed files are chosen."""
    listing = [ListedFile(tuple(path), 1, directory) for path in paths]
    listing += [ListedFile(("cloudstack", "metadata", path[-1]), 1) for path in paths]
    result = select([*ROOT, *listing])
    assert all(entry in listing for entry in result.files.values())
    for path in paths:
        layout.descend(tuple(path))
        assert fold(fold(path[0]).replace("-", "_")) == fold(fold(path[0]))
