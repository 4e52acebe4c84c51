from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.replace_fields import replace
from support.samples import INSTANCE, make_key

from csagent.decide import decide
from csagent.model import Endpoint, Observation, PasswordOffer, Place, Refusal, Secret
from csagent.plan import (
    DATA,
    Acknowledge,
    Action,
    FinishHostname,
    KeepUserData,
    Leave,
    RevokeFormer,
    SetHostname,
    SetPassword,
    WriteKeys,
)
from csagent.settings import Settings
from csagent.sources.user_data_kind import describe
from csagent.state import applied
from csagent.state.applied import Memory

PASSWORD = Secret(b"EXAMPLE-new")
OLD = Secret(b"EXAMPLE-old")
ENDPOINT = Endpoint("10.1.1.1", 8080)
FRESH = Memory(instance_id=INSTANCE, salt=b"s" * 16)


def offer(value: Secret = PASSWORD) -> PasswordOffer:
    return PasswordOffer("offered", value, "password server 10.1.1.1:8080", "", (ENDPOINT,))


def one(
    datum: str,
    observation: Observation,
    memory: Memory = FRESH,
    settings: Optional[Settings] = None,
    force: bool = False,
) -> Action:
    plan = decide(observation, memory, settings or Settings(), force_password=force)
    assert tuple(action.datum for action in plan.actions) == DATA
    return {action.datum: action for action in plan.actions}[datum]


def test_nothing_seen_nothing_done() -> None:
    """Without any value every datum is left alone with a reason, and the plan changes nothing."""
    plan = decide(Observation(), FRESH, Settings())
    assert not plan.changes
    assert all(isinstance(action, Leave) and action.reason for action in plan.actions)


def test_hostname_once_per_change() -> None:
    """Set at first, left alone while the source says the same, set again when it changes."""
    seen = Observation(hostname="web01", domain="x.example", provenance={"hostname": "router 10.1.1.1"})
    first = one("hostname", seen)
    assert first == SetHostname("hostname", first.reason, "router 10.1.1.1", "web01", "x.example")
    assert isinstance(one("hostname", seen, replace(FRESH, hostname="web01", domain="x.example")), Leave)
    assert isinstance(one("hostname", seen, replace(FRESH, hostname="old")), SetHostname)


def test_what_was_outdone_is_no_news() -> None:
    """A value that a better-trusted place outdid is not applied when it stands alone later; a new one is."""
    both = Observation(hostname="new", others={"hostname": ("stale",)})
    over = decide(both, FRESH, Settings()).passed_over
    assert over == {"hostname": ("stale",)}
    known = replace(FRESH, hostname="new", passed_over=over)
    alone = Observation(hostname="stale", provenance={"hostname": "drive /dev/sr1"})
    left = one("hostname", alone, known)
    assert isinstance(left, Leave) and left.state == "unchanged" and "new stays" in left.reason
    assert decide(alone, known, Settings()).passed_over == over
    # Whoever is trusted most is believed whatever it says, alone or with others.
    for others in ({}, {"hostname": ("stale",)}):
        told = replace(alone, provenance={"hostname": "router 10.1.1.1"}, others=others)
        assert isinstance(one("hostname", told, known), SetHostname)
    # Applied news, and agreement, forget it: then the same value is news again.
    for seen in (Observation(hostname="newer"), Observation(hostname="new", others={"hostname": ("new",)})):
        assert decide(seen, known, Settings()).passed_over == {}
    assert isinstance(one("hostname", alone, replace(FRESH, hostname="new")), SetHostname)


