"""What must hold of every answer about a drive, whoever made the image. Beside `hearing`."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, List, Optional, Tuple

from csagent.model import Reading

OUTCOMES = frozenset(("ok", "absent", "malformed", "foreign", "failed", "unreachable"))
TEXT_LIMIT = 1000  # characters of a reason
REFUSALS_LIMIT = 65
SECTOR = 2048


def problems(image: bytes, news: Any, place: str, secrets: Tuple[bytes, ...]) -> List[str]:
    """What is wrong with an answer, in words without its values.

    Args:
        image: what was read.
        news: of `csagent.sources.checks.drive_news`.
        place: what the place must be called.
        secrets: contents of files outside, which must not appear.
    """
    found: List[str] = []
    told = news.place
    if told.place != place or told.outcome not in OUTCOMES:
        found.append(f"place or outcome {told.outcome!r}")
    if (news.reading is not None) != (told.outcome == "ok"):
        found.append(f"a reading with the outcome {told.outcome!r}, or none with ok")
    unexpected = re.search(r"could not be read \((\w+)\)", told.detail)
    if unexpected and unexpected.group(1) != "MemoryError":
        found.append(f"caught by the last net: {unexpected.group(1)}")
    refusals = news.reading.refusals if news.reading is not None else ()
    if len(refusals) > REFUSALS_LIMIT:
        found.append(f"{len(refusals)} refusals")
    for text in (told.detail, told.why, *(one.reason for one in refusals)):
        if not text.isprintable() or len(text) > TEXT_LIMIT:
            found.append("a reason that is no short printable line")
            break
    if news.reading is not None:
        found += _reading(image, news.reading)
    for value in values(news.reading):
        if any(secret in value for secret in secrets):
            found.append("a value holds the content of a file outside the drive")
    return found


def _reading(image: bytes, reading: Reading) -> Iterator[str]:
    if reading.channel != "drive" or reading.password.endpoints or reading.interface is not None:
        yield "a reading that claims to be a router's"
    for key in reading.metadata:
        if "/" in key or ".." in key or not key.isprintable():
            yield "a metadata key that is a path or is not printable"
            break
    sought = {
        "instance id": (reading.instance_id or "").encode(),
        "password": reading.password.value.reveal() if reading.password.value else b"",
        **{f"SSH key {number}": key.encode() for number, key in enumerate(reading.ssh_keys)},
        **{f"metadata {number}": value.encode() for number, value in enumerate(reading.metadata.values())},
    }
    for what, value in sought.items():
        if not is_on(image, value):
            yield f"{what.split()[0]}: a value that is not on the drive"
            break
    user_data = reading.user_data or b""
    pieces = [user_data[start : start + SECTOR] for start in range(0, len(user_data), SECTOR)]
    if not all(piece in image for piece in pieces):
        yield "user-data that is not on the drive"


def values(reading: Optional[Reading]) -> Iterator[bytes]:
    """All that a reading would hand on."""
    if reading is None:
        return
    yield (reading.instance_id or "").encode()
    yield from (text.encode() for pair in reading.metadata.items() for text in pair)
    yield from (key.encode() for key in reading.ssh_keys)
    yield reading.password.value.reveal() if reading.password.value else b""
    yield reading.user_data or b""
    yield json.dumps(reading.network, ensure_ascii=False).encode("utf-8", "replace")


def is_on(image: bytes, value: bytes) -> bool:
    r"""Whether a value stands in the image: as it is, or with JSON's or CloudStack's escapes (\n, \u0041)."""
    if value in image or value.lower() in image.lower():
        return True
    pieces = [value[start : start + SECTOR] for start in range(0, len(value), SECTOR)]
    if all(piece in image for piece in pieces):
        return True  # in several extents
    pattern = b""
    for char in value.decode("utf-8", "replace"):
        units = char.encode("utf-16-be", "surrogatepass").hex()
        escaped = "".join(rf"\\{{1,2}}u{units[start : start + 4]}" for start in range(0, len(units), 4))
        pattern += b"(?:" + re.escape(char.encode()) + b"|" + escaped.encode() + rb"|(?i:\\[\\/\"nrtbf]))"
    return re.search(pattern, image, re.IGNORECASE) is not None
