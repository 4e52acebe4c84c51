"""YAML as cloud-init reads it (PyYAML's safe loader, YAML 1.1), with the line of each value.

A mapping's later key wins, as there; here it is said. Anchors, aliases and merge keys count against a budget
as often as they are used: a few hundred bytes of them cost the plain loader minutes.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import yaml

from csagent.errors import DocumentError
from csagent.model import NOTHING

DEPTH_LIMIT = 64
NODES_LIMIT = 200_000  # each costs about a kilobyte while it is read
TAG = "tag:yaml.org,2002:"
PLAIN_MAPPING, PLAIN_SEQUENCE = TAG + "map", TAG + "seq"
MERGE, VALUE = TAG + "merge", TAG + "value"


class Node(NamedTuple):
    """A value, where it stands, and how it is written.

    `value` is a scalar of YAML's, a list of nodes, or a dict of nodes; `keys` has the line of each key of
    such a dict. `text` is a scalar's own text: 0640 has become 416 in `value`.
    """

    value: Any
    line: int
    text: str = ""
    keys: Mapping[Any, int] = NOTHING
    part: int = 0

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def get(self, key: str) -> Optional["Node"]:
        """The value of a key of a mapping; None where it is missing or is not a mapping."""
        found = self.value.get(key) if isinstance(self.value, dict) else None
        return found if isinstance(found, Node) else None

    def plain(self) -> Any:
        """The value as the plain loader gives it."""
        if isinstance(self.value, list):
            return [one.plain() for one in self.value]
        if isinstance(self.value, dict):
            return {key: one.plain() for key, one in self.value.items()}
        return self.value

    def of_part(self, number: int) -> "Node":
        """The same, all of it marked as of a part of the document."""
        value = self.value
        if isinstance(value, list):
            value = [one.of_part(number) for one in value]
        elif isinstance(value, dict):
            value = {key: one.of_part(number) for key, one in value.items()}
        return self._replace(value=value, part=number)

    def parts(self) -> Tuple[int, ...]:
        """The numbers of the parts that its pieces come from."""
        return tuple(sorted(set(self._parts())))

    def _parts(self) -> Iterator[int]:
        yield self.part
        for one in self.value if isinstance(self.value, list) else ():
            yield from one._parts()
        for one in self.value.values() if isinstance(self.value, dict) else ():
            yield from one._parts()


class Twice(NamedTuple):
    """A key that stands twice in one mapping: the value of the later one is taken."""

    key: str
    first: int
    second: int
    top: bool


def load(text: str) -> Tuple[Optional[Node], Tuple[Twice, ...]]:
    """Read one document; None for an empty one.

    Raises:
        DocumentError: it is no YAML, has a second document or a tag without a meaning, or is too large.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None, ()
            node = loader.convert(root)
            if node.value is None:
                return None, ()
            return node, tuple(loader.twice)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        raise DocumentError(_unreadable(error), text.count("\n", 0, position) + 1) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(_said(error), mark.line + 1 if mark is not None else None) from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None


# What PyYAML says with a word of the document in it, which may be a password that is not in quotes: such a
# complaint is told to everybody (/run/csagent/user-data.json, the journal).
NAMING = {
    "undefined alias": "an alias to an anchor that is not there: text that begins with * goes in quotes",
    "duplicate anchor": "an anchor that is there twice: text that begins with & goes in quotes",
    "constructor for the tag": "a tag without a meaning: text that begins with ! goes in quotes",
    "undefined tag handle": "a tag without a meaning: text that begins with ! goes in quotes",
}


def _unreadable(error: yaml.reader.ReaderError) -> str:
    character = error.character
    if isinstance(character, int) and 0xDC80 <= character <= 0xDCFF:
        return f"it is not UTF-8: a byte 0x{character - 0xDC00:02x}"
    if isinstance(character, int):
        return f"a character that YAML does not allow (U+{character:04X})"
    return "a character that YAML does not allow"