def test_an_outdone_set_of_keys_is_remembered_by_its_digest() -> None:
    """A megabyte of them beside another is more than memory is read of."""
    best, stale = (make_key(1),), (make_key(2, "\u0436" * 7000), make_key(3))
    both = Observation(ssh_keys=best, others={"ssh_keys": (stale, best)})
    over = decide(both, FRESH, Settings()).passed_over
    assert len(over["ssh_keys"]) == 1 and len(repr(over)) < 200
    known = replace(FRESH, ssh_keys=best, ssh_user="root", passed_over=over)
    alone = Observation(ssh_keys=stale, provenance={"ssh_keys": "drive /dev/sr1"})
    left = one("ssh_keys", alone, known)
    assert isinstance(left, Leave) and "these keys: outdone before" in left.reason
    assert decide(alone, known, Settings()).passed_over == over
    assert isinstance(one("ssh_keys", replace(alone, ssh_keys=stale[1:]), known), WriteKeys)


def test_refused_hostname_says_why() -> None:
    """A host name that cannot be set is refused with its reason, and counts as wrong."""
    seen = Observation(refusals=(Refusal("hostname", "router 10.1.1.1", "an address"),))
    action = one("hostname", seen)
    assert action == Leave("hostname", "an address", "router 10.1.1.1", "refused", True)


@pytest.mark.parametrize("datum", ["hostname", "ssh_keys", "password"])
def test_settings_turn_a_datum_off(datum: str) -> None:
    """A datum whose setting is false is left alone, and says so."""
    seen = Observation(hostname="web01", ssh_keys=(make_key(1),), password=offer())
    action = one(datum, seen, settings=replace(Settings(), **{datum: False}))
    assert isinstance(action, Leave) and action.state == "off" and datum in action.reason


def test_keys_written_once_and_revoked_on_change() -> None:
    """The same set is left alone; another one replaces it as a whole."""
    keys = (make_key(1), make_key(2))
    seen = Observation(ssh_keys=keys)
    first = one("ssh_keys", seen)
    assert isinstance(first, WriteKeys) and first.keys == keys and first.previous == ()
    known = replace(FRESH, ssh_keys=keys, ssh_user="root")
    assert isinstance(one("ssh_keys", seen, known), Leave)
    reset = one("ssh_keys", Observation(ssh_keys=(make_key(3),)), known)
    assert isinstance(reset, WriteKeys) and reset.previous == keys
    assert "1 new, 2 revoked" in reset.reason


def test_an_empty_answer_never_revokes() -> None:
    """No keys is no order to remove any (field/cloudstack#edge-16, #edge-53)."""
    known = replace(FRESH, ssh_keys=(make_key(1),), ssh_user="root")
    action = one("ssh_keys", Observation(), known)
    assert isinstance(action, Leave) and action.state == "absent" and "nothing is revoked" in action.reason


DOUBT = "line 2: a line that is no key"


def test_a_set_that_is_not_whole_adds_and_never_revokes() -> None:
    """What is missing may have been lost on the way: the old keys stay, new ones come, and it is told."""
    known = replace(FRESH, ssh_keys=(make_key(1), make_key(2)), ssh_user="root")
    seen = Observation(ssh_keys=(make_key(1), make_key(3)), doubts={"ssh_keys": DOUBT})
    action = one("ssh_keys", seen, known)
    assert isinstance(action, WriteKeys) and action.wrong
    assert action.keys == (make_key(1), make_key(2), make_key(3)) and action.previous == known.ssh_keys
    assert (
        "1 new, 0 revoked" in action.reason
        and DOUBT in action.reason
        and "nothing is revoked" in action.reason
    )
    # The same again: nothing to do, and still told.
    again = one("ssh_keys", seen, replace(known, ssh_keys=action.keys))
    assert isinstance(again, Leave) and again.wrong and DOUBT in again.reason
    # Whole again: now the one that is gone is revoked.
    whole = one("ssh_keys", replace(seen, doubts={}), replace(known, ssh_keys=action.keys))
    assert isinstance(whole, WriteKeys) and not whole.wrong and "0 new, 1 revoked" in whole.reason


