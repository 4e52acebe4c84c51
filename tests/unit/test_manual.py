"""The manual pages and the shells' completion say what the program says."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

import pytest
from support.documented_commands import complaint, parsers

from csagent import errors
from csagent.cli.parser import build_parser
from csagent.settings import TABLE

TOP = Path(__file__).resolve().parents[2]
PAGES = ("csagent.1", "csagent.8", "csagent.yaml.5")
SCRIPTS = ("csagent.bash", "_csagent", "csagent.fish")
DEADLINE = 60.0


def make(directory: Path, **environment: str) -> Dict[str, str]:
    """Run `packaging/manual`, without any package that does not come with Python."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    command = [python, "-I", "-S", "-W", "error", str(TOP / "packaging/manual"), str(directory)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], **environment}, timeout=DEADLINE)
    return {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything in it."""
    directory = tmp_path_factory.mktemp("manual")
    make(directory)
    return directory


def plain(path: Path) -> str:
    """What a reader sees, in the lines of the source."""
    text = re.sub(r"\\f[BIRP]|\\%|\\&", "", path.read_text(encoding="utf-8"))
    for code, char in (
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(ti", "~"),
        ("\\(ha", "^"),
        ("\\ ", " "),
        ("\\e", "\\"),
    ):
        text = text.replace(code, char)
    return text


def tool(name: str) -> str:
    """The path of a program; where it is missing the test is skipped, in CI it fails."""
    path = shutil.which(name)
    if path is None:
        reason = f"needs {name} (./dev test installs the tools when run as root)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def arguments() -> Iterator[Tuple[str, argparse.Action]]:
    """Every option and argument of every command, as argparse has them."""
    for name, parser in parsers(build_parser()):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS:
                yield name, action


def test_everything_is_made_with_nothing_but_python(made: Path) -> None:
    """Debian's Python, isolated and without its packages, makes all six files."""
    assert sorted(path.name for path in made.iterdir()) == sorted((*PAGES, *SCRIPTS))


def test_the_same_checkout_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    """Whatever the time zone, locale and width; the date is the changelog's, or SOURCE_DATE_EPOCH's."""
    again = make(tmp_path / "again", TZ="Asia/Tokyo", LANG="de_DE.UTF-8", COLUMNS="47", HOME="/nonexistent")
    assert again == {path.name: path.read_text(encoding="utf-8") for path in made.iterdir()}
    dated = make(tmp_path / "dated", SOURCE_DATE_EPOCH="86400")
    assert dated["csagent.1"].splitlines()[1].startswith(".TH CSAGENT 1 1970-01-02 ")


def test_nothing_is_without_a_help_text() -> None:
    """Each command, option and argument says what it is for, and each command has a description."""
    for name, parser in parsers(build_parser()):
        assert parser.description, name
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                said = {one.dest for one in action._choices_actions if one.help}
                assert said == set(action.choices), name
            else:
                assert action.help, f"{name}: {action.option_strings or action.dest}"


def test_every_command_and_option_is_in_the_page(made: Path) -> None:
    """Each in the section of its command, or in one for the options of several; with its values."""
    page = plain(made / "csagent.1")
    sections = dict(re.findall(r'^\.SS "(.+?)"\n(.*?)(?=^\.S[SH] )', page, re.M | re.S))
    common = "".join(re.findall(r'^\.SH "OPTIONS .*?(?=^\.SH "E)', page, re.M | re.S))
    assert set(sections) == {name for name, _parser in parsers(build_parser()) if name != "csagent"}
    for name, action in arguments():
        text = sections.get(name, "") + common
        for flag in action.option_strings:
            assert re.search(rf"^(.*, )?{re.escape(flag)}( \S+)?(,|$)", text, re.M), f"{name} {flag}"
        if not action.option_strings:
            assert str(action.metavar or action.dest) in sections[name], f"{name} {action.dest}"
        for word in action.choices or ():
            assert re.search(rf"\b{re.escape(str(word))}\b", text), f"{name} {action.dest}={word}"


def test_options_of_several_commands_say_which(made: Path) -> None:
    """What stands in a section of its own is taken by the commands that it names, and by no other."""
    page = plain(made / "csagent.1")
    match = re.search(r'^\.SH "OPTIONS FOR PLACES"\n(.*?) take these', page, re.M | re.S)
    assert match is not None
    takers = {name for name, action in arguments() if getattr(action.container, "title", "") == "places"}
    assert {one.strip() for one in match.group(1).split(",")} == takers


def test_every_exit_code_is_in_the_page(made: Path) -> None:
    """Those of csagent.errors, and no others but 130; --help tells the same ones."""
    section = re.search(r'^\.SH "EXIT STATUS"\n(.*?)^\.SH ', plain(made / "csagent.1"), re.M | re.S)
    assert section is not None
    codes = {str(getattr(errors, name)) for name in vars(errors) if name.startswith("EXIT_")}
    assert set(re.findall(r"^\.TP\n(\d+)$", section.group(1), re.M)) == codes | {"130"}
    assert set(re.findall(r"(?<!\S)(\d) ", build_parser().epilog or "")) == codes


def test_every_setting_is_in_its_page(made: Path) -> None:
    """With its default, what it may be, and what it does; settings.py says all of it."""
    page = plain(made / "csagent.yaml.5")
    for one in TABLE:
        assert f"\n{one.name} ({one.kind}; default: {as_yaml(one.default)})\n" in page
        assert " ".join(one.meaning.split()) in " ".join(page.split())


def test_the_packaged_settings_say_the_same() -> None:
    """Above each commented setting of the packages' csagent.yaml stands its meaning, to the word."""
    text = (TOP / "packaging/debian/csagent.yaml").read_text(encoding="utf-8")
    said = {
        match.group(2): (" ".join(match.group(1).replace("\n# ", "\n").lstrip("# ").split()), match.group(3))
        for match in re.finditer(r"(?<=\n\n)((?:# .*\n)+)#(\w+): (.*)$", text, re.M)
    }
    meant = {one.name: (" ".join(one.meaning.split()), as_yaml(one.default)) for one in TABLE}
    assert said == meant


def test_the_readme_has_every_setting() -> None:
    """A row of its table names the key, and the default beside it."""
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    for one in TABLE:
        assert re.search(
            rf"^\|[^|]*`{one.name}`[^|]*\|\s*`{re.escape(as_yaml(one.default))}`", readme, re.M
        ), one.name


def as_yaml(value: object) -> str:
    """A default as a settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_service_page_knows_the_units_and_events(made: Path) -> None:
    """Every unit, the watchdog's time as the unit has it, and exactly the events that the code logs."""
    page = plain(made / "csagent.8")
    for unit in (TOP / "systemd").iterdir():
        assert re.search(rf"^{re.escape(unit.name)}$", page, re.M), unit.name
    service = (TOP / "systemd/csagent.service").read_text(encoding="utf-8")
    watchdog = re.search(r"^WatchdogSec=(.*)$", service, re.M)
    assert watchdog is not None
    assert f"stands still for {watchdog.group(1)} " in page
    code = "".join(path.read_text(encoding="utf-8") for path in (TOP / "csagent").rglob("*.py"))
    events = set(re.findall(r"""event="([a-z-]+)"|_event\("([a-z-]+)\"""", code))
    logged = {one or other for one, other in events} | {"failed", "refused", "unacknowledged"}
    logged |= set(re.findall(r'^    name = "(\w+)"$', (TOP / "csagent/system/events.py").read_text(), re.M))
    described = page.split("The values of CSAGENT_EVENT")[1].split(".SH ")[0]
    assert set(re.findall(r"^\.TP\n([a-z-]+)$", described, re.M)) == logged


def test_examples_are_command_lines(made: Path) -> None:
    """Every csagent line of the examples is one that the parser takes."""
    examples = plain(made / "csagent.1").split('.SH "EXAMPLES"')[1]
    lines = re.findall(r"^(csagent .*?)(?: [|>&].*)?$", examples, re.M)
    assert len(lines) > 8
    assert [complaint(line) for line in lines if complaint(line)] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_clean(made: Path, page: str) -> None:
    """Neither mandoc nor man has a warning, and both show them, on a console and as HTML."""
    checked = subprocess.run(
        [tool("mandoc"), "-Tlint", "-W", "warning", str(made / page)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    shown = subprocess.run(
        [tool("man"), "--warnings", "-E", "UTF-8", "-l", str(made / page)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        timeout=DEADLINE,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "NAME" in shown.stdout
    html = subprocess.run(
        [tool("mandoc"), "-Thtml", "-O", "fragment", str(made / page)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert "NAME" in html.stdout


# What is typed, and what is offered: exactly that, or (with "...") at least that.
COMPLETIONS = (
    ("csagent ", "discover fetch plan apply daemon status query lab ..."),
    ("csagent disc", "discover"),
    ("csagent --root tests fe", "fetch"),
    ("csagent --root packag", "packaging"),
    ("csagent fetch --so", "--source"),
    ("csagent fetch --source ", "router drive"),
    ("csagent -q plan --json --source dr", "drive"),
    ("csagent fetch --router 10.1.1.1:80 --sho", "--show-secrets"),
    ("csagent query host", "hostname"),
    ("csagent query hostname x", ""),
    ("csagent query service", "service-offering"),
    ("csagent lab ", "router drive demo ..."),
    ("csagent lab router --shape e", "early-python3"),
    ("csagent lab drive --cloud CHANGE", "CHANGELOG.md"),
    ("csagent lab router CHANGE", "CHANGELOG.md"),
)


def compare(answers: Iterable[List[str]]) -> None:
    """What a shell offered for each line, whether or not it closes a directory with a slash."""
    heard = 0
    for (line, offered), found in zip(COMPLETIONS, answers):
        names, wanted = {one.rstrip("/") for one in found}, set(offered.replace("...", "").split())
        good = wanted <= names if "..." in offered else names == wanted
        assert good, f"{line!r}: {found}, not {offered!r}"
        heard += 1
    assert heard == len(COMPLETIONS)


BASH = r"""
source "$1"; shift
for line; do
    read -ra COMP_WORDS <<< "${line//:/ : }"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _csagent csagent
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes(made: Path) -> None:
    """The function, called as bash calls it, offers the words; nothing is printed and csagent is not run."""
    bash = tool("bash")
    script = made / "csagent.bash"
    subprocess.run([bash, "-n", str(script)], check=True, timeout=DEADLINE)
    command = [
        bash,
        "--norc",
        "-u",
        "-c",
        BASH,
        "bash",
        str(script),
        *[line for line, _offered in COMPLETIONS],
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=TOP, env={"PATH": os.environ["PATH"]}, timeout=DEADLINE
    )
    assert done.stderr == ""
    compare(found.split() for found in done.stdout.splitlines())


def test_bash_completes_behind_an_equals_sign(made: Path) -> None:
    """bash makes three words of --source=r; what is offered is the value."""
    words = "COMP_WORDS=(csagent fetch --source = r); COMP_CWORD=4"
    command = f"source {made / 'csagent.bash'}; {words}; _csagent; echo ${{COMPREPLY[*]}}"
    done = subprocess.run(
        [tool("bash"), "--norc", "-c", command], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.stdout, done.stderr) == ("router\n", "")


def test_fish_completes(made: Path, tmp_path: Path) -> None:
    """fish itself, asked for the completions of each line, offers the words."""
    fish, script = tool("fish"), made / "csagent.fish"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run([fish, "-n", str(script)], check=True, env=environment, timeout=DEADLINE)
    asked = "; ".join(f"complete -C '{line}'; echo =====" for line, _offered in COMPLETIONS)
    done = subprocess.run(
        [fish, "--no-config", "-c", f"source {script}; {asked}"],
        capture_output=True,
        text=True,
        cwd=TOP,
        env=environment,
        timeout=DEADLINE,
    )
    assert done.stderr == ""
    answers = done.stdout.split("=====\n")[:-1]
    compare([one.split("\t")[0] for one in found.splitlines()] for found in answers)


# What compadd adds is printed, between two marks for each Tab.
ZSH = r"""
PROMPT=
fpath=(%s $fpath)
autoload -Uz compinit; compinit -u -D
bindkey '^I' complete-word
bindkey '^U' kill-whole-line
mark () { print -r -- '<<<'; compprefuncs=(mark); comppostfuncs=(finish) }
finish () { print -r -- '>>>' }
compprefuncs=(mark); comppostfuncs=(finish)
zstyle ':completion:*' insert-tab false
compadd () {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -A hits "$@"
  print -rl -- $hits
}
print ready
"""


def ask_zsh(made: Path, lines: Iterable[str], setup: Path) -> Iterator[List[str]]:
    """Type each line into an interactive zsh, press Tab, and hear what its completion system was given."""
    setup.write_text(ZSH % made)
    zsh = tool("zsh")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(TOP)
        os.execve(zsh, [zsh, "-f", "-i"], {"PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C.UTF-8"})

    def hear(mark: str) -> str:
        said, deadline = b"", time.monotonic() + DEADLINE
        while mark.encode() not in said:
            assert time.monotonic() < deadline, said.decode()
            if select.select([terminal], [], [], 1.0)[0]:
                said += os.read(terminal, 4096)
        return said.decode()

    try:
        os.write(terminal, f"source {setup}\n".encode())
        hear("\nready")
        for line in lines:
            os.write(terminal, line.encode() + b"\t")
            said = hear(">>>")
            yield said.split("<<<")[-1].split(">>>")[0].split()
            os.write(terminal, b"\x15")
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_zsh_reads_the_function(made: Path) -> None:
    """zsh has nothing against its syntax."""
    subprocess.run([tool("zsh"), "-n", str(made / "_csagent")], check=True, timeout=DEADLINE)


def test_zsh_completes(made: Path, tmp_path: Path) -> None:
    """An interactive zsh offers the words when Tab is pressed."""
    answers = ask_zsh(made, [line for line, _offered in COMPLETIONS], tmp_path / "setup.zsh")
    compare(answers)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_word_is_in_every_script(made: Path, script: str) -> None:
    """No command, option or fixed value is missing from a shell's completion."""
    text = (made / script).read_text(encoding="utf-8")
    for name, parser in parsers(build_parser()):
        assert re.search(rf"\b{re.escape(name.split()[-1])}\b", text), name
        for action in parser._actions:
            flags = action.option_strings if action.help != argparse.SUPPRESS else []
            for word in [*flags, *(action.choices or ())]:
                bare = str(word).lstrip("-") if script == "csagent.fish" else str(word)
                assert re.search(rf"(?<![\w-]){re.escape(bare)}(?![\w-])", text), f"{name}: {word}"
