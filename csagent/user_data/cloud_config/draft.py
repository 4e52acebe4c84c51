"""What a family of keys works with: the merged cloud-config, and the plan as it is being made.

A complaint about one entry, one key or the whole of it names the line, and never a value that may be secret.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from csagent.user_data.plan import ERROR, INSTANCE, WARNING, Problem, Step
from csagent.user_data.surroundings import Facts
from csagent.user_data.yaml_lines import Node

TRUE = ("true", "1", "on", "yes")
FALSE = ("false", "0", "off", "no", "")
SUGGESTIONS = 200  # complaints before which the nearest known name is looked for: it takes 1 ms each
WARNINGS_LIMIT = 1000  # complaints; errors are told all

# What useradd(8) takes for a name, everywhere.
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?\Z", re.ASCII)


class Family(NamedTuple):
    """A module of `csagent.user_data.cloud_config`: the keys that it knows, and what it makes of them.

    `plan` is called where the document has one of the keys, and always for a family that has to do something
    without them (`always`).
    """

    keys: Tuple[str, ...]
    plan: Callable[["Draft"], None]
    always: bool = False


class Draft:
    """The plan of a cloud-config as it is being made.

    Args:
        config: all its parts, merged.
        facts: the machine and the instance.
        blocks: the size of each part, so that a complaint about none of them goes to the last.
    """

    def __init__(self, config: Node, facts: Facts) -> None:
        self.config = config
        self.facts = facts
        self.steps: List[Step] = []
        self.problems: List[Tuple[int, Problem]] = []  # by the number of the part
        self._ids: Set[str] = set()
        self._further = False  # more warnings than are listed

    # --- looking ---

    def get(self, key: str) -> Optional[Node]:
        """The value of a key; None where it is missing, or null."""
        node = self.config.get(key)
        return None if node is None or node.value is None else node

    def first(self, *keys: str) -> Optional[Tuple[str, Node]]:
        """The first of some keys that is there, with its value."""
        for key in keys:
            node = self.get(key)
            if node is not None:
                return key, node
        return None

    def line(self, key: str) -> Optional[int]:
        """The line of a key of the document."""
        return self.config.keys.get(key)

    # --- complaining ---

    def error(self, key: str, text: str, node: Node, line: Optional[int] = None) -> None:
        """Something does not run."""
        self._complain(key, text, node, line, ERROR)

    def warn(self, key: str, text: str, node: Node, line: Optional[int] = None) -> None:
        """Something runs, and is worth a look."""
        self._complain(key, text, node, line, WARNING)

    def _complain(self, key: str, text: str, node: Node, line: Optional[int], severity: str) -> None:
        where = line if line is not None else node.line
        if severity == WARNING and len(self.problems) >= WARNINGS_LIMIT:
            if self._further:
                return
            text, self._further = "further warnings are not listed", True
        self.problems.append((node.part, Problem(text, where, key, severity)))

    # --- doing ---

    def step(
        self,
        slot: str,
        key: str,
        text: str,
        action: Any,
        nodes: Iterable[Node],
        id: str = "",
        often: str = INSTANCE,
        also: Sequence[str] = (),
    ) -> None:
        """Add a step.

        Args:
            slot: when it is done.
            key: the key that asks for it.
            text: for a person.
            action: what is done.
            nodes: the values that ask for it.
            id: what tells it from others of the key; the key alone where it is empty.
            often: `INSTANCE`, `BOOT` or `MACHINE`.
            also: further keys that have a part in it.
        """
        name = f"{key}/{id}" if id else key
        unique, number = name, 2
        while unique in self._ids:
            unique, number = f"{name}#{number}", number + 1
        self._ids.add(unique)
        parts = sorted({part for node in nodes for part in node.parts()})
        self.steps.append(Step(unique, slot, key, text, action, tuple(parts), often, self._given(key, also)))

    def _given(self, key: str, also: Sequence[str]) -> Tuple[str, ...]:
        return tuple(one for one in also if one != key and self.get(one) is not None)

    # --- understanding values ---

    def boolean(self, key: str, node: Optional[Node], default: bool, what: str = "") -> bool:
        """A switch as cloud-init takes it: other text than true, 1, on or yes is false, with a warning."""
        if node is None or node.value is None:
            return default
        value = node.value
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower() if not isinstance(value, (list, dict)) else ""
        if text in TRUE:
            return True
        if text not in FALSE or isinstance(value, (list, dict)):
            self.warn(key, f"{what} must be true or false: taken for false".lstrip(), node)
        return False

    def text(self, key: str, node: Node, what: str = "") -> Optional[str]:
        """A text, or a number as it is written; None, and an error, for anything else."""
        if isinstance(node.value, str):
            return node.value
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return node.text or str(node.value)
        self.error(key, f"{what} must be text".strip(), node)
        return None

    def words(self, key: str, node: Node, what: str, *, commas: bool = True) -> Optional[List[Node]]:
        """A list of texts, or one text with commas; None, and an error, for anything else."""
        if isinstance(node.value, str):
            pieces = node.value.split(",") if commas else [node.value]
            return [node._replace(value=piece.strip()) for piece in pieces if piece.strip()]
        if node.is_list:
            return list(node.value)
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return [node._replace(value=node.text)]
        self.error(key, f"{what} must be a list", node)
        return None

    def entries(self, key: str) -> List[Node]:
        """The value of a key that is a list; empty where it is null or, which is an error, something else."""
        node = self.get(key)
        if node is None:
            return []
        if not node.is_list:
            self.error(
                key, f"must be a list, and is {kind_of(node)}: nothing of it runs", node, self.line(key)
            )
            return []
        return list(node.value)

    def nearest(self, name: str, known: Sequence[str]) -> str:
        """`; did you mean "..."?` with the nearest known name; empty where none is near.

        Of a document that has too many complaints already it is not looked for.
        """
        if len(self.problems) >= SUGGESTIONS:
            return ""
        import difflib

        near = difflib.get_close_matches(name.lower().replace("-", "_"), [*known], 1, 0.75)
        return f'; did you mean "{near[0]}"?' if near else ""

    def unknown(self, key: str, node: Node, known: Sequence[str], where: str = "") -> None:
        """Name the keys of a mapping that are not known here, each with the nearest one."""
        for name, line in node.keys.items():
            if name not in known:
                text = f'{where}{": " if where else ""}unknown key "{str(name)[:60]}"'
                text += self.nearest(str(name), known)
                self.warn(key, text, node.value[name], line)


def kind_of(node: Node) -> str:
    """What a value is, in a word or two."""
    if node.is_mapping:
        return "a mapping"
    if node.is_list:
        return "a list"
    if isinstance(node.value, bool):
        return "a boolean"
    if isinstance(node.value, str):
        return "text"
    return "empty" if node.value is None else "a number or date"
