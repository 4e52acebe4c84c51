"""Facts of two machines against each other, and against the table of differences that are meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import yaml
from facts import Facts

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected_differences.yaml"
PAGE = HERE.parents[1] / "docs/from-cloud-init.md"
BEGIN, END = "<!-- ./dev end-to-end: the table begins -->\n", "<!-- ./dev end-to-end: the table ends -->\n"
ABSENT = "absent"


class Where(NamedTuple):
    """Which boot of which machine, or of its two."""

    release: int
    case: str
    source: str
    boot: int

    def __str__(self) -> str:
        return f"Debian {self.release}, case {self.case}, {self.source}, boot {self.boot}"


class Difference(NamedTuple):
    """Differences that are meant: of which facts, with which values, and where."""

    fact: "re.Pattern[str]"
    csagent: "re.Pattern[str]"
    cloud_init: "re.Pattern[str]"
    where: Tuple[Tuple[str, Tuple[Any, ...]], ...]  # a field of Where and its values; the others are any

    def fits(self, place: Where, fact: str, ours: str, theirs: str) -> bool:
        """Whether a difference is this one."""
        return (
            all(getattr(place, name) in wanted for name, wanted in self.where)
            and self.fact.fullmatch(fact) is not None
            and self.csagent.fullmatch(ours) is not None
            and self.cloud_init.fullmatch(theirs) is not None
        )


class Row(NamedTuple):
    """A row of the table: what differs, how on either machine, why; and the differences that it is about."""

    what: str
    cloud_init: str
    csagent: str
    because: str
    differences: Tuple[Difference, ...]


def rows(path: Path = EXPECTED) -> List[Row]:
    """The table, as expected_differences.yaml has it."""
    return [
        Row(
            entry["what"],
            entry["cloud-init"],
            entry["csagent"],
            entry["because"],
            tuple(_difference(one) for one in entry["differences"]),
        )
        for entry in yaml.safe_load(path.read_text("utf-8"))
    ]


def _difference(entry: Mapping[str, Any]) -> Difference:
    where = tuple(
        (name, tuple(entry[name]) if isinstance(entry[name], list) else (entry[name],))
        for name in Where._fields
        if name in entry
    )
    unknown = set(entry) - {*Where._fields, "fact", "csagent", "cloud-init"}
    assert not unknown, f"unknown key in expected_differences.yaml: {unknown}"
    any_text = ".*"
    patterns = (str(entry.get(name, any_text)) for name in ("fact", "csagent", "cloud-init"))
    return Difference(*(re.compile(pattern, re.DOTALL) for pattern in patterns), where)


class Compared(NamedTuple):
    """What the comparison of one boot has given: lines that no row has, and the others."""

    wrong: List[str]
    meant: List[Tuple[Row, Difference, str]]


def compare(place: Where, ours: Facts, theirs: Facts, table: Sequence[Row]) -> Compared:
    """In what csagent's machine and cloud-init's differ."""
    found = Compared([], [])
    for fact, mine, other in _differing(ours, theirs):
        line = f"{fact}: csagent {mine!r}, cloud-init {other!r}"
        fitting = _fitting(place, fact, mine, other, table)
        if fitting is None:
            found.wrong.append(line)
        else:
            found.meant.append((*fitting, line))
    return found


def _differing(ours: Facts, theirs: Facts) -> Iterator[Tuple[str, str, str]]:
    for fact in dict.fromkeys((*ours, *theirs)):
        mine, other = ours.get(fact, ABSENT), theirs.get(fact, ABSENT)
        if mine != other:
            yield fact, mine, other


def _fitting(
    place: Where, fact: str, mine: str, other: str, table: Sequence[Row]
) -> Optional[Tuple[Row, Difference]]:
    for row in table:
        for difference in row.differences:
            if difference.fits(place, fact, mine, other):
                return row, difference
    return None


def unmet(boot: int, expected: Mapping[str, str], found: Facts) -> List[str]:
    """In what a machine of csagent's is not as its case has it."""
    wrong = []
    for fact, value in expected.items():
        wanted = value.replace("(each boot)", f"({boot})")
        if found.get(fact, ABSENT) != wanted:
            wrong.append(f"{fact}: {found.get(fact, ABSENT)!r}, expected {wanted!r}")
    return wrong


def unused(table: Sequence[Row], used: Set[Difference]) -> List[str]:
    """What the table has and no machine has shown."""
    return [
        f"{row.what}: {difference.fact.pattern} is in the table and was not seen"
        for row in table
        for difference in row.differences
        if difference not in used
    ]


def markdown(table: Sequence[Row]) -> str:
    """The table of docs/from-cloud-init.md."""
    lines = ["| | cloud-init | csagent | because |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.cloud_init} | {row.csagent} | {row.because} |" for row in table]
    return "\n".join(lines) + "\n"


def page_with(text: str, table: Sequence[Row]) -> str:
    """The page with this table between its marks."""
    before, mark, rest = text.partition(BEGIN)
    _, other, after = rest.partition(END)
    assert mark and other, f"{PAGE.name} has no place for the table"
    return f"{before}{mark}\n{markdown(table)}\n{other}{after}"
