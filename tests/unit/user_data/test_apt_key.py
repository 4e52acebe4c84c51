"""apt: the main list of sources written anew, further sources with their keys, apt's configuration."""

from __future__ import annotations

import base64
import socket
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from support.samples import PUBLIC_KEY
from support.user_data_plans import DEBIAN, action, complaints, plan_of

from csagent.errors import StepFailed
from csagent.model import Secret
from csagent.system.seams import System
from csagent.user_data.cloud_config.apt_keys import dearmored
from csagent.user_data.execute.repositories import FetchKey, MirrorSearch, SourcesFile
from csagent.user_data.log_file import LogFile
from csagent.user_data.machine import Machine
from csagent.user_data.plan import Plan

TRIXIE = DEBIAN._replace(version="13", codename="trixie")
LIST, DEB822 = "/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"

# What gpg --dearmor makes of PUBLIC_KEY.
RAW = base64.b64decode(
    "mDMEawfGJhYJKwYBBAHaRw8BAQdAh/5nyKBDCHyHwKu3YYiqO17PWTZBSBbUtu7tP6ZzE0y0IWNzYWdlbnQgdGVzdHMg"
    "PHRlc3RzQGV4YW1wbGUuY29tPoiQBBMWCAA4FiEEKi6Mm1F4q//CQ7ezEh3LsBsC+DcFAmsHxiYCGwMFCwkIBwIGFQoJ"
    "CAsCBBYCAwECHgECF4AACgkQEh3LsBsC+DfgwgEApMSTw0JSLslwjW0PtsBcSs+oHMbGWd8pEWpMwtrGv6MBAOu7V5Cd"
    "MPTotCxGgO8m7egu/WlP6zhzW/MBvbkLuNUC"
)


def apt(text: str, facts: Any = DEBIAN) -> Plan:
    """The plan of what stands below `apt`."""
    return plan_of("apt:\n" + textwrap.indent(textwrap.dedent(text), "  "), facts)


def lists(plan: Plan) -> Dict[str, List[str]]:
    """The files of sources, without their comments."""
    found: Dict[str, List[str]] = {}
    for step in plan.steps:
        if isinstance(step.action, SourcesFile):
            lines = step.action.content.reveal().decode().splitlines()
            found.setdefault(step.action.path, []).extend(
                line for line in lines if line and not line.startswith("#")
            )
    return found


def keys(plan: Plan) -> Dict[str, bytes]:
    """The files of keys."""
    found = {}
    for step in plan.steps:
        for file in getattr(step.action, "files", ()):
            found[file.path] = file.content.reveal()
    return found


def test_the_main_list_of_debian_12() -> None:
    """Written anew from the mirror, which serves security as well where none is given for it."""
    plan = apt(
        """\
        preserve_sources_list: false
        primary: [{arches: [arm64], uri: http://x}, {arches: [default], uri: http://m.example.com/debian}]
        """
    )
    found = lists(plan)[LIST]
    assert found[0] == "deb http://m.example.com/debian bookworm main"
    assert "deb-src http://m.example.com/debian bookworm-security main" in found
    assert [line.split()[2] for line in found[::2]] == [
        "bookworm",
        "bookworm-security",
        "bookworm-updates",
        "bookworm-backports",
    ]
    assert complaints(plan) == []


@pytest.mark.parametrize("version", ["13", "14.1", ""])
def test_the_main_list_of_debian_13(version: str) -> None:
    """In paragraphs, in a file of its own, which takes the place of the old one; testing has no number."""
    plan = apt("preserve_sources_list: false\n", TRIXIE._replace(version=version))
    assert lists(plan)[DEB822][:5] == [
        "Types: deb deb-src",
        "URIs: https://deb.debian.org/debian",
        "Suites: trixie trixie-updates trixie-backports",
        "Components: main",
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
    ]
    assert lists(plan)[DEB822][6] == "URIs: https://deb.debian.org/debian-security"
    assert action(plan, "SourcesFile").removes == LIST


