"""csagent's command lines as people find them in documents, tried on the real parser."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Iterator, List

from csagent.cli.parser import build_parser
from csagent.errors import UsageError

PLACEHOLDERS = {"SECONDS": "1", "PORT": "8080", "HOST[:PORT]": "10.1.1.1:80"}
_START = re.compile(r"(?:^|(?<=[|;&(] )|(?<=\$ )|(?<=sudo ))csagent(?= |$)")


def command_lines(markdown: str) -> Iterator[str]:
    """Every `csagent ...` in an indented block, in a fenced one or between backticks."""
    fenced = False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r" {4,}(\$ )?(sudo )?csagent ", line):
            yield from _in(line.strip())
        else:
            for span in re.findall(r"`([^`]+)`", line):
                yield from _in(span)


def _in(line: str) -> Iterator[str]:
    for match in _START.finditer(line):
        yield re.split(r"\s(?:[|;&<>]|\d?>|#)|\)", line[match.start() :])[0].strip()


def words(line: str) -> List[str]:
    """The arguments of such a line, with something to parse in place of what stands for a value."""
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(line)[1:]]


def complaint(line: str) -> str:
    """What the parser has against it; nothing where that is all right, or it only names a command."""
    arguments = [word for word in words(line) if word not in ("...", "COMMAND")]
    names = {name for name, _parser in parsers(build_parser())}
    if " ".join(["csagent", *arguments]) in names:
        return ""
    if "--help" in arguments:
        return "" if " ".join(["csagent", *arguments[:-1]]) in names else f"{line}: no such command"
    known = {flag for _name, parser in parsers(build_parser()) for flag in parser._option_string_actions}
    for word in arguments:
        if word.startswith("--") and word.partition("=")[0] not in known:  # argparse takes abbreviations
            return f"{line}: no option {word}"
    try:
        build_parser().parse_args(arguments)
    except UsageError as error:
        return f"{line}: {error}"
    except SystemExit as ended:  # --version
        return f"{line}: it ended with {ended.code}" if ended.code else ""
    return ""


def parsers(
    parser: argparse.ArgumentParser, name: str = "csagent"
) -> Iterator["tuple[str, argparse.ArgumentParser]"]:
    """The parser of every command, by its name."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from parsers(below, f"{name} {word}")
