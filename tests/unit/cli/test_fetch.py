"""What `fetch` shows, and to whom."""

from __future__ import annotations

import os

import pytest

from csagent.cli import fetch
from csagent.console import Console
from csagent.model import Observation, Place

METADATA = {"service-offering": "Small", "db_password": "marker-EXAMPLE", "password-checksum": "marker-md5"}


@pytest.mark.parametrize(("uid", "shown"), [(0, "marker-EXAMPLE"), (1000, "***")])
def test_variables_of_user_data_are_for_root(monkeypatch: pytest.MonkeyPatch, uid: int, shown: str) -> None:
    """As with `query`; CloudStack's own keys are for everybody, its secrets for nobody who does not ask."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    seen = Observation(metadata=METADATA)
    found = fetch.as_json(seen)["metadata"]
    assert found == {"service-offering": "Small", "db_password": shown, "password-checksum": "***"}
    text = fetch.as_text(seen, Console(80))
    assert ("marker-EXAMPLE" in text) is (uid == 0) and "Small" in text and "marker-md5" not in text


@pytest.mark.parametrize(
    "where", ["drive /srv/@@y.iso", "password server 10.1.1.1:8080", "router 10.1.1.1:80"]
)
def test_a_place_and_its_outcome_fit_a_narrow_console(where: str) -> None:
    """The outcome is behind the place, or on the next line; coloured text takes no more room."""
    seen = Observation(places=(Place(where, "named by --drive", "unreachable"),))
    plain, coloured = (fetch.places(seen, Console(40, colour)) for colour in (False, True))
    assert max(map(len, plain)) <= 40 and len(coloured) == len(plain)
    assert " ".join(" ".join(plain[1:]).split()).startswith(f"{where}: unreachable named")