def test_a_first_set_that_is_not_whole_is_written() -> None:
    """Somebody gets in with the keys that there are; the rest is told."""
    action = one("ssh_keys", Observation(ssh_keys=(make_key(1),), doubts={"ssh_keys": DOUBT}))
    assert isinstance(action, WriteKeys) and action.wrong and action.keys == (make_key(1),)
    # What we remember may have been lost, too: the lines that stand as ours stay.
    assert action.only_add and "nothing is revoked" in action.reason
    assert not one("ssh_keys", Observation(ssh_keys=(make_key(1),))).only_add


@given(
    st.lists(st.integers(1, 5), unique=True),
    st.none() | st.lists(st.integers(1, 5), unique=True),
    st.sampled_from(("root", "alice")),
)
def test_doubt_takes_no_key_away(offered: List[int], before: Optional[List[int]], user: str) -> None:
    """Whatever is offered and known, every key that was written before is in the set that is written."""
    known = None if before is None else tuple(map(make_key, before))
    memory = replace(FRESH, ssh_keys=known, ssh_user=None if known is None else user)
    seen = Observation(ssh_keys=tuple(map(make_key, offered)), doubts={"ssh_keys": DOUBT})
    action = one("ssh_keys", seen, memory)
    if isinstance(action, WriteKeys):
        assert set(known or ()) | set(seen.ssh_keys) == set(action.keys)


def test_other_values_that_are_not_whole() -> None:
    """A host name and a copy of user-data that may be cut are taken where there is none, and replace none."""
    doubts = {"hostname": DOUBT, "user_data": DOUBT}
    seen = Observation(hostname="we", user_data=describe(b"#!/bin/s"), doubts=doubts)
    for datum in ("hostname", "user_data"):
        first = one(datum, seen)
        assert first.changes and first.wrong and DOUBT in first.reason
        later = one(datum, seen, replace(FRESH, hostname="web01", user_data="another"))
        assert isinstance(later, Leave) and later.wrong and later.state == "refused"
    # The same value again: nothing to do, and still told.
    assert seen.user_data is not None
    known = replace(FRESH, hostname="we", user_data=seen.user_data.sha256)
    for datum in ("hostname", "user_data"):
        again = one(datum, seen, known)
        assert (
            isinstance(again, Leave) and again.wrong and again.state == "unchanged" and DOUBT in again.reason
        )


def test_user_data_that_is_not_whole_is_not_called_runnable_until_it_comes_whole() -> None:
    """Its copy is remembered as doubtful; the same bytes, whole, are remembered as whole."""
    data = describe(b"#!/bin/s")
    doubtful = Observation(user_data=data, doubts={"user_data": DOUBT})
    first = one("user_data", doubtful)
    assert isinstance(first, KeepUserData) and first.doubt == DOUBT
    known = replace(FRESH, user_data=data.sha256, user_data_doubt=DOUBT)
    for action in (first, one("user_data", doubtful, known)):
        assert "not run before it has come whole" in action.reason and "carries it out" not in action.reason
    whole = one("user_data", replace(doubtful, doubts={}), known)
    assert isinstance(whole, KeepUserData) and (whole.doubt, whole.wrong) == ("", False)
    assert "carries it out" in whole.reason
    # What was whole once is not less whole for coming without a length now.
    assert "carries it out" in one("user_data", doubtful, replace(known, user_data_doubt="")).reason


def test_what_nobody_answered_for_is_unknown() -> None:
    """A time-out is no refusal; where both are there, what was read and not believed is told."""
    late = Refusal("ssh_keys", "router 10.1.1.1", "no answer in time", answered=False)
    action = one("ssh_keys", Observation(refusals=(late,)))
    assert action == Leave("ssh_keys", "no answer in time", "router 10.1.1.1", "unknown", True)
    bad = Refusal("ssh_keys", "drive /dev/sr1", "line 1: no key")
    action = one("ssh_keys", Observation(refusals=(late, bad)))
    assert isinstance(action, Leave) and (action.state, action.source) == ("refused", "drive /dev/sr1")


