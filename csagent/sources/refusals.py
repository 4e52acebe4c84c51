"""What one place said and was not believed, and which of its values are therefore not whole."""

from __future__ import annotations

from typing import Dict, List, Tuple

from csagent.errors import ProbeError
from csagent.model import Refusal

LIMIT = 64  # a hostile listing can earn thousands
DATUM_OF_KEY = {"local-hostname": "hostname", "public-keys": "ssh_keys", "user-data": "user_data"}
OTHER = "metadata"
MTU = "replies of more than one packet do not arrive: see the MTU"
A_LIST = "ssh_keys"  # some of it may be left out


def datum_of(key: str) -> str:
    """What a metadata key is a part of; public-keys may be a directory (field/cloudstack#2.8)."""
    return DATUM_OF_KEY.get(key.split("/", 1)[0], OTHER)


class Refusals:
    """Collects refusals and doubts while a place is read.

    A value of which something was refused, or whose end nobody can tell, is in doubt: it may add to what
    was applied before and never take away from it (`csagent.decide`). Doubts are not dropped, however many
    refusals there are.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.complete = True  # False: a later look may find more
        self._refusals: Dict[Refusal, None] = {}
        self._doubts: Dict[str, List[str]] = {}

    def add(self, name: str, reason: str, datum: str = OTHER, *, answered: bool = True) -> None:
        """Something was not used.

        Args:
            name: what reports call it, a metadata key as a rule.
            reason: one line.
            datum: what it is a part of.
            answered: False where nobody said anything for it.
        """
        self._refusals[Refusal(name, self.place, reason, answered)] = None
        if datum == A_LIST:  # of anything else there is no value then
            self.doubt(datum, reason)

    def fail(self, name: str, error: ProbeError, datum: str = OTHER) -> None:
        """A request gave nothing; a later one may do better where it was only trouble."""
        self.add(name, str(error), datum, answered=error.answered)
        self.complete = self.complete and not error.temporary

    def doubt(self, datum: str, reason: str) -> None:
        """Of a value that is used nobody can tell whether it is all."""
        self._doubts.setdefault(datum, []).append(reason)

    def refused(self) -> Tuple[Refusal, ...]:
        """At most LIMIT of them, in their order; those of metadata give way to the others."""
        known = list(self._refusals)
        if len(known) <= LIMIT:
            return tuple(known)
        # The password's reason must not drown in those of two thousand bad keys.
        known.sort(key=lambda refusal: refusal.datum == OTHER)
        more = Refusal(OTHER, self.place, f"{len(known) - LIMIT} more values were refused")
        return (*known[:LIMIT], more)

    def doubts(self) -> Dict[str, str]:
        """By datum, why it is not whole, in one line."""
        return {
            datum: reasons[0] if len(reasons) == 1 else f"{reasons[0]}; and {len(reasons) - 1} more like that"
            for datum, reasons in self._doubts.items()
        }
