"""Facts as JSON between a reading child and its parent, checked as if an attacker had written them.

The form follows the classes of facts: objects with exactly the fields' names, tuples as arrays, bytes and
secrets as base64. `decode` raises `JailError` at the first thing that does not fit, and names the field,
never the value. Every text is cleaned here once (`csagent.console.one_line`), but for the values in VALUES.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
from typing import Any, Dict, Mapping, Tuple, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from csagent.console import one_line
from csagent.errors import JailError
from csagent.model import Secret

T = TypeVar("T")

TEXT_LIMIT = 1 << 20  # characters: no value is larger than a set of keys (csagent.validation.SSH_KEYS_SIZE)
BYTES_LIMIT = 4 << 20
ITEMS_LIMIT = 8192
DEPTH_LIMIT = 16
# What CloudStack says, kept as it is: `csagent.sources.checks` holds it against the rules of each. So is what
# is of any form (`Any`: network_data).
VALUES = frozenset({"Reading.metadata", "Reading.ssh_keys"})

_hints: Dict[type, Dict[str, Any]] = {}


def encode(value: Any) -> Any:
    """A fact, or anything that facts are made of, as JSON."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: encode(getattr(value, name)) for name in value._fields}
    if isinstance(value, Secret):
        return base64.b64encode(value.reveal()).decode("ascii")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, collections.abc.Mapping):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(kind: Type[T], document: Any, *, cleaned: bool = True) -> T:
    """A fact of the given class from what `encode` made of it.

    Args:
        cleaned: False where its texts are what somebody else wants written, and not what is shown.

    Raises:
        JailError: a field is missing, unknown, of another type, or larger than a fact may be.
    """
    result: T = _decode(kind, document, kind.__name__, cleaned)
    return result


def _wrong(where: str) -> JailError:
    return JailError(f"the reading child answered with a wrong {where}")


def _decode(kind: Any, document: Any, where: str, cleaned: bool) -> Any:
    origin = get_origin(kind)
    if origin is Union:
        return _decode_union(kind, document, where, cleaned)
    if origin is tuple:
        item = get_args(kind)[0]
        if not isinstance(document, list) or len(document) > ITEMS_LIMIT:
            raise _wrong(where)
        return tuple(_decode(item, entry, where, cleaned) for entry in document)
    if origin is collections.abc.Mapping or origin is dict:
        return _decode_mapping(get_args(kind), document, where, cleaned)
    if kind is Any:
        return _plain(document, where, 0)
    if kind is bytes or kind is Secret:
        raw = _decode_bytes(document, where)
        return Secret(raw) if kind is Secret else raw
    if kind in (bool, str):
        if not isinstance(document, kind):
            raise _wrong(where)
        if kind is bool:
            return document
        text = _text(document, where)
        return one_line(text) if cleaned and where not in VALUES else text
    if kind in (int, float):
        if isinstance(document, bool) or not isinstance(document, (int, float)):
            raise _wrong(where)
        if kind is int and not isinstance(document, int):
            raise _wrong(where)
        if not abs(document) < 1e15:  # not NaN either
            raise _wrong(where)
        return kind(document)
    return _decode_fact(kind, document, where, cleaned)


def _decode_union(kind: Any, document: Any, where: str, cleaned: bool) -> Any:
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    if document is None:
        if len(choices) == len(get_args(kind)):
            raise _wrong(where)
        return None
    return _decode(choices[0], document, where, cleaned)


def _decode_mapping(
    arguments: Tuple[Any, ...], document: Any, where: str, cleaned: bool
) -> Mapping[str, Any]:
    if not isinstance(document, dict) or len(document) > ITEMS_LIMIT:
        raise _wrong(where)
    return {
        _decode(str, key, where, cleaned): _decode(arguments[1], value, where, cleaned)
        for key, value in document.items()
    }


def _decode_fact(kind: Any, document: Any, where: str, cleaned: bool) -> Any:
    if kind not in _hints:
        _hints[kind] = get_type_hints(kind)
    hints = _hints[kind]
    if not isinstance(document, dict) or set(document) != set(hints):
        raise _wrong(where)
    return kind(**{name: _decode(hints[name], document[name], f"{where}.{name}", cleaned) for name in hints})


def _decode_bytes(document: Any, where: str) -> bytes:
    if not isinstance(document, str) or len(document) > BYTES_LIMIT * 2:
        raise _wrong(where)
    try:
        raw = base64.b64decode(document.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(where) from None
    if len(raw) > BYTES_LIMIT:
        raise _wrong(where)
    return raw


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise _wrong(where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _wrong(where) from None
    return value


def _plain(value: Any, where: str, depth: int) -> Any:
    """JSON of free form (network_data): only its size, depth and text are checked."""
    if depth > DEPTH_LIMIT:
        raise _wrong(where)
    if isinstance(value, dict):
        if len(value) > ITEMS_LIMIT:
            raise _wrong(where)
        return {_text(key, where): _plain(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) > ITEMS_LIMIT:
            raise _wrong(where)
        return [_plain(item, where, depth + 1) for item in value]
    if isinstance(value, str):
        return _text(value, where)
    return value
