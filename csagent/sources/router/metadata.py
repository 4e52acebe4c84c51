"""The metadata tree of a router that is believed: listing, keys, public keys and user-data.

At most three round trips in sequence after the listing, whatever the number of keys: all keys; then what
the first answers point to (the older path, directories) and, with it, once more what the router may just
have been writing. It rewrites the files of all its VMs in place at each deployment (field/cloudstack#2.6): an
empty body, a line that is no key, and a file younger than two seconds count once two answers agree. So does
the listing, once what the first one names is there, and that of a directory.
"""

from __future__ import annotations

import threading
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union
from urllib.parse import quote

from csagent import validation
from csagent.errors import Absent, CutShort, Malformed, ProbeError, ServerFault, Stalled, TimedOut
from csagent.model import Refusal
from csagent.sources.refusals import MTU, OTHER, Refusals, datum_of
from csagent.sources.router.http import Answer
from csagent.sources.router.listing import WELL_KNOWN, Listing, key_numbers, parse_listing, parse_value
from csagent.sources.router.threads import in_parallel
from csagent.system.seams import Clock

PUBLIC_KEYS = "public-keys"
USER_DATA = "user-data"
MODERN = "/latest/meta-data/"
LEGACY = "/latest/"
THREADS = 16
LOADED_THREADS = 1  # with a router that is slow: its connections are what the other VMs wait for
LISTING_LIMIT = 64 * 1024
TOTAL_LIMIT = 2 << 20
YOUNG_SECONDS = 2.0
CONFIRM_PAUSE = 0.3  # seconds until a file that is just being written is asked for again
CONFIRM_ROUNDS = 8  # more than YOUNG_SECONDS in all
NEVER_EMPTY = ("hostname", "ssh_keys", "user_data")  # not taken for empty at the first word
LISTING = "/"  # the listing, among the answers by key; a key has no slash

UNFRAMED = "sent without a length, so that nobody can tell whether it is all"
PACKET = 1460  # bytes of TCP that fit into one packet of 1,500
HEADERS = 300  # of a reply of Apache's on the virtual router, about
LARGE = ("ssh_keys", "user_data")  # all other values fit into one packet

RESTLESS = "another value at each look: the router is writing it"

Get = Callable[[str, int], Answer]
Result = Union[Answer, ProbeError]


class MetadataTree:
    """What was read, and what was not believed."""

    def __init__(self) -> None:
        self.metadata: Dict[str, str] = {}
        self.ssh_keys: Tuple[str, ...] = ()
        self.user_data: Optional[bytes] = None
        self.refusals: Tuple[Refusal, ...] = ()
        self.doubts: Dict[str, str] = {}
        self.complete = True
        self.only_small = False  # what needs more than one packet does not arrive
        self.from_own = False  # some of it is from the VM's own directory, since /latest fails for it