def _said(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "not YAML"
    if "\\t" in problem:
        return "a tab where YAML wants blanks"
    if "expected a single document" in (error.context or ""):
        return "a second document begins (---): cloud-config is one document"
    for words, told in NAMING.items():
        if words in f"{error.context} {problem}":
            return told
    if "mapping values are not allowed" in problem:
        return "a colon that YAML cannot take for a key's (quote the text, or correct the indentation)"
    context = f"{error.context}: " if error.context and error.problem else ""
    return " ".join(f"{context}{problem}".split())[:200]


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: List[Twice] = []
        self._depth = 0
        self._count = 0
        self._made: Dict[int, Tuple[Node, int]] = {}  # by the identity of PyYAML's node: ours, and its size
        self._open: List[int] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As PyYAML does it, with an end."""
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise DocumentError(f"it is nested deeper than {DEPTH_LIMIT} levels", line)
        self._spend(1, line)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _spend(self, size: int, line: int) -> None:
        self._count += size
        if self._count > NODES_LIMIT:
            raise DocumentError(f"more than {NODES_LIMIT} values, those of aliases counted each time", line)

    def convert(self, node: yaml.Node) -> Node:
        """Our node of PyYAML's; what an alias names is converted once, and counted as often as named."""
        known = self._made.get(id(node))
        if known is not None:
            self._spend(known[1], known[0].line)
            return known[0]
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise DocumentError("an alias that contains itself", line)
        self._open.append(id(node))
        before = self._count
        try:
            made = self._convert(node, line)
        finally:
            self._open.pop()
        self._made[id(node)] = (made, self._count - before + 1)
        return made

    def _convert(self, node: yaml.Node, line: int) -> Node:
        if isinstance(node, yaml.MappingNode) and node.tag == PLAIN_MAPPING:
            return self._mapping(node, line)
        if isinstance(node, yaml.SequenceNode) and node.tag == PLAIN_SEQUENCE:
            self._spend(len(node.value), line)
            return Node([self.convert(one) for one in node.value], line)
        try:
            value = self.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:  # 2001-99-99, or a number with too many digits
            said = str(error).partition("'")[0].rstrip(": ")
            raise DocumentError(f"a value that cannot be: {said[:80]}", line) from None
        except (AttributeError, KeyError):  # !!timestamp and !!bool of what is neither
            raise DocumentError("a value that cannot be what its tag says", line) from None
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        return _wrap(value, line)._replace(text=text)

    def _mapping(self, node: yaml.MappingNode, line: int) -> Node:
        values: Dict[Any, Node] = {}
        keys: Dict[Any, int] = {}
        for merged in self._merged(node):
            self._spend(len(merged.value), line)
            values.update(merged.value)
            keys.update(merged.keys)
        own: Dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                continue
            key, at = self._key(key_node), key_node.start_mark.line + 1
            self._spend(1, at)
            if key in own:
                self.twice.append(Twice(str(key)[:60], own[key], at, len(self._open) == 1))
            own[key] = keys[key] = at
            values[key] = self.convert(value_node)
        return Node(values, line, keys=keys)

    def _key(self, node: yaml.Node) -> Any:
        if node.tag == VALUE:
            node.tag = TAG + "str"
        key = self.construct_object(node, deep=True)
        try:
            hash(key)
        except TypeError:
            raise DocumentError("a key that is a list or a mapping", node.start_mark.line + 1) from None
        return key

    def _merged(self, node: yaml.MappingNode) -> Iterator[Node]:
        """What the merge keys (<<) bring in, what counts most last."""
        for key_node, value_node in node.value:
            if key_node.tag != MERGE:
                continue
            wanted = value_node.value[::-1] if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for one in wanted:
                if not isinstance(one, yaml.MappingNode):
                    at = key_node.start_mark.line + 1
                    raise DocumentError("a merge key (<<) that names no mapping", at)
                yield self.convert(one)


def _python_text(loader: _Loader, node: yaml.Node) -> Any:
    """Text as programs of Python 2 wrote it: the only further tag that cloud-init's loader knows."""
    if not isinstance(node, yaml.ScalarNode):
        raise DocumentError("a text that is a list or a mapping", node.start_mark.line + 1)
    return loader.construct_scalar(node)


_Loader.add_constructor(TAG + "python/unicode", _python_text)


def _wrap(value: Any, line: int) -> Node:
    """A node of something that PyYAML has made as a whole (a scalar, a set, an ordered map)."""
    if isinstance(value, dict):
        return Node(
            {key: _wrap(one, line) for key, one in value.items()}, line, keys=dict.fromkeys(value, line)
        )
    if isinstance(value, list):
        return Node([_wrap(one, line) for one in value], line)
    return Node(value, line)