def test_what_a_silent_router_would_have_said_is_unknown() -> None:
    """Its password server alone has answered: that is no word of the VM's name, keys and user-data."""
    server = Place("password server 10.1.1.1:8080", "", "ok")
    late = Place("router 10.1.1.1", "", "timeout", "no answer within 4 s")
    seen = Observation(source_found=True, places=(late, server), password=offer())
    for datum in ("hostname", "ssh_keys", "user_data"):
        action = one(datum, seen)
        assert action == Leave(datum, "no answer within 4 s", "router 10.1.1.1", "unknown", True)
    assert one("network", seen) == Leave("network", "no source says anything of the network", state="absent")
    # A drive that has none, beside a router that is not there; a router that refused; nobody at all.
    drive = Place("drive /dev/sr1", "", "ok")
    refused = late._replace(outcome="refused")
    for other in (
        replace(seen, places=(late, server, drive)),
        replace(seen, places=(refused, server)),
        replace(seen, source_found=False),
    ):
        assert one("hostname", other).state == "absent"  # type: ignore[union-attr]


def test_another_account_gets_the_keys() -> None:
    """When the setting user changes, the keys are written for the new account."""
    known = replace(FRESH, ssh_keys=(make_key(1),), ssh_user="root")
    action = one("ssh_keys", Observation(ssh_keys=(make_key(1),)), known, Settings(user="alice"))
    assert isinstance(action, WriteKeys) and action.user == "alice"


ON_DRIVE = PasswordOffer("offered", PASSWORD, "drive /dev/sr1")


def test_a_new_password_is_set() -> None:
    """One that was never applied is set for the configured account and can be acknowledged."""
    action = one("password", Observation(password=offer()), settings=Settings(user="alice"))
    assert isinstance(action, SetPassword)
    assert (action.user, action.value, action.endpoints) == ("alice", PASSWORD, (ENDPOINT,))


def test_the_newest_again_is_only_acknowledged() -> None:
    """A lost acknowledgement is repeated; the password is not set again (field/cloudstack#edge-36)."""
    known = FRESH.with_password(OLD).with_password(PASSWORD)
    action = one("password", Observation(password=offer()), known)
    assert isinstance(action, Acknowledge) and not action.changes and action.endpoints == (ENDPOINT,)


def test_the_newest_is_set_for_an_account_that_never_had_it() -> None:
    """Once for each: where the setting user goes to and fro, an owner's later choice stays in both."""
    known = FRESH.with_password(OLD, "root").with_password(PASSWORD, "root")
    for places in (offer(), ON_DRIVE):
        action = one("password", Observation(password=places), known, settings=Settings(user="alice"))
        assert isinstance(action, SetPassword) and (action.user, action.value) == ("alice", PASSWORD)
    both = known.with_password(PASSWORD, "alice")
    for user in ("root", "alice"):
        action = one("password", Observation(password=ON_DRIVE), both, settings=Settings(user=user))
        assert isinstance(action, Acknowledge)
    later = both.with_password(OLD, "alice")
    assert (later.password_users, later.never_reached("root")) == (("alice",), True)
    action = one("password", Observation(password=offer(OLD)), FRESH.with_password(OLD))
    assert isinstance(action, Acknowledge), "an earlier csagent has not said for whom"


def test_a_stale_copy_is_refused() -> None:
    """An older one offered again is neither set nor acknowledged (field/cloudstack#edge-37, #edge-38)."""
    known = FRESH.with_password(OLD).with_password(PASSWORD)
    action = one("password", Observation(password=offer(OLD)), known)
    assert isinstance(action, Leave) and action.state == "refused" and not action.wrong
    assert "--force-password" in action.reason


NEWER = Secret(b"EXAMPLE-newer")


