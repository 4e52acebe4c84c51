"""What a pass leaves for everybody to read."""

from __future__ import annotations

import json
from typing import Any, List

import pytest

from csagent.model import Found, Observation, Observed, Place, Refusal
from csagent.plan import Outcome, Report
from csagent.state import published
from csagent.state.status_files import INSTANCE, STATUS, VARIABLES
from csagent.system.seams import System
from csagent.system.tree import Tree

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


ROUTER, DRIVE = "router 10.1.1.1", "drive /dev/sr0"
SAID = Observation(
    instance_id="i-2-3-VM",
    hostname="web01",
    metadata={"cloud-domain": "EXAMPLE", "my-var": "EXAMPLE"},
    ssh_keys=("ssh-ed25519 EXAMPLE",),
    network={"links": []},
    provenance={
        **dict.fromkeys(("instance_id", "hostname", "metadata", "ssh_keys"), ROUTER),
        "network": DRIVE,
    },
    places=(Place(ROUTER, "", "ok"), Place(DRIVE, "", "ok")),
)


@pytest.mark.parametrize(
    ("router", "outcome", "memory_id", "stays"),
    [
        (ROUTER, "timeout", "i-2-3-VM", True),
        ("router 10.1.1.2", "unreachable", "i-2-3-VM", True),
        ("router 10.1.1.2", "ok", "i-2-3-VM", False),
        (ROUTER, "timeout", "i-2-4-VM", False),
    ],
)
def test_what_a_silent_source_has_said_stays(
    system: System, router: str, outcome: str, memory_id: str, stays: bool
) -> None:
    """Beside another that says nothing of it; not of another instance, and not once one answers."""
    published.write(system, Report(Observed(Found(), SAID), (), 5.0, 6.0, 0, "i-2-3-VM"))
    network = {"links": [{"id": "eth0"}]}
    now = Observation(
        network=network,
        provenance={"network": DRIVE},
        places=(Place(router, "", outcome), Place(DRIVE, "", "ok")),
    )
    published.write(system, Report(Observed(Found(), now), (), 7.0, 8.0, 0, memory_id))
    instance, variables = (json.loads(system.tree.read(path)) for path in (INSTANCE, VARIABLES))
    assert instance["network"] == network and instance["provenance"]["network"] == DRIVE
    assert (instance["hostname"] == "web01") is stays and ("hostname" in instance["provenance"]) is stays
    assert bool(instance["ssh_keys"]) is ("cloud-domain" in instance["metadata"]) is stays
    assert ("my-var" in variables["metadata"]) is stays


def test_the_status_is_written_last(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it asks the others then."""
    names: List[str] = []
    write = Tree.write

    def noted(tree: Tree, path: str, *words: Any, **more: Any) -> Any:
        names.append(path)
        return write(tree, path, *words, **more)

    monkeypatch.setattr(Tree, "write", noted)
    published.write(system, Report(Observed(Found(), SAID), (), 5.0, 6.0, 0, "i-2-3-VM"))
    assert names[-1] == STATUS and set(names) == {STATUS, published.METRICS, INSTANCE, VARIABLES}
