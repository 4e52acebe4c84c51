"""The metadata tree of a router that is believed: listing, keys, public keys and user-data.

At most three round trips in sequence after the listing, whatever the number of keys: all keys; then what
the first answers point to (the older path, directories); then public keys once more where a line of them
made no sense, because the VR rewrites files in place (facts, 2.6).
"""

from __future__ import annotations

import threading
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union
from urllib.parse import quote

from csagent import plausible
from csagent.errors import Absent, Malformed, ProbeError, TimedOut
from csagent.facts import dataclass, field
from csagent.model import Refusal
from csagent.read.http import Answer
from csagent.read.parallel import in_parallel
from csagent.read.values import WELL_KNOWN, Listing, key_numbers, parse_listing, parse_value

PUBLIC_KEYS = "public-keys"
MODERN = "/latest/meta-data/"
LEGACY = "/latest/"
USER_DATA = "/latest/user-data"
THREADS = 16
LOADED_THREADS = 1  # with a router that is slow: its connections are what the other VMs wait for
LISTING_LIMIT = 64 * 1024
TOTAL_LIMIT = 2 << 20
REFUSALS_LIMIT = 64
TEMPORARY = frozenset(("timeout", "refused", "unreachable", "failed"))

Get = Callable[[str, int], Answer]
Result = Union[Answer, ProbeError]


@dataclass
class Tree:
    """What was read, and what was not believed, as it builds up."""

    place: str
    metadata: Dict[str, str] = field(default_factory=dict)
    ssh_keys: Tuple[str, ...] = ()
    user_data: Optional[bytes] = None
    refusals: List[Refusal] = field(default_factory=list)
    complete: bool = True

    def refuse(self, datum: str, reason: str) -> None:
        """Record a value that is not used, once. A hostile listing can earn thousands of these."""
        refusal = Refusal(datum, self.place, reason)
        if refusal in self.refusals:
            return
        if len(self.refusals) < REFUSALS_LIMIT:
            self.refusals.append(refusal)
        elif len(self.refusals) == REFUSALS_LIMIT:
            self.refusals.append(Refusal("metadata", self.place, "and more like these, not listed"))

    def fail(self, datum: str, error: ProbeError) -> None:
        """Record a request that gave nothing; a later look may do better where it was only trouble."""
        self.refuse(datum, str(error))
        if error.outcome in TEMPORARY:
            self.complete = False


