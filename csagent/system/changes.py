"""Tells what has changed: by what the kernel and udev say, and by looking again where nobody says anything.

A waiting pass and the resident daemon use the same detector, the one with looks twice a second, the other
once a minute.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Hashable, List, Mapping, Sequence, Tuple

    Marks = Tuple[Hashable, ...]  # a fingerprint of what was looked at


class ChangeDetector:
    """Sources of events, and things to look at.

    A source has a `name`, a `fileno()` to wait for, `news()`, which says whether what made it readable is
    of interest and raises where events were lost, and `close()` (see `csagent.system.events`).

    Args:
        now: the monotonic clock.
        looks: by name, what gives another answer once something has changed.
        pause: seconds between looks.
        sources: belong to this object from now on.
    """

    def __init__(
        self,
        now: Callable[[], float],
        looks: Mapping[str, Callable[[], Marks]],
        pause: float,
        sources: Sequence[Any] = (),
    ) -> None:
        self.sources: List[Any] = list(sources)
        self.seen: Dict[str, Marks] = {name: look() for name, look in looks.items()}  # at the last look
        self.next_look: float = now() + pause if looks else float("inf")
        self._now = now
        self._looks = looks
        self._pause = pause

    def told(
        self, ready: Sequence[Any], lost: Callable[[str, Exception], None] = lambda _name, _error: None
    ) -> List[str]:
        """The names of the sources that have news, of those that are readable.

        One that has lost events counts as news, and `lost` is called with it; no other is asked then.
        """
        names = []
        for source in [one for one in self.sources if one in ready]:
            try:
                if source.news():
                    names.append(str(source.name))
            except Exception as error:  # pyudev decodes what it is told, too
                names.append(str(source.name))
                lost(str(source.name), error)
                break
        return names

    def changed(self) -> List[str]:
        """The names of the looks that give another answer than at the last look, when one is due."""
        now = self._now()
        if now < self.next_look:
            return []
        self.next_look = now + self._pause
        before, self.seen = self.seen, {name: look() for name, look in self._looks.items()}
        return [name for name in self.seen if self.seen[name] != before[name]]

    def hurry(self, seconds: float) -> None:
        """Look again in so many seconds at the latest."""
        self.next_look = min(self.next_look, self._now() + seconds)

    def renew(self, name: str) -> None:
        """Look at one thing now: somebody begins to read it, and no later look is to call that a change."""
        self.seen[name] = self._looks[name]()

    def close(self) -> None:
        """Stop listening."""
        for source in self.sources:
            source.close()
        self.sources = []
