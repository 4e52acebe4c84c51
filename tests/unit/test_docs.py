"""What the documents name is there: tests, files, links, commands, and the words of the program."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest
from support.documented_commands import command_lines, complaint

TOP = Path(__file__).resolve().parents[2]
DOCS = sorted((TOP / "docs").rglob("*.md"))
DOCUMENTS = [
    *DOCS,
    *(TOP / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(TOP / "packaging" / name for name in ("README.md", "image/README.md")),
]
NETWORKS = ("isolated", "vpc", "shared", "redundant", "basic", "config-drive", "l2", "several-nics")
HYPERVISORS = ("kvm", "vmware", "xenserver", "hyper-v", "lxc")
ANY = pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(TOP)) for path in DOCUMENTS])
PAGES = [path for path in DOCS if path.parent.name in ("networks", "hypervisors")]


def functions(path: Path) -> "set[str]":
    """The names of a module's test functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def headings(text: str) -> List[str]:
    """The anchors that a page has, as GitHub makes them, and those that it sets itself."""
    found = [re.sub(r"<[^>]*>", "", one) for one in re.findall(r"^#+ (.+)$", text, re.M)]
    own = re.findall(r'<a id="([^"]+)"></a>', text)
    return [*own, *(re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found)]


def test_every_page_is_there() -> None:
    """One for each type of network and each hypervisor, and the index leads to all of them."""
    names = [f"networks/{one}.md" for one in NETWORKS] + [f"hypervisors/{one}.md" for one in HYPERVISORS]
    index = (TOP / "docs/README.md").read_text(encoding="utf-8")
    for name in [*names, "why-nothing-happened.md"]:
        assert (TOP / "docs" / name).is_file(), name
        assert f"]({name})" in index, name
    assert len(PAGES) == len(names)


@ANY
def test_every_test_that_is_named_exists(path: Path) -> None:
    """Modules, functions in them, and the recordings that they read."""
    text = path.read_text(encoding="utf-8")
    for module, function in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", text):
        assert (TOP / module).is_file(), module
        if function:
            assert function in functions(TOP / module), f"{module}::{function}"
    for name in re.findall(r"`(tests/[^`:*]+)`", text):
        if not re.search(r"/[A-Z-]+/", name):  # what stands for a name
            assert (TOP / name.split(" ")[0]).exists(), name


@ANY
def test_every_link_leads_somewhere(path: Path) -> None:
    """Inside of the repository: to a file that is there, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _sign, anchor = target.partition("#")
        found = path if not name else (path.parent / name).resolve()
        assert found.exists(), f"{path.name}: {target}"
        assert found.is_relative_to(TOP), f"{path.name}: {target} is outside of the repository"
        if anchor:
            assert anchor in headings(found.read_text(encoding="utf-8")), f"{path.name}: {target}"


@ANY
def test_every_command_line_is_one(path: Path) -> None:
    """The real parser takes each `csagent ...` of the page."""
    lines = list(command_lines(path.read_text(encoding="utf-8")))
    assert [said for said in map(complaint, lines) if said] == []


@ANY
def test_every_script_that_is_named_is_there(path: Path) -> None:
    """What `./dev` is given is one of its words, and what is run of packaging/ exists."""
    dev = (TOP / "dev").read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for word in re.findall(r"\./dev ([a-z][\w-]*)", text):
        assert re.search(rf"^\s*(?:[\w-]+ ?\| ?)*{word}(?: ?\| ?[\w-]+)*\)", dev, re.M), word
    for name in re.findall(r"(?<![\w/.])packaging/[\w./-]*\w", text):
        assert (TOP / name).exists(), name


def test_command_lines_are_found_and_judged() -> None:
    """The search itself: blocks, spans, shells' signs; and a wrong line is one."""
    block = "\n    csagent --root x fetch > y\n    ls | csagent lab\n"
    text = f"Run `csagent status --wait SECONDS`, `csagent.service` or:\n{block}"
    assert list(command_lines(text)) == ["csagent status --wait SECONDS", "csagent --root x fetch"]
    assert list(command_lines("```\nsudo csagent plan | less\n```\n")) == ["csagent plan"]
    assert [complaint(line) for line in command_lines(text)] == ["", ""]
    for right in ("csagent", "csagent query", "csagent lab", "csagent lab ...", "csagent fetch --help"):
        assert complaint(right) == ""
    for wrong in (
        "frobnicate",
        "fetch --frobnicate",
        "frobnicate --help",
        "apply --force",
        "query a b",
        "status --wait soon",
    ):
        assert complaint(f"csagent {wrong}").startswith(f"csagent {wrong}: ")


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_every_page_says_how_it_was_tested(path: Path) -> None:
    """By tests of this repository, and that no real CloudStack or hypervisor was there."""
    text = path.read_text(encoding="utf-8")
    for heading in ("## How it was tested", "## Quirks"):
        assert heading in text, heading
    assert re.search(r"^## What (works|should work)$", text, re.M)
    assert len(re.findall(r"tests/[\w/]+\.py", text.split("## How it was tested")[1])) > 0
    assert re.search(r"not tested|were not tested", text, re.I)
    assert len(text.splitlines()) <= 80