@pytest.mark.parametrize("what", ["not acknowledged", "replayed", "older"])
def test_news_of_another_place_beside_what_is_known(what: str) -> None:
    """What a better-trusted place offers again keeps nobody from a new password; that one is older then."""
    known = FRESH.with_password(OLD)
    if what != "not acknowledged":
        known = known.with_forgotten_by([ENDPOINT]) if what == "replayed" else known.with_password(NEWER)
    action = one("password", Observation(password=offer(OLD), outranked=(ON_DRIVE,)), known)
    assert isinstance(action, SetPassword)
    assert (action.value, action.endpoints, action.source) == (PASSWORD, (), "drive /dev/sr1")
    assert action.outranked == (OLD,) and "that of password server 10.1.1.1:8080 was" in action.reason


def test_of_two_new_passwords_the_better_trusted_ones_counts() -> None:
    """It alone is set and acknowledged, the other is older with it (field/cloudstack#edge-44)."""
    seen = Observation(password=offer(NEWER), outranked=(ON_DRIVE,))
    for known in (FRESH, FRESH.with_password(OLD)):
        action = one("password", seen, known)
        assert isinstance(action, SetPassword)
        assert (action.value, action.endpoints, action.outranked) == (NEWER, (ENDPOINT,), (PASSWORD,))


def test_beside_a_marker_a_routers_password_is_news() -> None:
    """A drive's that an old script has set is older than it, and no news beside what a router offers."""
    import hashlib

    known = replace(FRESH, script_markers=(hashlib.md5(PASSWORD.reveal() + b"\n").hexdigest(),))
    action = one("password", Observation(password=ON_DRIVE, outranked=(offer(NEWER),)), known)
    assert isinstance(action, SetPassword) and (action.value, action.outranked) == (NEWER, (PASSWORD,))
    seen = Observation(password=offer(NEWER), outranked=(ON_DRIVE,))
    action = one("password", seen, known.with_password(NEWER))
    assert isinstance(action, Acknowledge) and action.value == NEWER


def test_a_server_is_told_beside_a_stale_copy() -> None:
    """The newest password's acknowledgement may have been lost; that it was confirmed makes it no news."""
    known = FRESH.with_password(PASSWORD).with_password(NEWER)
    seen = Observation(password=ON_DRIVE, outranked=(offer(NEWER),))
    action = one("password", seen, known)
    assert isinstance(action, Acknowledge) and (action.value, action.endpoints) == (NEWER, (ENDPOINT,))
    for observation, memory in (
        (seen, known.with_forgotten_by([ENDPOINT])),
        (Observation(password=offer(), outranked=(ON_DRIVE._replace(value=NEWER),)), known),
    ):
        stale = one("password", observation, memory)
        assert isinstance(stale, Leave) and stale.state == "refused" and "stale copy" in stale.reason


def test_force_sets_it_all_the_same() -> None:
    """--force-password overrides what memory says."""
    known = FRESH.with_password(OLD).with_password(PASSWORD)
    for value in (OLD, PASSWORD):
        assert isinstance(one("password", Observation(password=offer(value)), known, force=True), SetPassword)


