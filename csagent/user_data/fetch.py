"""#include and phone_home: HTTP with requests, in a child that has lost its rights but may connect.

As users expect of them: TLS, redirects, proxies from the environment. Every body has an end, and so has all
of it together.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from csagent.errors import JailError, StepFailed
from csagent.sandbox import jail
from csagent.user_data.message import Fetched

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.seams import System

BODY_LIMIT = 1 << 20  # bytes of one
SECONDS = 60.0  # for all URLs of a document
TRY_SECONDS = 10.0
TRIES = 4
PAUSE = 2.0
REDIRECTS = 5
POST_SECONDS = 600.0
POST_PAUSE = 3.0
MISSING = "requests is not installed (python3-requests; with pip: requests), which fetching needs"
LIMITS = jail.Limits(cpu=20, memory=512 * jail.MIB, descriptors=64, processes=256, answer=32 * jail.MIB)


def fetch(system: "System", urls: Sequence[str], seconds: float = SECONDS) -> Mapping[str, Fetched]:
    """What came of each URL. Nothing is raised: what cannot be had has its reason."""

    def work(prepared: Tuple[Optional[Any], Optional["Filters"]], _say: jail.Send) -> Any:
        requests = _close(prepared)
        end = time.monotonic() + seconds
        return [_get(requests, url, end) for url in urls]

    try:
        job = jail.Job("fetcher", system, _prepare, work, LIMITS, jail.unprivileged())
        answers = jail.run(job, seconds + TRY_SECONDS)
    except JailError as error:
        return {url: Fetched(problem=str(error)) for url in urls}
    if not isinstance(answers, list) or len(answers) != len(urls):
        return {url: Fetched(problem="the fetcher answered nonsense") for url in urls}
    return {url: _checked(answer) for url, answer in zip(urls, answers)}


def post(system: "System", url: str, fields: Mapping[str, str], tries: int) -> None:
    """Post a form.

    Raises:
        StepFailed: nobody took it, after all tries.
    """

    def work(prepared: Tuple[Optional[Any], Optional["Filters"]], _say: jail.Send) -> Any:
        return {"problem": _post(_close(prepared), url, dict(fields), tries)}

    try:
        job = jail.Job("caller", system, _prepare, work, LIMITS, jail.unprivileged())
        answer = jail.run(job, POST_SECONDS + TRY_SECONDS)
    except JailError as error:
        raise StepFailed(str(error)) from None
    problem = answer.get("problem") if isinstance(answer, dict) else "the caller answered nonsense"
    if problem:
        raise StepFailed(str(problem)[:200])


# --- inside the child ---


def _prepare() -> Tuple[Optional[Any], Optional["Filters"]]:
    import encodings.idna  # noqa: F401

    from csagent.sandbox import seccomp

    try:
        import requests
    except ImportError:
        return None, seccomp.load_library()
    return requests, seccomp.load_library()


def _close(prepared: Tuple[Optional[Any], Optional["Filters"]]) -> Optional[Any]:
    """Lose what fetching does not need: no process is started, no file is changed."""
    from csagent.sandbox import seccomp

    requests, filters = prepared
    if filters is not None:
        filters.load(seccomp.refused_to_broker)
    return requests


def _get(requests: Optional[Any], url: str, end: float) -> Dict[str, str]:
    if requests is None:
        return {"problem": MISSING}
    problem = "no time was left for it"
    for number in range(TRIES):
        left = end - time.monotonic()
        if left <= 0:
            break
        try:
            return _body(requests, url, min(left, TRY_SECONDS), end)
        except _Final as error:
            return {"problem": str(error)}
        except Exception as error:  # requests', urllib3's and socket's; the texts hold the whole URL
            problem = _why(error)
        if number + 1 < TRIES:
            time.sleep(max(0.0, min(PAUSE, end - time.monotonic())))
    return {"problem": problem}


class _Final(Exception):
    """Another try would not change it."""


class _Again(Exception):
    """It may come on another try."""


def _body(requests: Any, url: str, seconds: float, end: float) -> Dict[str, str]:
    with requests.Session() as session:
        session.max_redirects = REDIRECTS
        session.headers["User-Agent"] = "csagent"
        with session.get(url, timeout=seconds, stream=True) as answer:
            if answer.status_code >= 500 or answer.status_code == 429:
                raise _Again(f"HTTP {answer.status_code}")
            if answer.status_code >= 300:
                raise _Final(f"HTTP {answer.status_code}")
            # Without this urllib3 before 2.0 takes what came for the whole where the connection ends early.
            answer.raw.enforce_content_length = True
            pieces: List[bytes] = []
            size = 0
            for piece in answer.iter_content(16384):
                size += len(piece)
                if size > BODY_LIMIT:
                    raise _Final(f"larger than {BODY_LIMIT >> 20} MiB")
                if time.monotonic() > end:
                    raise _Final("it did not end in time")
                pieces.append(piece)
            return {"content": base64.b64encode(b"".join(pieces)).decode()}


def _post(requests: Optional[Any], url: str, fields: Dict[str, str], tries: int) -> str:
    if requests is None:
        return MISSING
    end = time.monotonic() + POST_SECONDS
    problem = ""
    for number in range(tries):
        try:
            answer = requests.post(url, data=fields, timeout=TRY_SECONDS, headers={"User-Agent": "csagent"})
            if answer.status_code < 300:
                return ""
            problem = f"HTTP {answer.status_code}"
        except Exception as error:
            problem = _why(error)
        if time.monotonic() + POST_PAUSE > end:
            break
        if number + 1 < tries:
            time.sleep(POST_PAUSE)
    return f"{problem}, {tries} tries" if tries > 1 else problem


def _why(error: Exception) -> str:
    """What went wrong, in our words: the library's have the URL in them."""
    if isinstance(error, _Again):
        return str(error)
    name = type(error).__name__
    known = {
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "no answer in time",
        "SSLError": "its certificate is not believed",
        "TooManyRedirects": f"more than {REDIRECTS} redirects",
        "ConnectionError": "no connection",
        "ChunkedEncodingError": "the answer was cut short",
        "ProxyError": "the proxy does not help",
        "InvalidURL": "no URL",
        "InvalidSchema": "a redirect to something else than HTTP",
    }
    return known.get(name, f"it failed ({name})")


def _checked(answer: Any) -> Fetched:
    if not isinstance(answer, dict):
        return Fetched(problem="the fetcher answered nonsense")
    if "problem" in answer:
        return Fetched(problem=str(answer["problem"])[:200])
    try:
        content = base64.b64decode(str(answer.get("content", "")), validate=True)
    except ValueError:
        return Fetched(problem="the fetcher answered nonsense")
    return Fetched(content[:BODY_LIMIT])