def test_the_architectures_own_mirror() -> None:
    """Before the default one."""
    mirrors = "[{arches: [default], uri: http://d}, {arches: [arm64], uri: http://a}]"
    plan = apt(f"preserve_sources_list: false\nprimary: {mirrors}\n", DEBIAN._replace(machine="aarch64"))
    assert lists(plan)[LIST][0] == "deb http://a bookworm main"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("deb $MIRROR $RELEASE main", "deb http://m bookworm main"),
        ("deb ${PRIMARY} ${RELEASE}-updates x", "deb http://m bookworm-updates x"),
        ("deb $security $codename-security x", "deb http://m bookworm-security x"),
        ("## template: jinja\ndeb {{mirror}} {{codename}} x", "deb http://m bookworm x"),
        ("## template: basic\ndeb $mirror $codename x", "deb http://m bookworm x"),
    ],
)
def test_a_main_list_of_the_documents_own(text: str, line: str) -> None:
    """With names in it, or as a template."""
    shown = textwrap.indent(text, "  ")
    plan = apt(
        "preserve_sources_list: false\nprimary: [{arches: [default], uri: 'http://m'}]\n"
        f"sources_list: |\n{shown}\n"
    )
    assert (lists(plan), complaints(plan)) == ({LIST: [line]}, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sources_list: deb $MIROR x main\n",
            "error 4 apt: sources_list: it has a $NAME that is not known; known are RELEASE, ",
        ),
        (
            "sources_list: |\n  ## template: jinja\n  deb {{miror}} x main\n",
            'error 4 apt: sources_list: the metadata has no "miror"',
        ),
        ("disable_suites: updates\n", "error 4 apt: disable_suites must be a list of suites"),
        ("primary: http://m\n", "error 4 apt: primary must be a list of mirrors, and is text"),
        (
            "security: [{arches: [default], uri: 'http://s'}]\n",
            "warning 4 apt: security has no effect without primary",
        ),
        (
            "primary: [{arches: [default], url: 'http://s'}]\n",
            'warning 4 apt: primary: unknown key "url"',
        ),
    ],
)
def test_a_bad_main_list(text: str, said: str) -> None:
    """What is wrong with it is said, with its line."""
    (told,) = complaints(apt("preserve_sources_list: false\n" + text))
    assert told.startswith(said)


def test_the_main_list_of_another_distribution() -> None:
    """Stays: its mirrors are others."""
    plan = apt("preserve_sources_list: false\n", DEBIAN._replace(distribution="ubuntu"))
    assert lists(plan) == {}
    assert complaints(plan) == [
        "error 3 apt: preserve_sources_list: the main list of Debian alone is known here: it stays as it is"
    ]


def test_what_has_no_effect_on_a_list_that_is_kept() -> None:
    """As on Debian's cloud images, where it is kept by default; other sources use the mirror all the same."""
    plan = apt(
        "primary: [{arches: [default], uri: 'http://m'}]\ndisable_suites: [updates]\n"
        "sources: {a: {source: deb $MIRROR $RELEASE main}}\n"
    )
    assert lists(plan) == {"/etc/apt/sources.list.d/a.list": ["deb http://m bookworm main"]}
    (told,) = complaints(plan)
    assert told.startswith("warning 4 apt: disable_suites has no effect without preserve_sources_list: false")


def test_suites_taken_out_of_a_list() -> None:
    """By the words for them or by their names, options before the URL or not."""
    plan = apt(
        """\
        preserve_sources_list: false
        disable_suites: [updates, $RELEASE-backports, mine]
        sources_list: |
          deb http://m bookworm main
          deb [ arch=amd64 trusted=yes ] http://m bookworm-updates main
          deb http://m bookworm-backports main
          deb http://m mine main
        """
    )
    assert lists(plan)[LIST] == ["deb http://m bookworm main"]
    assert (
        b"# not wanted by the document: deb http://m mine main\n"
        in action(plan, "SourcesFile").content.reveal()
    )


