"""Find the virtual router among the candidates and read everything it has for this VM.

    look    once, now
    read    again and again, until a router is believed or the time is over

Both ask all candidates at once and believe only positive evidence; neither acknowledges anything.
"""

from __future__ import annotations

import queue
from typing import Callable, NamedTuple, Optional, Tuple

from csagent.model import PasswordOffer, Place, Reading
from csagent.sources.router import report
from csagent.sources.router.metadata import MetadataReader, MetadataTree
from csagent.sources.router.password_search import PasswordSearch
from csagent.sources.router.probe import Probe
from csagent.sources.router.search import Question, Search
from csagent.sources.router.threads import SLACK_SECONDS, start
from csagent.sources.router.trust import Trust

LISTING_SECONDS = 2.0  # for the listing, once the instance id is there

__all__ = ["Question", "RouterAnswer", "look", "read"]


class RouterAnswer(NamedTuple):
    """What the routers gave: at most one reading, and one place per candidate and port."""

    readings: Tuple[Reading, ...] = ()
    places: Tuple[Place, ...] = ()


Progress = Callable[[RouterAnswer], None]


def look(question: Question) -> RouterAnswer:
    """Ask every candidate once and read the best-ranked that is believed."""
    return _RouterRead(question).run(repeat=False)


def read(
    question: Question, progress: Optional[Progress] = None, believed: Callable[[], None] = lambda: None
) -> RouterAnswer:
    """As `look`, but a candidate that gave nothing is asked again until one is believed.

    Args:
        question: who is asked.
        progress: called with what is known so far each time that changes, in the calling thread.
        believed: called there, too, before the router that is believed is read.
    """
    return _RouterRead(question, progress, believed).run(repeat=True)


class _RouterRead:
    """The threads, probes and deadline of one `look` or `read`."""

    def __init__(
        self,
        question: Question,
        progress: Optional[Progress] = None,
        believed: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = question.system.clock
        self._deadline = question.deadline
        self._search = Search(question)
        self._passwords = PasswordSearch(question, self._search.probes)
        self._progress = progress
        self._believed = believed
        self._told: Tuple[Tuple[str, str, str], ...] = ()

    def run(self, *, repeat: bool) -> RouterAnswer:
        if not self._search.probes:
            return RouterAnswer()
        try:
            chosen = self._search.choose(repeat=repeat, beside=self._passwords.ask_beside, tell=self._tell)
            if chosen is None:
                return self._only_a_password()
            self._believed()
            return self._read(chosen, repeat=repeat)
        finally:
            self._search.close()

    def _read(self, chosen: Probe, *, repeat: bool) -> RouterAnswer:
        """The metadata of the one that is believed, and the password beside it."""
        settled: queue.SimpleQueue[PasswordOffer] = queue.SimpleQueue()
        if not start(lambda: settled.put(self._passwords.settle(chosen, repeat=repeat))):
            settled.put(self._passwords.settle(chosen, repeat=repeat))
        http = chosen.http
        if http is None or chosen.instance_id is None:
            raise AssertionError("a candidate is believed only after it answered")
        reader = MetadataReader(http.get, chosen.place, self._deadline, self._clock, loaded=chosen.loaded)
        listing = chosen.listing(
            min(self._clock.stretched(LISTING_SECONDS), self._deadline - self._clock.monotonic())
        )
        tree = reader.read(
            chosen.instance_id, listing, legacy=chosen.legacy, own=chosen.own, beside=http.source or ""
        )
        chosen.close()  # while the password is waited for, others may need the connections
        if self._progress is not None and settled.empty():
            self._progress(self._answer(chosen, tree, PasswordOffer(reason="no answer so far")))
        try:
            offer = settled.get(
                timeout=max(
                    0.0, self._deadline + self._clock.stretched(SLACK_SECONDS) - self._clock.monotonic()
                )
            )
        except queue.Empty:
            offer = PasswordOffer(reason="no answer in time")
        return self._answer(chosen, tree, offer)

    def _answer(self, chosen: Probe, tree: MetadataTree, offer: PasswordOffer) -> RouterAnswer:
        reading = Reading(
            channel="router",
            place=chosen.place,
            instance_id=chosen.instance_id,
            metadata=dict(tree.metadata),
            ssh_keys=tree.ssh_keys,
            password=offer,
            user_data=tree.user_data,
            interface=chosen.candidate.interface,
            refusals=(*tree.refusals, *self._passwords.refusals(chosen, offer)),
            doubts=tree.doubts,
            complete=tree.complete and offer.state != "unknown",
        )
        return RouterAnswer((reading,), self._places(chosen, tree))

    def _places(
        self, chosen: Optional[Probe] = None, tree: Optional[MetadataTree] = None
    ) -> Tuple[Place, ...]:
        trust: Trust = self._passwords.trust(chosen)
        routers = report.places(self._search, chosen, tree)
        return (*routers, *self._passwords.places(trust))

    def _only_a_password(self) -> RouterAnswer:
        """No metadata anywhere; a password server that signs is evidence of its own (field/cloudstack#8)."""
        offer = self._passwords.last_word()
        places = self._places()
        if offer.state != "offered":
            return RouterAnswer((), places)
        reading = Reading(channel="router", place=offer.place, password=offer, complete=False)
        return RouterAnswer((reading,), places)

    def _tell(self) -> None:
        """Report to who waits that nothing is believed yet, and why, where that is news."""
        if self._progress is not None:
            answer = RouterAnswer((), self._places())
            told = tuple((place.place, place.outcome, place.detail) for place in answer.places)
            if told != self._told:
                self._told = told
                self._progress(answer)