class MetadataReader:
    """Reads one router's tree.

    Args:
        get: asks the router for a path; raises `ProbeError`.
        place: what reports call the router.
        deadline: on the monotonic clock.
        clock: waits between two looks at a file that is just being written.
        loaded: the router is slow, so few connections are used, and what got none is asked for once more.
    """

    def __init__(self, get: Get, place: str, deadline: float, clock: Clock, *, loaded: bool = False) -> None:
        self._get = get
        self._deadline = deadline
        self._clock = clock
        self._loaded = loaded
        self._lock = threading.Lock()
        self._total = 0
        self._tree = MetadataTree()
        self._refusals = Refusals(place)

    def read(
        self, instance_id: str, listing: Result, *, legacy: bool, own: str = "", beside: str = ""
    ) -> MetadataTree:
        """Everything below /latest, or in the VM's own directory.

        Args:
            instance_id: read before, it made us believe this router.
            listing: the answer for /latest/meta-data/, or why there is none.
            legacy: the router knows only the older paths, directly below /latest.
            own: the VM's address, where all below /latest fails.
            beside: the VM's address, where it is known; what alone fails below /latest is asked for there.
        """
        tree = self._tree
        tree.from_own = bool(own)
        tree.metadata["instance-id"] = instance_id
        listed_in = own_keys(own) + "meta-data" if own else MODERN
        if isinstance(listing, ServerFault) and beside and not own:
            listing = self._from_own(instance_id, beside, {"meta-data": listing}).get("meta-data", listing)
            listed_in = own_keys(beside) + "meta-data"
        paths = _paths(_parsed(listing), legacy=legacy, own=own)
        results = self._fetch(paths)
        listing = self._settled({LISTING: listing}, {LISTING: listed_in})[LISTING]
        names = self._names(listing, quiet=legacy)
        more = {key: path for key, path in _paths(names, legacy=legacy, own=own).items() if key not in paths}
        if more:
            paths.update(more)
            results.update(self._fetch(more))
        if self._loaded:
            results.update(self._fetch({key: paths[key] for key in _temporary(results)}))
        if beside and not own:
            instead = self._from_own(
                instance_id, beside, {key: results[key] for key in paths if key[-1] != "/"}
            )
            results.update(instead)
            paths.update({key: own_path(beside, key) for key in instead})
        directories = {key: results[key] for key in paths if key[-1] == "/"}
        results.update(self._settled(directories, paths))
        more = self._directories(results, [key[:-1] for key in directories])
        if not (legacy or own):
            modern = any(isinstance(result, Answer) for result in results.values())
            missing = [
                key
                for key in validation.OLD_KEYS
                if isinstance(results.get(key), Absent) and (key in names.keys or not modern)
            ]
            more.update({key: LEGACY + quote(key) for key in missing})
        self._second_look(results, paths, more)
        if _only_small(results):
            tree.only_small = True
            late = [key for key, result in results.items() if isinstance(result, TimedOut)]
            results.update({key: TimedOut(f"{results[key]}; {MTU}") for key in late})
        for key, result in results.items():
            if isinstance(result, Answer) and not result.framed and result.body:
                self._refusals.doubt(datum_of(key), UNFRAMED)
        self._keep_user_data(results.pop(USER_DATA))
        self._keep_public_keys(results)
        for key, result in results.items():
            self._keep(key, result, listed=key in names.keys)
        spelled = tree.metadata.pop("hypervisor-hostname", None)
        if spelled is not None:
            tree.metadata.setdefault("hypervisor-host-name", spelled)
        tree.refusals, tree.doubts = self._refusals.refused(), self._refusals.doubts()
        tree.complete = self._refusals.complete
        return tree

    def _from_own(self, instance_id: str, address: str, results: Dict[str, Result]) -> Dict[str, Result]:
        """What the VM's own directory says of keys for which the server fails; empty where it is not ours."""
        failed = [key for key, result in results.items() if isinstance(result, ServerFault)]
        if not failed:
            return {}
        again = self._fetch({key: own_path(address, key) for key in ("instance-id", *failed)})
        told = again.pop("instance-id")
        if not isinstance(told, Answer) or told.body.strip().lower() != instance_id.lower().encode():
            return {}
        found: Dict[str, Result] = {
            key: result for key, result in again.items() if isinstance(result, (Answer, Absent))
        }
        self._tree.from_own = self._tree.from_own or bool(found)
        return found

    def _settled(self, listings: Dict[str, Result], paths: Dict[str, str]) -> Dict[str, Result]:
        """The listings, each asked for again where it may be half written."""
        self._second_look(listings, paths, {})
        return listings

    def _names(self, listing: Result, *, quiet: bool) -> Listing:
        if isinstance(listing, ProbeError):
            if not quiet:
                self._refusals.fail("listing", listing)
            return Listing()
        names = _parsed(listing)
        for problem in names.problems:
            self._refusals.add("metadata", problem)
        return names

    def _fetch(self, paths: Dict[str, str]) -> Dict[str, Result]:
        """Ask for all paths at once."""
        keys = list(paths)
        answers = in_parallel(
            lambda key: self._fetch_one(key, paths[key]),
            keys,
            LOADED_THREADS if self._loaded else THREADS,
            self._deadline,
        )
        late = TimedOut("no answer in time")
        return {key: answer or late for key, answer in zip(keys, answers)}

    def _fetch_one(self, key: str, path: str) -> Result:
        with self._lock:
            # What things are done with is read also behind a flood of the instance's own keys.
            if self._total >= TOTAL_LIMIT and key not in (USER_DATA, *WELL_KNOWN):
                return Malformed(f"more than {TOTAL_LIMIT} bytes of metadata in all")
        limit = validation.USER_DATA_LIMIT if key == USER_DATA else validation.value_limit(key)
        try:
            answer = self._get(path, limit)
        except ProbeError as error:
            return error
        with self._lock:
            self._total += len(answer.body) if key != USER_DATA else 0
        return answer

    def _second_look(self, results: Dict[str, Result], paths: Dict[str, str], more: Dict[str, str]) -> None:
        """Ask for what comes second, and again for what may be half written (field/cloudstack#edge-17).

        Args:
            results: of the first look; completed in place.
            paths: those of the first look.
            more: those that the first look has led to.
        """
        unsettled = [key for key, result in results.items() if key in paths and _may_be_half(key, result)]
        steady: Dict[str, bool] = {}  # by key, whether the last two answers were the same
        for _ in range(CONFIRM_ROUNDS):
            if not unsettled and not more:
                return
            if any(not _is_old(results[key]) for key in unsettled):
                left = self._deadline - self._clock.monotonic()
                self._clock.sleep(max(0.0, min(CONFIRM_PAUSE, left)))
            again = self._fetch({**more, **{key: paths[key] for key in unsettled}})
            fresh = [key for key in more if isinstance(again[key], Answer) or key not in results]
            results.update({key: again[key] for key in fresh})
            paths = {**paths, **more}
            waiting = [key for key in fresh if _may_be_half(key, again[key])]
            for key in unsettled:
                before, now = results[key], again[key]
                if isinstance(now, Answer) or (isinstance(now, Absent) and isinstance(before, CutShort)):
                    results[key] = now
                if not _agree(key, before, now):
                    waiting.append(key)
                steady[key] = _same(before, now)
            unsettled, more = waiting, {}
        for key in unsettled:
            if steady.get(key):
                continue  # an empty file that is written anew all the time is empty
            # What is no datum holds up none.
            if datum_of(key) != OTHER:
                self._refusals.doubt(datum_of(key), RESTLESS)
                self._refusals.complete = False
            elif key == LISTING:
                self._refusals.add("listing", RESTLESS, answered=False)
                self._refusals.complete = False

    def _directories(self, results: Dict[str, Result], names: Sequence[str]) -> Dict[str, str]:
        """The paths of the children of directories, one level deep (field/cloudstack#2.8, #edge-25)."""
        more: Dict[str, str] = {}
        flat = results.get(PUBLIC_KEYS)
        if isinstance(flat, Answer) and key_numbers(flat.body):
            results[f"{PUBLIC_KEYS}/"] = results.pop(PUBLIC_KEYS)
            names = (*names, PUBLIC_KEYS)
        for name in dict.fromkeys(names):
            answer = results.pop(f"{name}/", None)
            if isinstance(answer, ProbeError):
                self._refusals.fail(f"{name}/", answer, datum_of(name))
            if not isinstance(answer, Answer):
                continue
            if name == PUBLIC_KEYS:
                numbers = key_numbers(answer.body)
                if len(numbers) > validation.SSH_KEYS_LIMIT or not (answer.framed and numbers):
                    self._refusals.doubt(datum_of(name), "a list of keys that cannot be read whole")
                for number in numbers[: validation.SSH_KEYS_LIMIT]:
                    child = f"{name}/{number}/openssh-key"
                    more[child] = MODERN + child
                continue
            children = parse_listing(answer.body)
            for problem in children.problems:
                self._refusals.add(f"{name}/", problem)
            for key in children.keys[: validation.KEYS_LIMIT - len(more)]:
                more[f"{name}/{key}"] = f"{MODERN}{quote(name)}/{quote(key)}"
        return more

    def _keep_user_data(self, result: Result) -> None:
        if isinstance(result, Answer):
            self._tree.user_data = result.body
        elif not isinstance(result, Absent):  # 404 and an empty body mean none (field/cloudstack#2.5)
            self._refusals.fail(USER_DATA, result, datum_of(USER_DATA))

    def _keep_public_keys(self, results: Dict[str, Result]) -> None:
        """Take the public keys out of the results."""
        names = [name for name in results if name == PUBLIC_KEYS or name.startswith(f"{PUBLIC_KEYS}/")]
        lines: List[str] = []
        for name in names:
            result = results.pop(name)
            if isinstance(result, Answer):
                found, reasons = validation.ssh_keys(result.body)
                lines.extend(found)
                for reason in reasons:
                    self._refusals.add(name, reason, datum_of(name))
                if name != PUBLIC_KEYS and not found and not reasons:
                    self._refusals.add(name, "listed, but empty", datum_of(name))
            elif not isinstance(result, Absent) or name != PUBLIC_KEYS:
                self._refusals.fail(name, result, datum_of(name))
        keys, reasons = validation.ssh_keys("\n".join(lines).encode())
        for reason in reasons:
            self._refusals.add(PUBLIC_KEYS, reason, datum_of(PUBLIC_KEYS))
        self._tree.ssh_keys = keys
        if keys:
            self._tree.metadata[PUBLIC_KEYS] = "\n".join(keys)

    def _keep(self, key: str, result: Result, *, listed: bool) -> None:
        if isinstance(result, Absent):
            if listed:
                self._refusals.add(key, f"listed, but {result}", datum_of(key))
            return
        if isinstance(result, ProbeError):
            self._refusals.fail(key, result, datum_of(key))
            return
        if not result.body.strip():
            return  # null on the management server: no value (field/cloudstack#2.5)
        if not listed and validation.is_html(result.body):
            # Nobody said that it is there, and some servers have a page for what is not.
            self._refusals.add(key, "HTML where a value should be", datum_of(key))
            return
        try:
            self._tree.metadata[key] = parse_value(key, result.body)
        except ProbeError as error:
            self._refusals.add(key, str(error), datum_of(key))


