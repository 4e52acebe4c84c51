"""Completion for bash, zsh and fish, by shtab. No script runs csagent: what there is stands in it."""

from __future__ import annotations

import argparse
from typing import Iterable

import command_line
import shtab

# Below /usr/share; Debian's zsh looks in vendor-completions.
PATHS = {
    "bash": "bash-completion/completions/csagent",
    "zsh": "zsh/site-functions/_csagent",
    "fish": "fish/vendor_completions.d/csagent.fish",
}
# Readline makes three words of --source=router, for which shtab's function has no answer; and where it has
# none it lets bash offer files.
BASH = """
_csagent()
{
    local -a words=()
    local word
    for word in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
        [[ $word == = ]] || words+=("$word")
    done
    word=${COMP_WORDS[COMP_CWORD]}
    [[ $word != = ]] || word=
    local -a COMP_WORDS=("${words[@]}" "$word")
    local COMP_CWORD=${#words[@]}
    _shtab_csagent
}

complete -F _csagent csagent
"""


def script(shell: str) -> str:
    """What the shell reads."""
    root = command_line.parser()
    # Commands share what they have of their parents.
    actions = {action: None for _path, command in command_line.commands(root) for action in command._actions}
    for action in actions:
        kind = command_line.kind(action)
        if kind != "text" and not action.choices:
            action.complete = shtab.FILE if kind == "file" else shtab.DIRECTORY
    if shell == "zsh":
        _for_zsh(actions)
    text = shtab.complete(root, shell).rstrip("\n") + "\n"
    return text + BASH if shell == "bash" else text


def _for_zsh(actions: Iterable[argparse.Action]) -> None:
    """What shtab 1.13 leaves to do for zsh's _arguments: --flag=VALUE, and the colon of [:PORT]."""
    for action in actions:
        if command_line.metavar(action):
            action.option_strings = [f"{flag}=" for flag in action.option_strings]
            action.metavar = command_line.metavar(action).replace(":", "\\:")
