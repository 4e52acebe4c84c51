"""The file for Prometheus, read by a strict parser of its text format."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.replace_fields import replace
from support.samples import INSTANCE

import csagent
from csagent.console import one_line
from csagent.errors import EXIT_NO_SOURCE, EXIT_OK, EXIT_PARTIAL
from csagent.model import Found, Observation, Observed, PasswordOffer, Place, Secret, UserData
from csagent.plan import Outcome, Report
from csagent.state import metrics, published
from csagent.system.seams import System

MARKER = "EXAMPLE-marker-metrics"
PROM = "run/csagent/csagent.prom"
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\})')
VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")

Series = Tuple[str, FrozenSet[Tuple[str, str]]]

PLACES = (
    Place("router 10.1.1.1", "DHCP server of eth0", "ok", "11 keys", 0.012),
    Place("router 10.3.3.1", "DHCP server of eth1", "timeout", "no answer in time"),
    Place("password server 10.1.1.1:8080", "its router", "ok", "a password is offered", 0.004),
    Place("drive", "labels config-2", "absent", "no such drive"),
    Place("router 10.4.4.1", "gateway", "skipped", "not asked"),
)
OUTCOMES = (
    Outcome("hostname", "applied", "first pass", "router 10.1.1.1"),
    Outcome("ssh_keys", "failed", "disk full", "router 10.1.1.1", True),
    Outcome("password", "refused", "stale", "password server 10.1.1.1:8080"),
    Outcome("user_data", "absent", "none"),
)
OBSERVATION = Observation(
    instance_id=INSTANCE,
    password=PasswordOffer("offered", Secret(MARKER.encode())),
    user_data=UserData(Secret(MARKER.encode()), "script", 21, "0" * 64),
    metadata={"role": MARKER},
    places=PLACES,
    source_found=True,
)
REPORT = Report(Observed(Found(), OBSERVATION), OUTCOMES, 1000.0, 1000.25, EXIT_PARTIAL)


def read(text: str) -> Dict[Series, float]:
    """Every sample; each family has its HELP and TYPE once, before its samples, and they stand together.

    The format: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    assert text.endswith("\n")
    found: Dict[Series, float] = {}
    kinds: Dict[str, str] = {}
    helped: List[str] = []
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, meaning = line[7:].split(" ", 1)
            assert NAME.fullmatch(name) and name not in helped and meaning and "\\" not in meaning
            helped.append(name)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert helped[-1] == name and name not in kinds and kind in ("counter", "gauge")
            assert name.endswith("_total") == (kind == "counter")
            kinds[name] = kind
        else:
            match = NAME.match(line)
            assert match and match[0] == helped[-1] and match[0] in kinds, line
            labels, rest = _labels(line[match.end() :])
            assert rest.startswith(" ") and VALUE.fullmatch(rest[1:]), line
            assert (match[0], labels) not in found, f"twice: {line}"
            found[match[0], labels] = float(rest[1:])
    return found


def _labels(rest: str) -> Tuple[FrozenSet[Tuple[str, str]], str]:
    if not rest.startswith("{"):
        return frozenset(), rest
    position, labels = 1, []
    while True:
        match = LABEL.match(rest, position)
        assert match, rest
        plain = re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), match[2])
        labels.append((match[1], plain))
        position = match.end()
        if match[3] == "}":
            assert len({name for name, _ in labels}) == len(labels)
            return frozenset(labels), rest[position:]


def of(report: Report, before: Any = None) -> Dict[Series, float]:
    """The samples of a report."""
    return read(metrics.as_text(published.status_json(report, before)).decode())


def sample(name: str, **labels: str) -> Series:
    """How a sample is named."""
    return f"csagent_{name}", frozenset(labels.items())


def test_every_figure() -> None:
    """A pass with one of everything: exactly these samples."""
    assert of(REPORT, {"password": {"applied_at": 900.5, "failures": 2}}) == {
        sample("info", version=csagent.__version__, instance_id=INSTANCE): 1,
        sample("last_pass_timestamp_seconds"): 1000.25,
        sample("last_pass_duration_seconds"): 0.25,
        sample("pass_exit_code"): 3,
        sample("last_change_timestamp_seconds"): 1000.25,
        sample("datum_state", datum="hostname", state="applied"): 1,
        sample("datum_state", datum="ssh_keys", state="failed"): 1,
        sample("datum_state", datum="password", state="refused"): 1,
        sample("datum_state", datum="user_data", state="absent"): 1,
        sample("datum_applied_timestamp_seconds", datum="hostname"): 1000.25,
        sample("datum_applied_timestamp_seconds", datum="password"): 900.5,
        sample("failures_total", datum="hostname"): 0,
        sample("failures_total", datum="ssh_keys"): 1,
        sample("failures_total", datum="password"): 2,
        sample("failures_total", datum="user_data"): 0,
        sample("place_up", place="router 10.1.1.1"): 1,
        sample("place_up", place="router 10.3.3.1"): 0,
        sample("place_up", place="password server 10.1.1.1:8080"): 1,
        sample("router_latency_seconds", place="router 10.1.1.1"): 0.012,
    }


