"""Scripts as they are stored and run: line ends, first lines, and runcmd made into one."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Tuple

from csagent.user_data.yaml_lines import Node

RUNCMD = "runcmd"


class BadItem(NamedTuple):
    """An item of runcmd or bootcmd that no shell can be given."""

    number: int  # from 1
    line: int
    what: str


def unix_lines(content: bytes) -> bytes:
    """With LF for CR LF, if the first line ends in CR LF: it decides for all of them, as in cloud-init."""
    end = content.find(b"\n")
    return content.replace(b"\r\n", b"\n") if end > 0 and content[end - 1 : end] == b"\r" else content


def without_header(content: bytes, header: bytes) -> bytes:
    """A boothook without its first words."""
    if content[: len(header)].lower() == header:
        content = content[len(header) :]
    return content.lstrip()


def first_line_problem(content: bytes) -> Optional[str]:
    """Why the kernel would refuse to run it (execve(2), ENOEXEC); None where it begins as it must."""
    if content.startswith(b"#!"):
        return None
    if content.lstrip().startswith(b"#!"):
        return "its first line must be the one with #!: there is white space before it"
    return "its first line must begin with #! and name what runs it, such as #!/bin/sh"


def shell_script(items: List[Node]) -> Tuple[str, Tuple[BadItem, ...]]:
    """One script of the items of runcmd or bootcmd, and what is wrong with them.

    A text is a line as it is; of a list every word is quoted; null is passed over (field/user-data#U41
    to #U44).
    """
    lines = ["#!/bin/sh"]
    wrong = []
    for number, item in enumerate(items, 1):
        if item.is_list:
            lines.append(" ".join(_quoted(word) for word in item.value))
        elif isinstance(item.value, str):
            lines.append(item.value)
        elif item.value is not None:
            wrong.append(BadItem(number, item.line, _what(item)))
    return "".join(line + "\n" for line in lines), tuple(wrong)


def _quoted(word: Node) -> str:
    text = str(word.plain()).replace("'", "'\\''")
    return f"'{text}'"


def _what(item: Node) -> str:
    if item.is_mapping:
        return "YAML reads it as a mapping, for its colon and blank: quote the whole command"
    if isinstance(item.value, bool):
        return f'YAML reads it as a boolean: write "{item.text}" in quotes'
    return f'YAML reads it as a number or date: write "{item.text}" in quotes'