def test_suites_taken_out_of_paragraphs() -> None:
    """A paragraph of which none is left is a comment as a whole."""
    plan = apt("preserve_sources_list: false\ndisable_suites: [backports, security]\n", TRIXIE)
    found = lists(plan)[DEB822]
    assert [line for line in found if line.startswith("Suites")] == ["Suites: trixie trixie-updates"]
    assert [line for line in found if line.startswith("URIs")] == ["URIs: https://deb.debian.org/debian"]


def test_sources_and_their_keys() -> None:
    """A file each; the key as gpg would write it, elsewhere where the source names it."""
    plan = apt(
        f"""\
        sources:
          docker.list:
            source: deb [signed-by=$KEY_FILE] https://d.example.com $RELEASE stable
            key: |
{textwrap.indent(PUBLIC_KEY, " " * 14)}
          other: {{source: deb http://o ./}}
          /etc/apt/elsewhere: {{source: deb http://e ./}}
        """
    )
    assert lists(plan) == {
        "/etc/apt/sources.list.d/docker.list": [
            "deb [signed-by=/etc/apt/cloud-init.gpg.d/docker.gpg] https://d.example.com bookworm stable"
        ],
        "/etc/apt/sources.list.d/other.list": ["deb http://o ./"],
        "/etc/apt/elsewhere.list": ["deb http://e ./"],
    }
    assert keys(plan) == {"/etc/apt/cloud-init.gpg.d/docker.gpg": RAW}
    assert complaints(plan) == []


def test_a_key_for_all_sources() -> None:
    """Of a source that does not name it; and the mirrors' own, named in the list of Debian 13."""
    plan = plan_of("apt:\n  sources:\n    my.repo:\n      key: |\n" + textwrap.indent(PUBLIC_KEY, " " * 8))
    assert keys(plan) == {"/etc/apt/trusted.gpg.d/my.gpg": RAW}
    text = "apt:\n  preserve_sources_list: false\n  primary:\n    - arches: [default]\n      key: |\n"
    plan = plan_of(text + textwrap.indent(PUBLIC_KEY, " " * 8), TRIXIE)
    path = "/etc/apt/trusted.gpg.d/primary.gpg"
    assert keys(plan) == {path: RAW}
    assert [line for line in lists(plan)[DEB822] if line.startswith("Signed-By")] == [
        f"Signed-By: {path}"
    ] * 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{source: deb http://a ./, key: no key}", "key is no public key in text form, or not the whole"),
        ("{source: 'ppa:a/b'}", "ppa: is for Ubuntu"),
        ("{source: deb $NOTHING ./}", "source: it has a $NAME that is not known"),
        ("{source: 'deb [signed-by=$KEY_FILE] http://a ./'}", "source names $KEY_FILE, and there is neither"),
        ("{source: deb http://a ./, keyid: xyz}", "keyid is no fingerprint, or keyserver no host"),
        ("{source: deb http://a ./, keyid: 2A2E8C9B, keyserver: '-x y'}", "keyid is no fingerprint, or"),
    ],
)
def test_a_bad_source_is_none(source: str, said: str) -> None:
    """It is named with its line, and the others are written."""
    plan = apt(f"sources:\n  bad: {source}\n  good: {{source: deb http://g ./}}\n")
    assert lists(plan) == {"/etc/apt/sources.list.d/good.list": ["deb http://g ./"]}
    (told,) = complaints(plan)
    assert told.startswith(f"error 4 apt: bad: {said}")


@pytest.mark.parametrize("name", ["'../x'", "'a/../../x'", "'a b'", "''", "'.x'", "'-x y'"])
def test_a_bad_file_name(name: str) -> None:
    """No file of sources is called so."""
    (told,) = complaints(apt(f"sources:\n  {name}: {{source: deb http://g ./}}\n"))
    assert "cannot be the name of a file of sources" in told


