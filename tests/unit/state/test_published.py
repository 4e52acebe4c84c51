"""What a pass leaves for everybody to read."""

from __future__ import annotations

import json

from csagent.model import Found, Observation, Observed, Place, Refusal
from csagent.plan import Outcome, Report
from csagent.state import published
from csagent.state.status_files import INSTANCE, VARIABLES
from csagent.system.seams import System

STEERS = "web\x1b[2J\u202e\n01"


def test_no_text_in_it_steers_a_terminal() -> None:
    """Whoever prints status.json, with cat or a program of their own."""
    observation = Observation(
        places=(Place(STEERS, STEERS, "ok", STEERS),), refusals=(Refusal("hostname", STEERS, STEERS),)
    )
    outcomes = (Outcome("hostname", "failed", STEERS),)
    report = Report(Observed(Found(), observation), outcomes, 5.0, 6.0, 3, note=STEERS)
    said = published.status_json(report)
    (place,), (refusal,) = said["places"], said["refusals"]
    texts = [said["data"]["hostname"]["reason"], said["note"], place["place"], place["why"], place["detail"]]
    texts += [refusal["place"], refusal["reason"]]
    assert [text for text in texts if not text.isprintable() or not text.startswith("web")] == []


def test_what_cloudstack_says_is_kept_and_steers_no_terminal_either(system: System) -> None:
    """The values of instance.json and variables.json, and keys' comments, are those that were given."""
    given = "B\u00fcro \u202e\u2066\u200f\u061c\x9b\x7f\u2028 \t\n<b>"
    observation = Observation(metadata={"cloud-domain": given, "EXAMPLE": given}, ssh_keys=(given,))
    published.write(system, Report(Observed(Found(), observation), (), 5.0, 6.0, 0))
    for path, key in ((INSTANCE, "cloud-domain"), (VARIABLES, "EXAMPLE")):
        raw = system.tree.read(path).decode()
        assert all(char.isprintable() or char == "\n" for char in raw) and "B\u00fcro \\u202e" in raw
        assert json.loads(raw)["metadata"][key] == given
    assert json.loads(system.tree.read(INSTANCE))["ssh_keys"] == [given]
