"""What a pass leaves for everybody to read."""

from __future__ import annotations

from csagent.model import Found, Observation, Observed, Place, Refusal
from csagent.plan import Outcome, Report
from csagent.state import published

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