class Reader:
    """Reads one router's tree.

    Args:
        get: asks the router for a path; raises `ProbeError`.
        place: what reports call the router.
        deadline: on the monotonic clock.
        loaded: the router is slow, so few connections are used, and what got none is asked for once more.
    """

    def __init__(self, get: Get, place: str, deadline: float, *, loaded: bool = False) -> None:
        self._get = get
        self._deadline = deadline
        self._loaded = loaded
        self._lock = threading.Lock()
        self._total = 0
        self.tree = Tree(place)

    def read(self, instance_id: str, listing: Result, *, legacy: bool) -> Tree:
        """Everything below /latest.

        Args:
            instance_id: read before, it made us believe this router.
            listing: the answer for /latest/meta-data/, or why there is none.
            legacy: the router knows only the older paths, directly below /latest.
        """
        tree = self.tree
        tree.metadata["instance-id"] = instance_id
        names = self._names(listing, quiet=legacy)
        wanted = dict.fromkeys((*names.unlisted(WELL_KNOWN), *names.keys))
        for name in (*names.directories, "instance-id", "user-data"):
            wanted.pop(name, None)
        base = LEGACY if legacy else MODERN
        jobs = {name: base + quote(name) for name in wanted}
        jobs.update({f"{name}/": f"{MODERN}{quote(name)}/" for name in names.directories})
        results = self._fetch(jobs, with_user_data=True)
        if self._loaded:
            results.update(self._fetch({key: jobs[key] for key in _temporary(results)}))
        more = self._directories(results, names.directories)
        if not legacy:
            modern = any(isinstance(result, Answer) for result in results.values())
            missing = [
                key
                for key in WELL_KNOWN
                if isinstance(results.get(key), Absent) and (key in names.keys or not modern)
            ]
            more.update({key: LEGACY + quote(key) for key in missing})
        for key, result in self._fetch(more).items():
            if isinstance(result, Answer) or not isinstance(results.get(key), Absent):
                results[key] = result
        self._public_keys(results, {**jobs, **more})
        for key, result in results.items():
            self._keep(key, result, listed=key in names.keys)
        spelled = tree.metadata.pop("hypervisor-hostname", None)
        if spelled is not None:
            tree.metadata.setdefault("hypervisor-host-name", spelled)
        return tree

    def _names(self, listing: Result, *, quiet: bool) -> Listing:
        if isinstance(listing, ProbeError):
            if not quiet:
                self.tree.fail("listing", listing)
            return Listing()
        names = parse_listing(listing.body)
        for problem in names.problems:
            self.tree.refuse("metadata", problem)
        return names

    def _fetch(self, jobs: Dict[str, str], *, with_user_data: bool = False) -> Dict[str, Result]:
        """Ask for all paths at once; the largest body starts first."""
        keys = list(jobs)
        items: List[Optional[str]] = [*([None] if with_user_data else []), *keys]
        answers = in_parallel(
            lambda key: self._fetch_user_data() if key is None else self._fetch_one(key, jobs[key]),
            items,
            LOADED_THREADS if self._loaded else THREADS,
            self._deadline,
        )
        late = TimedOut("no answer in time")
        if with_user_data and answers.pop(0) is None:
            self.tree.fail("user-data", late)
        return {key: answer or late for key, answer in zip(keys, answers)}

    def _fetch_one(self, key: str, path: str) -> Result:
        with self._lock:
            if self._total >= TOTAL_LIMIT:
                return Malformed(f"more than {TOTAL_LIMIT} bytes of metadata in all")
        try:
            answer = self._get(path, plausible.value_limit(key))
        except ProbeError as error:
            return error
        with self._lock:
            self._total += len(answer.body)
        return answer

    def _fetch_user_data(self) -> Result:
        try:
            answer = self._get(USER_DATA, plausible.USER_DATA_LIMIT)
        except Absent as error:
            return error  # 404 and an empty body both mean that there is none (facts, 2.5)
        except ProbeError as error:
            self.tree.fail("user-data", error)
            return error
        self.tree.user_data = answer.body
        return answer

    def _directories(self, results: Dict[str, Result], names: Sequence[str]) -> Dict[str, str]:
        """The paths of the children of directories, one level deep (facts, 2.8; edge 25)."""
        more: Dict[str, str] = {}
        flat = results.get(PUBLIC_KEYS)
        if isinstance(flat, Answer) and key_numbers(flat.body):
            results[f"{PUBLIC_KEYS}/"] = results.pop(PUBLIC_KEYS)
            names = (*names, PUBLIC_KEYS)
        for name in dict.fromkeys(names):
            answer = results.pop(f"{name}/", None)
            if isinstance(answer, ProbeError):
                self.tree.fail(f"{name}/", answer)
            if not isinstance(answer, Answer):
                continue
            if name == PUBLIC_KEYS:
                for number in key_numbers(answer.body)[: plausible.SSH_KEYS_LIMIT]:
                    child = f"{name}/{number}/openssh-key"
                    more[child] = MODERN + child
                continue
            children = parse_listing(answer.body)
            for problem in children.problems:
                self.tree.refuse(f"{name}/", problem)
            for key in children.keys[: plausible.KEYS_LIMIT - len(more)]:
                more[f"{name}/{key}"] = f"{MODERN}{quote(name)}/{quote(key)}"
        return more

    def _public_keys(self, results: Dict[str, Result], paths: Dict[str, str]) -> None:
        """Take the public keys out of the results, asking once more where a line is no key (edge 17)."""
        names = [name for name in results if name == PUBLIC_KEYS or name.startswith(f"{PUBLIC_KEYS}/")]
        found = {name: results.pop(name) for name in names}
        doubtful = [name for name in names if _bad_lines(found[name])]
        again = self._fetch({name: paths[name] for name in doubtful})
        for name, answer in again.items():
            if isinstance(answer, Answer) and not _bad_lines(answer):
                found[name] = answer
        lines: List[str] = []
        for name in names:
            result = found[name]
            if isinstance(result, Answer):
                try:
                    lines.append(plausible.metadata_value(result.body, plausible.SSH_KEYS_SIZE))
                except Malformed as error:
                    self.tree.refuse(name, str(error))
            elif not isinstance(result, Absent) or name != PUBLIC_KEYS:
                self.tree.fail(name, result)
        keys, reasons = plausible.ssh_keys("\n".join(lines))
        self.tree.ssh_keys = keys
        for reason in reasons:
            self.tree.refuse(PUBLIC_KEYS, reason)
        if keys:
            self.tree.metadata[PUBLIC_KEYS] = "\n".join(keys)

    def _keep(self, key: str, result: Result, *, listed: bool) -> None:
        if isinstance(result, Absent):
            if listed:
                self.tree.refuse(key, f"listed, but {result}")
            return
        if isinstance(result, ProbeError):
            self.tree.fail(key, result)
            return
        if not result.body.strip():
            return  # null on the management server: no value (facts, 2.5)
        try:
            self.tree.metadata[key] = parse_value(key, result.body)
        except ProbeError as error:
            self.tree.refuse(key, str(error))


def _temporary(results: Dict[str, Result]) -> List[str]:
    """The keys whose requests came to nothing for no reason of their own."""
    return [
        key
        for key, result in results.items()
        if isinstance(result, ProbeError) and result.outcome in TEMPORARY
    ]


def _bad_lines(result: Result) -> bool:
    """Whether a body of public keys has a line that is none, or is no text at all."""
    if not isinstance(result, Answer):
        return False
    try:
        return bool(plausible.ssh_keys(plausible.metadata_value(result.body, plausible.SSH_KEYS_SIZE))[1])
    except Malformed:
        return True
