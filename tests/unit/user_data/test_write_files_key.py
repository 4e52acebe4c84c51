"""write_files."""

from __future__ import annotations

import base64
import gzip

import pytest
from support.user_data_plans import action, complaints, plan_of, steps

GZIPPED = base64.b64encode(gzip.compress(b"hello\n")).decode()


def entry(text: str) -> str:
    return f"write_files:\n  - path: /etc/a\n    {text}\n"


def test_defaults() -> None:
    """root's, 0644, empty; a path is made absolute."""
    plan = plan_of("write_files: [{path: etc//a/}]\n")
    made = action(plan, "WriteFile")
    assert (made.path, made.content.reveal(), made.mode) == ("/etc/a", b"", 0o644)
    assert (made.user, made.group) == ("root", "root")
    assert steps(plan) == ["early write_files: /etc/a (0 bytes, 0644, root:root)"]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("permissions: '0640'", 0o640, None),
        ("permissions: '640'", 0o640, None),
        ("permissions: '0o640'", 0o640, None),
        ("permissions: 0640", 0o640, None),
        ("permissions: 644", 0o644, "permissions 644 without quotes is a decimal number to YAML"),
        ("permissions: 755", 0o755, "permissions 755 without quotes is a decimal number to YAML"),
        ("permissions: 420", 0o644, None),
        ("permissions: '000'", 0o644, "permissions of 0 are passed over: taken for 0644"),
        ("permissions: rw-r--r--", 0o644, "permissions that are not octal: taken for 0644"),
        ("permissions: '4755'", 0o4755, "set-user-id and set-group-id bits are lost"),
    ],
)
def test_permissions(text: str, mode: int, said: str) -> None:
    """Text is octal; a number that YAML has read as a decimal one is seen (field/user-data#U47)."""
    plan = plan_of(entry(text))
    assert action(plan, "WriteFile").mode == mode
    assert len(complaints(plan)) == (said is not None)
    assert all(said in one and one.startswith("warning") for one in complaints(plan))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("content: |\n      a\n      b", b"a\nb\n"),
        ("content: !!binary aGVsbG8K", b"hello\n"),
        ("encoding: b64\n    content: aGVs\n     bG8K", b"hello\n"),
        ("encoding: base64\n    content: aGVsbG8K", b"hello\n"),
        *(
            (f"encoding: {one}\n    content: {GZIPPED}", b"hello\n")
            for one in ("gz+b64", "gzip+base64", "gz+base64", "gzip+b64", "GZ+B64")
        ),
        (f"encoding: gzip\n    content: !!binary {GZIPPED}", b"hello\n"),
        ("encoding: text/plain\n    content: aGVsbG8K", b"aGVsbG8K"),
    ],
)
def test_encodings(text: str, content: bytes) -> None:
    """All spellings that there are."""
    plan = plan_of(entry(text))
    assert action(plan, "WriteFile").content.reveal() == content
    assert complaints(plan) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("encoding: b64\n    content: '@@@@'", "content is not base64: it has characters outside of its"),
        ("encoding: b64\n    content: abcde", "content is not base64: its length is wrong"),
        ("encoding: gz+b64\n    content: aGVsbG8K", "content is gzip that cannot be unpacked"),
        ("content: 12", "content must be text, and is a number or date: put it in quotes"),
        ("content: [a]", "content must be text, and is a list: put it in quotes"),
        ("owner: 12", "owner must be text, such as root:root"),
        ("permissions: [a]", "permissions must be text such as '0644', and is a list"),
        ("permissions: '77777'", "permissions out of range"),
        ("source: {uri: http://example.com}", "source is not known here"),
    ],
)
def test_a_bad_entry_is_the_only_one_that_fails(text: str, said: str) -> None:
    """It is named with its line, and the next one is written (field/user-data#U45, #U48)."""
    plan = plan_of(entry(text) + "  - path: /etc/b\n")
    (told,) = complaints(plan)
    assert told.startswith("error 3 write_files: entry 1 (/etc/a): ")
    assert said in told
    assert [one.text for one in plan.steps if one.parts] == ["/etc/b (0 bytes, 0644, root:root)"]
    assert plan.outcome == "partly"


@pytest.mark.parametrize(
    ("path", "said"),
    [("/", "path names a directory"), ("/etc/..", "path names a directory"), ('"/a\\0b"', "a NUL")],
)
def test_bad_paths(path: str, said: str) -> None:
    """They are refused."""
    (told,) = complaints(plan_of(f"write_files:\n  - path: {path}\n"))
    assert said in told


def test_an_entry_without_a_path_is_passed_over() -> None:
    """With a warning, as cloud-init does it."""
    plan = plan_of("write_files:\n  - content: a\n  - path: /etc/b\n")
    assert complaints(plan) == ["warning 3 write_files: entry 1: no path: passed over"]
    assert action(plan, "WriteFile").path == "/etc/b"


@pytest.mark.parametrize(
    ("owner", "found"),
    [
        ("a:b", ("a", "b")),
        ("a", ("a", None)),
        (":b", (None, "b")),
        ("'1000:1000'", ("1000", "1000")),
    ],
)
def test_owners(owner: str, found: tuple) -> None:
    """A user, a group, or both; what is not there is left root's."""
    made = action(plan_of(entry(f"owner: {owner}")), "WriteFile")
    assert (made.user, made.group) == found


def test_deferred_files_come_after_packages() -> None:
    """And before scripts."""
    plan = plan_of(
        "write_files: [{path: /a, defer: true}, {path: /b}]\npackages: [hello]\nruncmd: ['true']\n"
    )
    order = [step.key for step in plan.steps if step.parts]
    assert order == ["write_files", "packages", "packages", "write_files", "runcmd"]
    assert [step.action.path for step in plan.steps if step.key == "write_files"] == ["/b", "/a"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{path: /a}", ["error 2 write_files: must be a list, and is a mapping: nothing of it runs"]),
        ("null", []),
        ("[a]", ["error 2 write_files: entry 1: must be a mapping with a path, and is text"]),
    ],
)
def test_shapes(value: str, said: list) -> None:
    """A mapping is an error, null is nothing (field/user-data#U54)."""
    assert complaints(plan_of(f"write_files: {value}\n")) == said


def test_slips_are_named() -> None:
    """A key that has no effect, with the nearest one that has."""
    assert complaints(plan_of(entry("permission: '0600'"))) == [
        'warning 4 write_files: entry 1 (/etc/a): unknown key "permission"; did you mean "permissions"?'
    ]
    assert complaints(plan_of(entry("encoding: rot13"))) == [
        'warning 4 write_files: entry 1 (/etc/a): unknown encoding "rot13": the content is written as it is'
    ]


def test_a_file_in_a_home_that_is_not_there_yet() -> None:
    """useradd would leave that home root's (field/user-data#U50)."""
    plan = plan_of("users: [{name: eve}]\nwrite_files: [{path: /home/eve/x}]\n")
    assert any("use defer: true" in one for one in complaints(plan))
    plan = plan_of("users: [{name: eve}]\nwrite_files: [{path: /home/eve/x, defer: true}]\n")
    assert complaints(plan) == []
