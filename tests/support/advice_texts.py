"""The texts in csagent's sources that tell people to run a command."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

SOURCES = Path(__file__).resolve().parents[2] / "csagent"
TEXTS = (
    "doctor/",
    "other_agents/",
    "apply/failures.py",
)  # where advice is made; others repeat single commands

# A program at the beginning of a text, or behind what separates two commands, or a command from its reason.
_PROGRAMS = (
    "apt-get|blkid|chage|chattr|chkconfig|chmod|chown|cmk|curl|date|df|dhcpcd|dmesg|dnf|du|echo|findmnt|grep|"
    "groupadd|ifdown|ifup|ip|journalctl|less|ls|lsattr|lslocks|mkdir|mount|networkctl|nft|nmcli|passwd|pgrep|"
    "ping|pwck|pwconv|restorecon|rm|sed|shutdown|ssh-keygen|systemctl|tail|timedatectl|update-rc\\.d|useradd|"
    "usermod|wicked"
)
_OTHER = r"sshd -\w|install -\w+|(?!with )[a-z][a-z0-9-]+ --?[a-z][\w-]*"  # any program with an option
_CSAGENT = (
    "csagent(?: -v)? (?:apply|daemon|discover|doctor|fetch|install-units|network (?:apply|plan)|plan|query|"
    "seal|status|user-data (?:check|plan|run))"
)
_SYSTEMCTL = "systemctl (?:enable|disable|restart|start|status|stop)"
_BEFORE = r"(?:^|[;:,(|&] ?|\b(?:or|then|see|run|and|with|compare) )"
COMMAND = re.compile(rf"{_BEFORE}(?:(?:{_PROGRAMS}|{_OTHER})(?![\w:-])|{_CSAGENT}\b)")
_WORDS = re.compile(rf"(?:{_CSAGENT}|{_SYSTEMCTL}|journalctl)(?:(?: --?[a-z-]+)|(?: [\w.@-]+\.service))*")
_HOLE = re.compile(r"\{[^}]*\}")


class Text(NamedTuple):
    """A text in a module's sources; what is put into it stands in braces: "rm {path}"."""

    module: str  # below csagent/
    text: str


@functools.cache
def texts() -> Tuple[Text, ...]:
    """The texts in csagent's sources that have a command in them; docstrings do not count."""
    found: List[Text] = []
    for path in sorted(SOURCES.rglob("*.py")):
        module = path.relative_to(SOURCES).as_posix()
        if not module.startswith("lab/"):
            found += [Text(module, one) for one in dict.fromkeys(_texts(path)) if COMMAND.search(one)]
    return tuple(found)


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr):
            text = "".join(_part(part, known) for part in node.value.values)
            known.update({target.id: text for target in node.targets if isinstance(target, ast.Name)})
    passed: Set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed.update(id(part) for part in ast.walk(node) if part is not node)
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(_part(part, known) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value


def _part(part: ast.expr, known: Dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    if isinstance(part.value, ast.Name):
        return known.get(part.value.id, "{" + part.value.id + "}")
    return "{}"


def pattern(text: str) -> "re.Pattern[str]":
    """What prints of a text look like: anything stands for what is put into it."""
    return re.compile(".+?".join(re.escape(part) for part in _HOLE.split(text)), re.DOTALL)


def single(text: str) -> List[str]:
    """The commands of csagent's own and of systemd's that a sentence tells of."""
    return [one.group() for one in _WORDS.finditer(text)]