def test_five_hundred_passwords_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of them is recognised as stale, by one derivation; the one before them is new again."""
    marks = replace(FRESH, passwords=tuple(f"{number:064x}" for number in range(499)))
    known = marks.with_password(OLD)
    assert len(known.passwords) == 500
    assert len(known.with_password(PASSWORD).passwords) == 500
    known = replace(known, passwords=(known.passwords[-1], *known.passwords[:-1]))
    derived: List[bytes] = []
    monkeypatch.setattr(applied, "_fingerprint", lambda salt, value: derived.append(salt) or "f" * 64)
    assert isinstance(one("password", Observation(password=offer(PASSWORD)), known), SetPassword)
    assert len(derived) == 1
    monkeypatch.undo()
    stale = one("password", Observation(password=offer(OLD)), known)
    assert isinstance(stale, Leave) and stale.state == "refused"


def test_the_newest_again_after_it_was_forgotten_is_a_new_reset() -> None:
    """A server that had confirmed does not offer it by itself; another one's copy is only acknowledged."""
    known = FRESH.with_password(OLD).with_password(PASSWORD)
    other = Endpoint("10.1.1.2", 8080)
    assert isinstance(one("password", Observation(password=offer()), known), Acknowledge)
    assert isinstance(
        one("password", Observation(password=offer()), known.with_forgotten_by([other])), Acknowledge
    )
    told = known.with_forgotten_by([other]).with_forgotten_by([ENDPOINT])
    action = one("password", Observation(password=offer()), told, Settings(user="alice"))
    assert isinstance(action, SetPassword) and (action.user, action.value) == ("alice", PASSWORD)
    # It is about the newest: another password, or the same one set again, begins anew.
    for later in (told.with_password(OLD).with_password(PASSWORD), known):
        assert isinstance(one("password", Observation(password=offer()), later), Acknowledge) is (
            later is known
        )
    assert isinstance(one("password", Observation(password=offer(OLD)), told), Leave)
    # A drive offers it for as long as it is there.
    drive = replace(offer(), endpoints=())
    assert isinstance(one("password", Observation(password=drive), told), Acknowledge)


def test_who_says_that_nothing_is_waiting_has_forgotten_it() -> None:
    """The plan has it for memory: a confirmation may have been lost on its way."""
    nothing = PasswordOffer("none", None, "password server 10.1.1.1:8080", "saved_password", (ENDPOINT,))
    assert decide(Observation(password=nothing), FRESH, Settings()).forgotten_by == (ENDPOINT,)
    assert decide(Observation(password=offer()), FRESH, Settings()).forgotten_by == ()


def test_what_failed_beside_the_main_effect_is_tried_again_alone() -> None:
    """The name and the keys are remembered; what is left of them is an action of its own."""
    known = replace(FRESH, hostname="web01", hostname_todo={"/etc/hosts": ""})
    seen = Observation(hostname="web01", domain="x.example", ssh_keys=(make_key(1),))
    action = one("hostname", seen, known)
    assert isinstance(action, FinishHostname) and action.todo == {"/etc/hosts": ""}
    assert (action.name, action.domain) == (
        "web01",
        "x.example",
    ) and "tried again: /etc/hosts" in action.reason
    known = replace(FRESH, ssh_keys=(make_key(1),), ssh_user="root", former_users=("alice",))
    revoke = one("ssh_keys", seen, known)
    assert isinstance(revoke, RevokeFormer) and revoke.users == ("alice",) and "alice" in revoke.reason
    assert isinstance(one("hostname", replace(seen, hostname="web02"), known), SetHostname)


def test_an_old_scripts_marker_is_honoured() -> None:
    """The old scripts' MD5 with a newline keeps a password from being put back (field/cloudstack#edge-45)."""
    import hashlib

    marker = hashlib.md5(PASSWORD.reveal() + b"\n").hexdigest()
    known = replace(FRESH, script_markers=(marker,))
    drive = replace(offer(), endpoints=())
    action = one("password", Observation(password=drive), known)
    assert isinstance(action, Acknowledge) and action.remember
    assert isinstance(one("password", Observation(password=replace(drive, value=OLD)), known), SetPassword)
    # Anybody may have written it: it neither answers a router nor holds back what that offers, now or later.
    assert isinstance(one("password", Observation(password=offer()), known), SetPassword)
    later = known.with_scripts_password(PASSWORD)
    assert isinstance(one("password", Observation(password=drive), later), Acknowledge)
    assert isinstance(one("password", Observation(password=offer()), later), SetPassword)
    assert isinstance(
        one("password", Observation(password=offer()), later.with_password(PASSWORD)), Acknowledge
    )