@pytest.mark.parametrize(
    "text",
    [
        PUBLIC_KEY.replace("\n", "\r\n"),
        "a comment before\n" + PUBLIC_KEY + "and behind\n",
        PUBLIC_KEY.replace("-----\n\n", "-----\nComment: made by hand\n\n", 1),
        PUBLIC_KEY.replace("=kS3F\n", ""),
    ],
)
def test_forms_of_a_key(text: str) -> None:
    """As gpg takes it: line ends, texts around it, headers, no check sum."""
    assert dearmored(text) == RAW


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLIC_KEY.replace("mDME", "mDMF"),
        PUBLIC_KEY.replace("mDME", "m*ME"),
        PUBLIC_KEY[:200],
        PUBLIC_KEY.replace("PUBLIC", "PRIVATE"),
    ],
)
def test_damaged_keys(text: str) -> None:
    """Are none."""
    assert dearmored(text) is None


def test_old_spellings() -> None:
    """apt_sources without names share a file."""
    plan = plan_of(
        "apt_sources: [{source: deb http://a ./}, {source: deb http://b ./},\n"
        "  {source: deb http://c ./, filename: c}]\n"
    )
    assert lists(plan) == {
        "/etc/apt/sources.list.d/cloud_config_sources.list": ["deb http://a ./", "deb http://b ./"],
        "/etc/apt/sources.list.d/c.list": ["deb http://c ./"],
    }


def test_apt_configuration() -> None:
    """The text as it is; proxies in cloud-init's order, for root alone where they may have a password."""
    text = 'apt:\n  conf: |\n    A "0";\n  https_proxy: http://c\n  ftp_proxy: ftp://b\n  proxy: http://a\n'
    conf, proxy = (step.action.files[0] for step in plan_of(text).steps if step.key == "apt")
    assert conf.content.reveal() == b'A "0";\n'
    assert proxy.content.reveal().splitlines() == [
        b'Acquire::http::Proxy "http://a";',
        b'Acquire::ftp::Proxy "ftp://b";',
        b'Acquire::https::Proxy "http://c";',
    ]
    assert proxy.mode == 0o644
    plan = plan_of("apt_proxy: http://user:EXAMPLE@a\n")
    assert action(plan, "Configure").files[0].mode == 0o600


@pytest.fixture
def machine(system: System) -> Iterator[Machine]:
    log = LogFile(system)
    yield Machine(system, "/var/lib/csagent/user-data/x", "x", {}, log)
    log.close()


def source(text: str, **more: Any) -> SourcesFile:
    return SourcesFile("/etc/apt/sources.list.d/a.list", Secret(text.encode()), **more)


def test_a_source_is_added_to_its_file(machine: Machine, tree: Path) -> None:
    """Once, and in the place of what is there where the document says so."""
    for text in ("deb a\n", "deb b\n", "deb a\n"):
        source(text).carry_out(machine)
    path = tree / "etc/apt/sources.list.d/a.list"
    assert path.read_text() == "deb a\ndeb b\n"
    source("deb c\n", append=False).carry_out(machine)
    assert path.read_text() == "deb c\n"


def test_a_source_with_a_password(machine: Machine, tree: Path) -> None:
    """Is for root alone to read, whatever the file was before."""
    path = tree / "etc/apt/sources.list.d/a.list"
    for text, mode in (("deb http://x@a\n", 0o600), ("deb http://a\n", 0o600), ("deb a\n", 0o600)):
        source(text).carry_out(machine)
        assert path.stat().st_mode & 0o777 == mode
    path.unlink()
    source("deb http://a/x@y ./\n").carry_out(machine)
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_old_list_goes_where_another_takes_its_place(machine: Machine, tree: Path) -> None:
    """Also where there is none."""
    (tree / "etc/apt").mkdir(exist_ok=True)
    (tree / "etc/apt/sources.list").write_text("deb x\n")
    for _ in range(2):
        source("Types: deb\n", append=False, removes="/etc/apt/sources.list").carry_out(machine)
        assert not (tree / "etc/apt/sources.list").exists()