def test_the_page_of_reasons_knows_doctors_areas() -> None:
    """Its table has every area of `csagent doctor`, in the order in which they are shown, and no other."""
    from csagent.doctor.engine import checks

    text = (TOP / "docs/why-nothing-happened.md").read_text(encoding="utf-8")
    table = text.split("| area |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.M) == [area for area, _check in checks()]


def test_the_page_of_reasons_knows_the_outcomes() -> None:
    """Every word for what came of asking a place has its row."""
    from csagent import errors

    def below(one: Any) -> List[Any]:
        return [one, *(other for sub in one.__subclasses__() for other in below(sub))]

    words = {one.outcome for one in below(errors.ProbeError)} - {"failed"} | {"ok", "partial", "skipped"}
    text = (TOP / "docs/why-nothing-happened.md").read_text(encoding="utf-8")
    table = text.split("| word |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.M)) == words


def test_the_verdicts_are_doctors() -> None:
    """Two of them are quoted, and both are what doctor says."""
    from csagent.doctor import finding

    text = (TOP / "docs/why-nothing-happened.md").read_text(encoding="utf-8")
    assert f"| `{finding.verdict((), False)}` | {finding.exit_code((), False)} |" in text
    assert f"| `{finding.verdict((), True)}` | {finding.exit_code((), True)} |" in text


def test_the_page_of_differences_has_each_with_a_reason() -> None:
    """Every deliberate difference of the field notes has its row, and no row is without a reason."""
    page = (TOP / "docs/from-cloud-init.md").read_text(encoding="utf-8")
    notes = (TOP / "docs/field/user-data.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| \[(D\d+)\]\(field/user-data.md#\1\) \|", page, re.M)
    assert numbers == re.findall(r'^\| <a id="(D\d+)"></a>', notes, re.M)
    differences = [
        row for table in page.split("## What is different")[1].split("\n\n") for row in table.split("\n")
    ]
    cells = [
        row.strip("|").split(" | ") for row in differences if row.startswith("| ") and "because" not in row
    ]
    assert len(cells) > len(numbers) + 5
    assert [row for row in cells if len(row) != 4 or not row[3].strip(" |")] == []


def test_the_page_of_leftovers_has_those_that_doctor_knows() -> None:
    """By their paths, shortened where one stands for several."""
    from csagent.other_agents import cloud_init_leftovers as leftovers

    page = (TOP / "docs/from-cloud-init.md").read_text(encoding="utf-8")
    for path in (*leftovers.NETWORK[:1], *leftovers.APT, leftovers.SSHD, leftovers.SUDOERS, leftovers.FSTAB):
        assert f"`{path}`" in page, path
    for path in (leftovers.HOSTS, leftovers.STATE, "/etc/cloud", "/root/.ssh/authorized_keys"):
        assert f"`{path}`" in page, path


def test_the_picture_is_current() -> None:
    """docs/data-flow.svg is what docs/data_flow.py makes, and the index shows it."""
    made = subprocess.run(
        [sys.executable, "-c", "import data_flow, sys; sys.stdout.write(data_flow.svg())"],
        cwd=TOP / "docs",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )
    assert (TOP / "docs/data-flow.svg").read_text(encoding="utf-8") == made.stdout
    assert "](data-flow.svg)" in (TOP / "docs/README.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to each page of its directory and of those below it, field notes apart."""
    index = (TOP / "docs/README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(TOP / "docs") for path in DOCS if path.parent.name != "field"]
    missing = [str(page) for page in pages if f"]({page}" not in index]
    assert missing == ["README.md"]


def test_no_measured_figure_stands_twice() -> None:
    """What docs/figures.md has measured is repeated nowhere else: it would grow old there."""
    measured = r"\b\d+(?:\.\d+)+ (?:s|ms|MiB|kB)\b"
    figures = set(re.findall(measured, (TOP / "docs/figures.md").read_text(encoding="utf-8")))
    assert figures
    for path in DOCUMENTS:
        if path.name != "figures.md" and path.parent.name != "field":
            assert not figures & set(re.findall(measured, path.read_text(encoding="utf-8"))), path.name
