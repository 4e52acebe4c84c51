"""Completion for bash, zsh and fish. None of the scripts runs csagent: what there is stands in them."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple

from manual_pages.words import Argument, Command

MADE = "# Completion of csagent. Made by packaging/manual from csagent's own parser; changes belong there.\n"


def quoted(text: str) -> str:
    """For bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _what(one: Argument) -> str:
    """What completes a value: `words a b`, `directory`, `file` or `text`."""
    return f"words {' '.join(one.words)}" if one.words else one.kind


def _flags(command: Command) -> Iterator[Tuple[str, Argument]]:
    for one in command.options:
        for flag in one.flags:
            yield flag, one


# --- bash ---

_BASH = r"""
_csagent()
{
    local current=${COMP_WORDS[COMP_CWORD]} path=csagent option= what= word IFS=$' \t\n'
    local -i index position=0
    COMPREPLY=()
    # Where the cursor is: at the value of an option, or behind a command and so many words of its own.
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == : ]]; then # bash makes three words of HOST:PORT
            index+=1
        elif [[ $option ]]; then
            [[ $word == = ]] || option=
        elif [[ $word == -* ]]; then
            _csagent_value "$path" "$word"
            [[ $what ]] && option=$word
        elif _csagent_is_command "$path $word"; then
            path="$path $word"
        else
            position+=1
        fi
    done
    [[ $option && $current == = ]] && current=
    if [[ $option ]]; then
        _csagent_value "$path" "$option"
    elif [[ $current == -* ]]; then
        _csagent_flags "$path"
    else
        _csagent_value "$path" "$position"
    fi
    case $what in
        words\ *) mapfile -t COMPREPLY < <(compgen -W "${what#words }" -- "$current") ;;
        directory) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    esac
}

complete -F _csagent csagent
"""


def bash(root: Command) -> str:
    """For bash 4 and newer; it needs nothing of bash-completion."""
    values: Dict[str, List[str]] = {}
    for command in root.all():
        for flag, one in _flags(command):
            if one.metavar:
                values.setdefault(_what(one), []).append(f"{command.name} {flag}")
        if command.commands:
            names = " ".join(below.path[-1] for below in command.commands)
            values.setdefault(f"words {names}", []).append(f"{command.name} 0")
        for position, one in enumerate(command.positionals):
            pattern = f"{command.name} {position}" + ("*" if one.many else "")
            values.setdefault(_what(one), []).append(pattern)
    lines = ["_csagent_is_command()", "{", "    case $1 in"]
    lines += [f"        {quoted(command.name)}) return 0 ;;" for command in root.all()]
    lines += ["    esac", "    return 1", "}", "", "_csagent_flags()", "{", "    case $1 in"]
    for command in root.all():
        flags = " ".join(flag for flag, _one in _flags(command))
        lines.append(f"        {quoted(command.name)}) what={quoted(f'words {flags}')} ;;")
    lines += [
        "    esac",
        "}",
        "",
        "# What the value of an option is, or the word at a position; nothing where there is none.",
    ]
    lines += ["_csagent_value()", "{", "    what=", '    case "$1 $2" in']
    for what, patterns in values.items():
        shown = [f"{quoted(one[:-1])}*" if one.endswith("*") else quoted(one) for one in patterns]
        lines.append(f"        {' | '.join(shown)})")
        lines.append(f"            what={quoted(what)} ;;")
    lines += ["    esac", "}"]
    return MADE + "\n" + "\n".join(lines) + "\n" + _BASH


# --- zsh ---


def zsh(root: Command) -> str:
    """For zsh's completion system, as a file `_csagent` in its $fpath."""
    parts = ["#compdef csagent\n", MADE]
    for command in root.all():
        parts.append("\n" + "\n".join(_zsh_function(command)) + "\n")
    return "".join(parts) + '\n_csagent "$@"\n'


