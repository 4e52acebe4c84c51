"""Every citation of the field notes (docs/field) leads to an anchor, and there is one spelling for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

TOP = Path(__file__).resolve().parents[2]
FIELD = TOP / "docs/field"
PAGES = ("cloudstack", "dependencies", "dhcp-leases", "network-data", "user-data")
SERIES = {  # numbers that are never given twice
    ("cloudstack", "edge-"): range(1, 70),
    ("dhcp-leases", "rule-"): range(1, 8),
    ("user-data", "U"): range(1, 83),
    ("user-data", "D"): range(1, 16),
    ("network-data", "N"): [one for one in range(1, 66) if one not in (19, 39, 44, 58, 59)],
}

ANCHOR = r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*"
# The first names the page; what follows on the same page has its sign only. Three digits are an issue.
CITATION = re.compile(rf"\bfield/([a-z-]+)#({ANCHOR}(?:(?:, and|,| and| to) #(?!\d{{3}}){ANCHOR})*)")
LINE_END = re.compile(r"\n[ \t]*(?:#[ \t]+)?")

NOT_OURS = [page for page in PAGES if page != "user-data"]  # there is a page for users of that name
OLD = (
    r"\bfacts?/[a-z-]+\.md|\bfacts?,? (?:section )?\d",
    r"\bDESIGN\b|/shared/",
    r"\b[Ee]dges? \d|\b[Rr]ules? \d",
    r"""(?<![\w"'#/\[-])[UND]\d{1,2}\b""",
    rf"(?<!field/)\b(?:{'|'.join(NOT_OURS)})\.md\b",
)
OLD_IN_CODE = (rf"\b(?:{'|'.join(NOT_OURS)})\.md\b", r" \([1-9]\d?\.\d{1,2}(?:\)|, edge)")


def files() -> Iterator[Path]:
    """The text files of the repository that may cite: all but recordings, licences and this one."""
    places = [TOP / name for name in ("csagent", "docs", "packaging", "systemd", "tests")]
    found = [*TOP.glob("*.*"), TOP / "dev", *(path for place in places for path in place.rglob("*"))]
    for path in sorted(found):
        recorded = "fixtures" in path.parts and not path.name.startswith(("README", "expected"))
        other = "__pycache__" in path.parts or path.suffix in (".pyc", ".svg", ".iso")
        if path.is_file() and not recorded and not other and path != Path(__file__).resolve():
            yield path


FILES = {str(path.relative_to(TOP)): path.read_text("utf-8", "replace") for path in files()}


def anchors(text: str) -> List[str]:
    """The anchors that a page sets."""
    return re.findall(r'<a id="([^"]+)"></a>', text)


def cited(text: str) -> List[Tuple[str, str]]:
    """(page, anchor) of each citation, line ends and the signs of comments left out."""
    found = CITATION.findall(LINE_END.sub(" ", text))
    return [
        (page, one)
        for page, all_of_it in found
        for one in re.findall(rf"{ANCHOR}(?=,| |$)", all_of_it)
        if one not in ("and", "to")
    ]


def broken(text: str) -> List[str]:
    """The citations that lead nowhere."""
    return [f"field/{page}#{anchor}" for page, anchor in cited(text) if anchor not in KNOWN.get(page, ())]


def old(name: str, text: str) -> List[str]:
    """What cites in another spelling, with its line's number."""
    spellings = OLD if name.endswith(".md") else (*OLD, *OLD_IN_CODE)
    search = re.compile("|".join(spellings))
    return [f"{number}: {line}" for number, line in enumerate(text.split("\n"), 1) if search.search(line)]


KNOWN: Dict[str, List[str]] = {name: anchors((FIELD / f"{name}.md").read_text("utf-8")) for name in PAGES}


def test_every_citation_leads_to_an_anchor() -> None:
    """In code, tests, units, packaging and documents."""
    assert {name: broken(text) for name, text in FILES.items() if broken(text)} == {}


def test_there_is_one_spelling() -> None:
    """No number without its page, and no document that is not in the repository."""
    outside = {name: old(name, text) for name, text in FILES.items() if not name.startswith("docs/field/")}
    assert {name: found for name, found in outside.items() if found} == {}


def test_the_search_finds_and_judges() -> None:
    """The search itself: lists, ranges, line ends; an anchor or a page that is not there is told."""
    text = (
        '"""A (field/cloudstack#4.1 to\n    #4.3, #edge-2, and #edge-33; #4809), or\n# field/dhcp-leases\n"""'
    )
    assert [one for _page, one in cited(text)] == ["4.1", "4.3", "edge-2", "edge-33"]
    assert cited("# (field/user-data#U22,\n# #D6). So") == [("user-data", "U22"), ("user-data", "D6")]
    assert cited("field/cloudstack#7, #4809") == [("cloudstack", "7")]
    assert broken("field/cloudstack#2.3, field/network-data#N40 and #N65.") == []
    assert broken("field/cloudstack#2.99, #edge-70") == ["field/cloudstack#2.99", "field/cloudstack#edge-70"]
    assert broken("field/nothing#1") == ["field/nothing#1"]
    assert sum(len(cited(text)) for text in FILES.values()) > 100


@pytest.mark.parametrize(
    "line",
    [
        "(facts, 2.3)",
        "facts/dependencies.md, section 5",
        "(facts, section 8)",
        "(edge 33)",
        "edges 22 and 23",
        'DESIGN, "Order"',
        "Rule 4: whom to believe",
        "(rule 5)",
        "as a user (U22)",
        "N40, D5",
        "docs/field/cloudstack.md, 2.3",
        "so (2.8)",
        "so (2.8, edge 7)",
    ],
)
def test_other_spellings_are_found(line: str) -> None:
    """Each that there ever was."""
    assert old("csagent/x.py", f"x = 1  # {line}\n") == [f"1: x = 1  # {line}"]


@pytest.mark.parametrize("page", PAGES)
def test_the_numbers_are_there(page: str) -> None:
    """Once each, none of a series missing; what the page itself refers to is there as well."""
    known = KNOWN[page]
    assert len(known) == len(set(known))
    text = (FIELD / f"{page}.md").read_text("utf-8")
    for (name, prefix), numbers in SERIES.items():
        if name == page:
            assert [one for one in known if re.fullmatch(rf"{prefix}\d+", one)] == [
                f"{prefix}{number}" for number in numbers
            ]
            pattern = rf"\b{prefix}(\d+)\b" if len(prefix) == 1 else rf"\b{prefix[:-1]}s? (\d+)\b"
            assert {f"{prefix}{number}" for number in re.findall(pattern, text)} <= set(known)
    assert set(re.findall(r"\bsections? (\d+(?:\.\d+)?)\b", text)) <= set(known)


def test_the_index_has_every_page() -> None:
    """And the pages are all that there are."""
    index = (FIELD / "README.md").read_text("utf-8")
    assert sorted(path.stem for path in FIELD.glob("*.md")) == sorted((*PAGES, "README"))
    assert all(f"]({page}.md)" in index for page in PAGES)