def _parsed(listing: Result) -> Listing:
    """The names in it; none where it is not there."""
    return parse_listing(listing.body) if isinstance(listing, Answer) else Listing()


def _paths(names: Listing, *, legacy: bool, own: str) -> Dict[str, str]:
    """By key, where each value is asked for; the largest body, of user-data, starts first."""
    wanted = dict.fromkeys((*names.unlisted(validation.OLD_KEYS if legacy else WELL_KNOWN), *names.keys))
    for name in (*names.directories, "instance-id", USER_DATA):
        wanted.pop(name, None)
    base = own_keys(own) if own else LEGACY if legacy else MODERN
    paths = {USER_DATA: own_path(own, USER_DATA) if own else LEGACY + USER_DATA}
    paths.update({name: base + quote(name) for name in wanted})
    paths.update({f"{name}/": f"{MODERN}{quote(name)}/" for name in names.directories})
    return paths


def own_keys(address: str) -> str:
    """The directory of the keys of the VM with this address."""
    return f"/metadata/{address}/"


def own_path(address: str, key: str) -> str:
    """Where a key of that VM's is beside /latest."""
    return f"/userdata/{address}/{key}" if key == USER_DATA else own_keys(address) + quote(key)


def _only_small(results: Dict[str, Result]) -> bool:
    """Whether small replies come and larger ones do not.

    So it is where a network on the way carries smaller packets than the NIC's MTU promises, and drops larger
    ones (VXLAN on hosts with an MTU of 1500, #7364): keys or user-data do not come, or stop within the first
    packet, and all the rest is there.
    """
    late = {key: result for key, result in results.items() if isinstance(result, TimedOut)}
    whole = [result for result in results.values() if isinstance(result, Answer)]
    within = all(result.received <= PACKET for result in late.values() if isinstance(result, Stalled))
    small = all(len(result.body) <= PACKET - HEADERS for result in whole)
    return bool(late and whole) and within and small and all(datum_of(key) in LARGE for key in late)