def _zsh_function(command: Command) -> List[str]:
    name = "_" + "_".join(command.path).replace("-", "_")
    lines = [f"{name}() {{"]
    if command.commands:
        lines += ["  local curcontext=$curcontext state line ret=1", "  typeset -A opt_args"]
    specs = [_zsh_option(one) for one in command.options]
    for position, one in enumerate(command.positionals, 1):
        where = "*" if one.many else f"{position}" if one.required else f"{position}:"
        specs.append(quoted(f"{where}:{_zsh_text(one.metavar or '')}:{_zsh_action(one)}"))
    if command.commands:
        specs += [quoted("1:command:->command"), quoted("*::argument:->argument")]
    lines.append("  _arguments -C \\" if command.commands else "  _arguments \\")
    lines += [f"    {spec} \\" for spec in specs[:-1]] + [f"    {specs[-1]}"]
    if command.commands:
        lines[-1] += " && ret=0"
        lines += ["  case $state in", "    command)", "      local -a commands=("]
        lines += [f"        {quoted(f'{below.path[-1]}:{below.summary}')}" for below in command.commands]
        lines += ["      )", "      _describe -t commands command commands && ret=0 ;;", "    argument)"]
        lines.append("      case $words[1] in")
        for below in command.commands:
            called = "_" + "_".join(below.path).replace("-", "_")
            lines.append(f"        {below.path[-1]}) {called} && ret=0 ;;")
        lines += ["      esac ;;", "  esac", "  return ret"]
    return [*lines, "}"]


def _zsh_option(one: Argument) -> str:
    value = f":{_zsh_text(one.metavar)}:{_zsh_action(one)}" if one.metavar else ""
    told = f"[{_zsh_text(one.help)}]{value}"
    alike = one.flags if len(one.flags) > 1 and not one.many else ()
    shut = " ".join([*alike, *one.rivals])
    head = f"({shut})" if shut else ""
    head += "*" if one.many else ""
    shown = [
        f"{flag}=" if value and flag.startswith("--") else f"{flag}+" if value else flag for flag in one.flags
    ]
    if len(shown) == 1:
        return quoted(f"{head}{shown[0]}{told}")
    return f"{quoted(head)}{{{','.join(shown)}}}{quoted(told)}"


def _zsh_action(one: Argument) -> str:
    if one.words:
        return f"({' '.join(one.words)})"
    return {"directory": "_files -/", "file": "_files"}.get(one.kind, " ")


def _zsh_text(text: str) -> str:
    for char in "\\[]:":
        text = text.replace(char, "\\" + char)
    return text


# --- fish ---

_FISH = """
# Whether the words before the cursor lead to this command, and to so many words of its own if that is asked.
function __csagent_at
    set -l path csagent
    set -l position 0
    set -l skip 0
    set -l words (commandline -opc)
    set -e words[1]
    for word in $words
        if test $skip = 1
            set skip 0
        else if contains -- "$path $word" $__csagent_commands
            set path "$path $word"
        else if contains -- "$path $word" $__csagent_with_value
            set skip 1
        else if not string match -q -- '-*' $word
            set position (math $position + 1)
        end
    end
    test "$path" = "$argv[1]"; and test -z "$argv[2]" -o "$argv[2]" = $position
end
"""


def fish(root: Command) -> str:
    """For fish 3."""
    names = [_fish_quoted(command.name) for command in root.all()]
    valued = [
        _fish_quoted(f"{command.name} {flag}")
        for command in root.all()
        for flag, one in _flags(command)
        if one.metavar
    ]
    lines = [
        "set -g __csagent_commands \\",
        *_fish_list(names),
        "set -g __csagent_with_value \\",
        *_fish_list(valued),
    ]
    lines += [_FISH, "complete -c csagent -e", "complete -c csagent -f"]
    for command in root.all():
        lines.append(f"\n# {command.name}")
        for below in command.commands:
            lines.append(_fish_line(command, "0", f"-a {_fish_quoted(below.path[-1])}", below.summary))
        for position, one in enumerate(command.positionals):
            about = one.metavar or ""
            lines.append(_fish_line(command, "" if one.many else str(position), _fish_value(one)[3:], about))
        for one in command.options:
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in one.flags
            )
            value = f" {_fish_value(one)}" if one.metavar else ""
            lines.append(_fish_line(command, "", flags + value, one.help))
    return MADE + "\n" + "\n".join(lines) + "\n"


def _fish_list(items: List[str]) -> List[str]:
    return [f"    {item} \\" for item in items[:-1]] + [f"    {item}" for item in items[-1:]]


def _fish_line(command: Command, position: str, what: str, told: str) -> str:
    condition = f"__csagent_at {_fish_quoted(command.name)}" + (f" {position}" if position else "")
    return f'complete -c csagent -n "{condition}" {what} -d {_fish_quoted(told)}'


def _fish_value(one: Argument) -> str:
    """How its value is completed: three letters that say it takes one, and what there is."""
    if one.words:
        return f"-x -a {_fish_quoted(' '.join(one.words))}"
    if one.kind == "directory":
        return "-x -a '(__fish_complete_directories)'"
    return "-r -F" if one.kind == "file" else "-x"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