def test_no_source_and_nothing_applied() -> None:
    """A machine that is no guest of CloudStack's has a valid file, too, without figures that it has not."""
    nothing = Report(Observed(Found(), Observation()), (), 5.0, 6.0, EXIT_NO_SOURCE)
    found = of(nothing)
    assert found[sample("pass_exit_code")] == 4
    assert {name for name, _ in found} == {
        "csagent_info",
        "csagent_last_pass_timestamp_seconds",
        "csagent_last_pass_duration_seconds",
        "csagent_pass_exit_code",
    }


def with_places(*names: str) -> Report:
    places = tuple(Place(name, "given", "ok", "", 0.5) for name in names)
    return replace(REPORT, observed=Observed(Found(), replace(OBSERVATION, places=places)))


@given(st.lists(st.text(st.characters())))
def test_labels_are_escaped(names: List[str]) -> None:
    """Quotes, newlines, backslashes, what is no Unicode: the file stays valid, the name what it was."""
    found = of(with_places(*(f"router {name}" for name in names)))
    for name in names:
        printable = one_line(f"router {name}")
        assert found[sample("place_up", place=printable)] == 1


@pytest.mark.parametrize(
    "name", ['a"b', "a\nb 1", "a\\", "a\\nb", '"} 1\ncsagent_evil{x="', "\udc80", "\x00\r\u2028"]
)
def test_hostile_place_adds_no_sample(name: str) -> None:
    """The name of a place is a label, whatever it looks like."""
    assert len(of(with_places(f"router {name}"))) == len(of(with_places("router x")))


def test_one_place_asked_twice() -> None:
    """From two NICs, say: one sample, since the collector refuses a file with two; the better counts."""
    twice = (
        Place("router 10.1.1.1", "eth0", "ok", "", 0.2),
        Place("router 10.1.1.1", "eth1", "timeout", "", 3.0),
        Place("router \udc80", "", "ok", "", 0.1),
        Place("router \udc81", "", "ok", "", 0.1),
    )
    found = of(replace(REPORT, observed=Observed(Found(), replace(OBSERVATION, places=twice))))
    assert found[sample("place_up", place="router 10.1.1.1")] == 1
    assert found[sample("router_latency_seconds", place="router 10.1.1.1")] == 0.2


def test_written_at_every_pass(system: System, tree: Path) -> None:
    """Mode 0644, beside the status; whole or not at all; no temporary file that a collector would read."""
    published.write(system, REPORT)
    assert stat.S_IMODE((tree / PROM).stat().st_mode) == 0o644
    first = (tree / PROM).stat().st_ino
    published.write(system, replace(REPORT, finished=1002.0))
    assert (tree / PROM).stat().st_ino != first
    assert read((tree / PROM).read_text())[sample("last_pass_timestamp_seconds")] == 1002.0
    assert sorted(path.name for path in (tree / "run/csagent").iterdir()) == [
        "csagent.prom",
        "instance.json",
        "status.json",
        "variables.json",
    ]


def test_no_secret_in_it(system: System, tree: Path) -> None:
    """Neither the password nor the user-data, nor metadata's values."""
    published.write(system, REPORT)
    assert MARKER not in (tree / PROM).read_text()


def test_failures_are_counted_across_passes(system: System, tree: Path) -> None:
    """The count survives in status.json; what did not fail keeps it."""
    for _ in range(3):
        published.write(system, REPORT)
    well = tuple(replace(one, state="unchanged", wrong=False) for one in OUTCOMES)
    status = published.write(system, replace(REPORT, outcomes=well, exit_code=EXIT_OK)).status
    assert [status["data"][datum]["failures"] for datum in ("hostname", "ssh_keys")] == [0, 3]
    assert read((tree / PROM).read_text())[sample("failures_total", datum="ssh_keys")] == 3


@pytest.mark.parametrize("count", [True, -1, 1.5, 10**16, "7", None, [], {"a": 1}])
def test_damaged_count_starts_anew(count: Any) -> None:
    """What cannot be a count in the last status is none."""
    assert of(REPORT, {"hostname": {"failures": count}})[sample("failures_total", datum="hostname")] == 0


def test_a_file_that_cannot_be_written(system: System, tree: Path) -> None:
    """Said in the note as for the status; what another pass has left there goes."""
    published.write(system, REPORT)
    (tree / PROM).unlink()
    (tree / PROM).mkdir()
    report = published.write(system, REPORT)
    assert "could not be written" in report.note and report.status["exit_code"] == EXIT_PARTIAL
    assert not (tree / "run/csagent/status.json").exists()