def _temporary(results: Dict[str, Result]) -> List[str]:
    """The keys whose requests came to nothing for no reason of their own."""
    return [key for key, result in results.items() if isinstance(result, ProbeError) and result.temporary]


def _is_old(result: Result) -> bool:
    """Whether the router has surely not written this just now."""
    return isinstance(result, Answer) and result.age is not None and result.age >= YOUNG_SECONDS


def _may_be_half(key: str, result: Result) -> bool:
    """Whether a first answer may have been caught between the router's truncating and writing."""
    if isinstance(result, CutShort):
        return True
    if not isinstance(result, Answer):
        return False
    if result.age is not None and result.age < YOUNG_SECONDS:
        return True
    if _is_never_empty(key) and not result.body.strip():
        return True
    return datum_of(key) == "ssh_keys" and not key.endswith("/") and bool(validation.ssh_keys(result.body)[1])


def _is_never_empty(key: str) -> bool:
    """Whether an empty answer is not taken at the first word."""
    return key == LISTING or datum_of(key) in NEVER_EMPTY


def _agree(key: str, before: Result, now: Result) -> bool:
    """Whether two answers in a row say the same, and what they say can be meant."""
    if isinstance(before, Answer) and isinstance(now, Answer):
        empty = not now.body.strip() and _is_never_empty(key)
        return _same(before, now) and (not empty or now.age is None or _is_old(now))
    return type(before) is type(now) and not isinstance(now, CutShort)


def _same(before: Result, now: Result) -> bool:
    return isinstance(before, Answer) and isinstance(now, Answer) and before.body == now.body