def test_mirrors_that_are_looked_for(machine: Machine, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one whose name is known serves, for security as well; where none is, Debian's own does."""
    known = {"second.example.com"}

    def look(host: str, _port: None) -> None:
        if host not in known:
            raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(System, "live", True)
    text = (
        "preserve_sources_list: false\nsources_list: deb $MIRROR x $SECURITY\n"
        "primary: [{arches: [default], search: ['http://first.example.com/a', 'http://second.example.com/b']}]\n"
    )
    step = action(apt(text), "SourcesFile")
    path = tree / "etc/apt/sources.list"
    step.carry_out(machine)
    assert path.read_text() == "deb http://second.example.com/b x http://second.example.com/b"
    known.clear()
    step.carry_out(machine)
    assert path.read_text() == "deb https://deb.debian.org/debian x https://deb.debian.org/debian-security"


def test_a_security_mirror_that_is_looked_for(
    machine: Machine, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other mirror serves where it is not found."""
    monkeypatch.setattr(System, "live", True)
    known = {"s"}

    def look(host: str, _port: None) -> None:
        if host not in known:
            raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look)
    plan = apt(
        "preserve_sources_list: false\nsources_list: $MIRROR $SECURITY\n"
        "primary: [{arches: [default], uri: 'http://p'}]\n"
        "security: [{arches: [default], search: ['http://s']}]\n"
    )
    for line in ("http://p http://s", "http://p http://p"):
        action(plan, "SourcesFile").carry_out(machine)
        assert (tree / "etc/apt/sources.list").read_text() == line
        known.clear()


def test_mirrors_by_names_of_the_domain() -> None:
    """search_dns looks for cloud-init's names, in the machine's domain first."""
    plan = apt(
        "preserve_sources_list: false\nprimary: [{arches: [default], search_dns: true}]\n",
        DEBIAN._replace(hostname="web.example.com"),
    )
    assert action(plan, "SourcesFile").search == MirrorSearch(
        (
            "http://debian-mirror.example.com/debian",
            "http://debian-mirror.localdomain/debian",
            "http://debian-mirror/debian",
        ),
        (),
        ("https://deb.debian.org/debian", "https://deb.debian.org/debian-security"),
    )


def test_a_key_that_is_fetched(machine: Machine, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gpg, which is installed where it is missing; tried three times; then written for apt."""
    ran: List[List[str]] = []
    slept: List[float] = []

    def command(words: List[str], **_: Any) -> bytes:
        ran.append(words)
        if "--recv-keys" in words and len(slept) < 2:
            raise StepFailed("no such server")
        if "--export" in words:
            Path(words[words.index("--output") + 1]).write_bytes(RAW)
        return b""

    monkeypatch.setattr(System, "live", True)
    monkeypatch.setattr(machine, "command", command)
    monkeypatch.setattr(type(machine.system.runner), "available", lambda _self, _name: False)
    monkeypatch.setattr(type(machine.system.clock), "sleep", lambda _self, seconds: slept.append(seconds))
    plan = apt("sources: {a: {keyid: 2A2E 8C9B, keyserver: keys.example.com}}\n")
    (told,) = complaints(plan)
    assert told == "warning 3 apt: a: keyid is no whole fingerprint: others can make such a key"
    action(plan, "FetchKey").carry_out(machine)
    assert (tree / "etc/apt/trusted.gpg.d/a.gpg").read_bytes() == RAW
    assert [word for words in ran for word in words if word in ("update", "gnupg")] == ["update", "gnupg"]
    assert slept == [1.0, 1.0]
    slept[:] = []
    with pytest.raises(StepFailed, match="no such server"):
        FetchKey("2A2E8C9B", "keys.example.com", "/etc/b.gpg").carry_out(_without_luck(machine, monkeypatch))
    assert not (tree / "etc/b.gpg").exists()


def _without_luck(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    def fail(_words: List[str], **_: Any) -> bytes:
        raise StepFailed("no such server")

    monkeypatch.setattr(machine, "command", fail)
    monkeypatch.setattr(type(machine.system.runner), "available", lambda _self, _name: True)
    return machine