def test_password_states_without_an_offer() -> None:
    """None waiting, nobody answering and a refused value are three different things."""
    none = Observation(password=PasswordOffer("none", reason="saved_password"))
    assert one("password", none) == Leave("password", "saved_password", "", "absent")
    assert one("password", Observation()).state == "unknown"  # type: ignore[attr-defined]
    bad = Observation(refusals=(Refusal("password", "drive x", "md5 mismatch"),))
    assert one("password", bad) == Leave("password", "md5 mismatch", "drive x", "refused", True)


def test_user_data_is_kept_once() -> None:
    """A copy is kept when its content changes, whatever the instance id says (field/cloudstack#edge-29)."""
    data = describe(b"#!/bin/sh\n")
    action = one("user_data", Observation(user_data=data))
    assert isinstance(action, KeepUserData) and action.user_data == data
    assert isinstance(
        one("user_data", Observation(user_data=data), replace(FRESH, user_data=data.sha256)), Leave
    )


def test_no_reason_carries_a_secret() -> None:
    """Plans can be printed: neither the plan's text nor any reason has the password in it."""
    marker = Secret(b"marker-EXAMPLE-secret")
    for memory in (FRESH, FRESH.with_password(marker), FRESH.with_password(marker).with_password(OLD)):
        plan = decide(Observation(password=offer(marker)), memory, Settings())
        assert "marker-EXAMPLE" not in repr(plan)


@given(
    st.builds(
        lambda **seen: Observation(**seen),
        hostname=st.none() | st.just("web01"),
        ssh_keys=st.sampled_from([(), (make_key(1),), (make_key(1), make_key(2))]),
        password=st.sampled_from(
            [PasswordOffer(), PasswordOffer("none"), PasswordOffer("offered"), offer(), offer(OLD)]
        ),
        outranked=st.sampled_from([(), (offer(NEWER),), (ON_DRIVE._replace(value=OLD), offer(NEWER))]),
        refusals=st.lists(
            st.builds(Refusal, st.sampled_from(DATA), st.just("p"), st.just("r"), st.booleans()), max_size=3
        ).map(tuple),
        user_data=st.none() | st.just(describe(b"#!/bin/sh")),
        doubts=st.dictionaries(st.sampled_from(DATA), st.just("why"), max_size=3),
    ),
    st.sampled_from(
        [FRESH, FRESH.with_password(OLD), replace(FRESH, hostname="web01", ssh_keys=(make_key(1),))]
    ),
    st.booleans(),
)
def test_decide_is_total(observation: Observation, memory: Memory, force: bool) -> None:
    """Whatever is seen and remembered, each datum gets one action with a one-line reason; twice the same."""
    plan = decide(observation, memory, Settings(), force_password=force)
    assert tuple(action.datum for action in plan.actions) == DATA
    assert all(action.reason and "\n" not in action.reason for action in plan.actions)
    assert decide(observation, memory, Settings(), force_password=force) == plan


def test_a_domain_that_comes_later() -> None:
    """A name from a drive is completed once a lease says the domain, and only once."""
    seen = Observation(hostname="web01", domain="x.example", provenance={"hostname": "drive /dev/sr1"})
    known = FRESH._replace(hostname="web01")
    action = decide(seen, known, Settings()).actions[0]
    assert isinstance(action, FinishHostname) and action.domain == "x.example"
    assert action.todo == {"/etc/hosts": "web01"} and "has come since" in action.reason
    failed = decide(seen, known._replace(hostname_todo={"/etc/hosts": ""}), Settings()).actions[0]
    assert isinstance(failed, FinishHostname) and failed.todo == {"/etc/hosts": ""}, (
        "it brings the domain along"
    )
    for memory, observation in (
        (known._replace(domain="x.example"), seen),
        (known._replace(domain="y.example"), seen),
        (known, seen._replace(domain=None)),
        (known._replace(hostname="web01.y"), seen._replace(hostname="web01.y")),
    ):
        assert not decide(observation, memory, Settings()).actions[0].changes
