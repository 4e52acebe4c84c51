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
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

import pytest
from support.documented_commands import complaint, parsers

import csagent
from csagent import errors
from csagent.cli.parser import build_parser
from csagent.cli.status import KEYS
from csagent.seal.leftovers import NAMES
from csagent.settings import TABLE
from csagent.validation import WELL_KNOWN_KEYS

TOP = Path(__file__).resolve().parents[2]
MAKE = TOP / "packaging/manual/make.py"
PAGES = ("csagent.1", "csagent-lab.1", "csagent.8", "csagent.yaml.5")
BASH_SCRIPT, FISH_SCRIPT = "bash-completion/completions/csagent", "fish/vendor_completions.d/csagent.fish"
ZSH_SCRIPT = "zsh/site-functions/_csagent"
SCRIPTS = (BASH_SCRIPT, ZSH_SCRIPT, FISH_SCRIPT)
DEADLINE = 600.0


def make(directory: Path, **environment: str) -> Dict[str, str]:
    """What packaging/manual/make.py writes, by its path below /usr/share."""
    command = [sys.executable, "-W", "error", str(MAKE), str(directory)]
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], **environment}, timeout=DEADLINE)
    return {
        str(path.relative_to(directory)): path.read_text(encoding="utf-8")
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything in it."""
    directory = tmp_path_factory.mktemp("manual")
    make(directory)
    return directory


def source(made: Path, page: str) -> Path:
    """The file of a page."""
    return made / "man" / f"man{page[-1]}" / page


def plain(made: Path, page: str) -> str:
    """What a reader sees, in the lines of the source."""
    text = re.sub(r"\\f[BIRP]|\\[%&,/]", "", source(made, page).read_text(encoding="utf-8"))
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


def test_everything_is_made(made: Path) -> None:
    """Four pages and three scripts, laid out as below /usr/share; a wrong call writes nothing."""
    there = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    assert there == sorted((*(str(source(made, page).relative_to(made)) for page in PAGES), *SCRIPTS))
    done = subprocess.run([sys.executable, str(MAKE), "--help"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "usage: make.py OUTDIR\n")


def test_the_same_checkout_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    """Whatever the day, time zone, locale, width and seed of hashes; the date is the changelog's."""
    surroundings = {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "COLUMNS": "47", "HOME": "/nonexistent"}
    again = make(tmp_path / "again", SOURCE_DATE_EPOCH="86400", PYTHONHASHSEED="7", **surroundings)
    assert again == {
        str(path.relative_to(made)): path.read_text() for path in made.rglob("*") if path.is_file()
    }
    entry = (
        (TOP / "packaging/debian/changelog").read_text(encoding="utf-8").split("\n -- ")[1].splitlines()[0]
    )
    date = parsedate_to_datetime(entry.split(">  ")[1]).strftime("%B %-d, %Y")
    for page in PAGES:
        assert f'"{date}" "csagent {csagent.__version__}"' in source(made, page).read_text(), page


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


def test_every_command_and_option_is_in_a_page(made: Path) -> None:
    """Each in the section of its command, or in one for the options of several; with its values.

    The lab's are in csagent-lab(1), to which csagent(1) refers.
    """
    page, lab = plain(made, "csagent.1"), plain(made, "csagent-lab.1")
    sections = dict(re.findall(r"^\.SS (.+?)\n(.*?)(?=^\.S[SH])", page + lab, re.M | re.S))
    common = "".join(
        re.findall(r"^\.SH OPTIONS.*?(?=^\.SH$)|^\.SH OPTIONS FOR .*?(?=^\.SH E)", page, re.M | re.S)
    )
    assert set(sections) == {name for name, _parser in parsers(build_parser()) if name != "csagent"}
    assert "See csagent-lab(1)." in sections["csagent lab"]
    assert ".SS csagent lab " in lab and ".SS csagent lab " not in page
    for name, action in arguments():
        text = sections.get(name, "") + common
        for flag in action.option_strings:
            if flag in ("-h", "--help"):
                assert flag in common
                continue
            assert re.search(rf"^(.*, )?{re.escape(flag)}( \S+)?(,|$)", text, re.M), f"{name} {flag}"
        if not action.option_strings:
            assert str(action.metavar or action.dest) in sections[name], f"{name} {action.dest}"
        for word in action.choices or ():
            assert re.search(rf"\b{re.escape(str(word))}\b", text), f"{name} {action.dest}={word}"


def test_what_help_says_is_in_the_page(made: Path) -> None:
    """Every description, help text and epilog, once: nothing of them is lost, and nothing said twice."""
    text = " ".join((plain(made, "csagent.1") + plain(made, "csagent-lab.1")).split())
    root = build_parser()
    for name, parser in parsers(root):
        if name != "csagent":
            assert text.count(" ".join((parser.description or "").split())) == 1, name
        if parser.epilog and parser.epilog != root.epilog:
            assert text.count(" ".join(parser.epilog.split())) == 1, name
    for name, action in arguments():
        if action.option_strings[:1] != ["-h"]:
            said = argparse.HelpFormatter("csagent", width=9999)._expand_help(action)
            assert said in text, f"{name}: {said}"


def test_the_prose_of_the_commands_is_in_the_page(made: Path) -> None:
    """Each piece of an .include file is there: the line behind which it stands may get another text."""
    for name in ("csagent.1", "csagent-lab.1"):
        page = source(made, name).read_text(encoding="utf-8")
        pieces = re.split(
            r"^(?:\[.*\]|/.*/)$", (MAKE.parent / f"{name}.include").read_text(encoding="utf-8"), flags=re.M
        )
        assert len(pieces) > 3
        assert [piece for piece in pieces if piece.strip() not in page] == []


def test_known_values_are_in_the_page_and_in_the_scripts(made: Path) -> None:
    """The keys of `query` and the things of `seal --keep`, which argparse does not know."""
    for word in (*KEYS, *WELL_KNOWN_KEYS, *NAMES):
        for text in (plain(made, "csagent.1"), *((made / script).read_text() for script in SCRIPTS)):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), word


def test_options_of_several_commands_say_which(made: Path) -> None:
    """What stands in a section of its own is taken by the commands that it names, and by no other."""
    page = plain(made, "csagent.1")
    match = re.search(r"^\.SH OPTIONS FOR PLACES\n(.*?) take these", page, re.M | re.S)
    assert match is not None
    takers = {name for name, action in arguments() if getattr(action.container, "title", "") == "places"}
    assert {one.strip() for one in match.group(1).split(",")} == takers


def test_every_exit_code_is_in_the_page(made: Path) -> None:
    """Those of csagent.errors, and no others but 130; --help tells the same ones."""
    section = re.search(r"^\.SH EXIT STATUS\n(.*?)^\.SH ", plain(made, "csagent.1"), re.M | re.S)
    assert section is not None
    codes = {str(getattr(errors, name)) for name in vars(errors) if name.startswith("EXIT_")}
    assert set(re.findall(r"^\.TP\n(\d+)$", section.group(1), re.M)) == codes | {"130"}
    assert set(re.findall(r"(?<!\S)(\d) ", build_parser().epilog or "")) == codes


def test_every_setting_is_in_its_page(made: Path) -> None:
    """With its default, what it may be, and what it does; settings.py says all of it."""
    page = plain(made, "csagent.yaml.5")
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


def test_the_page_has_every_setting() -> None:
    """A row of its table names the key, and the default beside it."""
    page = (TOP / "docs/settings.md").read_text(encoding="utf-8")
    for one in TABLE:
        assert re.search(rf"^\|[^|]*`{one.name}`[^|]*\|\s*`{re.escape(as_yaml(one.default))}`", page, re.M), (
            one.name
        )


def as_yaml(value: object) -> str:
    """A default as a settings file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def unit_settings(unit: Path) -> Dict[str, str]:
    """The settings of a unit by their names."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.M))


def test_the_journal_is_searched_for_roots_lines() -> None:
    """Any user may write csagent's fields into it."""
    pages = [TOP / "README.md", *(TOP / "docs").rglob("*.md"), *(TOP / "packaging/manual").glob("*.[158]")]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    asked = [line for line in lines if "journalctl" in line and "CSAGENT_" in line]
    assert len(asked) >= 4 and [line for line in asked if "_UID=0" not in line] == []


def test_the_service_page_knows_the_units_and_events(made: Path) -> None:
    """Every unit with its description and times as it has them, and exactly the events that the code logs."""
    page = plain(made, "csagent.8")
    for unit in (TOP / "systemd").iterdir():
        description = unit_settings(unit)["Description"]
        assert f"\n.TP\n{unit.name}\n{description}.\n" in page, unit.name
    service = unit_settings(TOP / "systemd/csagent.service")
    assert f"stands still for {service['WatchdogSec']} " in page
    limit = f"{service['StartLimitBurst']} times in {service['StartLimitIntervalSec']}"
    assert f"({service['Restart']}, after {service['RestartSec']}, at most {limit})" in page
    code = "".join(path.read_text(encoding="utf-8") for path in (TOP / "csagent").rglob("*.py"))
    events = set(re.findall(r"""event="([a-z-]+)"|_event\("([a-z-]+)\"""", code))
    logged = {one or other for one, other in events} | {"failed", "refused", "unacknowledged"}
    watched = (TOP / "csagent/system/events.py").read_text()
    logged |= set(re.findall(r'^    name = "([a-z-]+)"$', watched, re.M))
    described = page.split("The values of CSAGENT_EVENT")[1].split(".SH ")[0]
    assert set(re.findall(r"^\.TP\n([a-z-]+)$", described, re.M)) == logged


def test_examples_are_command_lines(made: Path) -> None:
    """Every csagent line of the examples is one that the parser takes."""
    lines = []
    for page in ("csagent.1", "csagent-lab.1"):
        examples = plain(made, page).split(".SH EXAMPLES")[1]
        lines += re.findall(r"^(csagent .*?)(?: [|>&].*)?$", examples, re.M)
    assert len(lines) > 8
    assert [complaint(line) for line in lines if complaint(line)] == []


def test_pages_agree_on_the_files(made: Path) -> None:
    """csagent(1) and csagent(8) list the same files."""
    first, second = (
        re.search(r"^\.SH FILES\n(.*?)\n+\.SH ", plain(made, page), re.M | re.S)
        for page in ("csagent.1", "csagent.8")
    )
    assert first is not None and second is not None and first.group(1) == second.group(1)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_clean(made: Path, page: str) -> None:
    """Neither mandoc nor man has a warning, and both show them, on a console and as HTML."""
    checked = subprocess.run(
        [tool("mandoc"), "-Tlint", "-W", "warning", str(source(made, page))],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    shown = subprocess.run(
        [tool("man"), "--warnings", "-E", "UTF-8", "-l", str(source(made, page))],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        timeout=DEADLINE,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "NAME" in shown.stdout
    html = subprocess.run(
        [tool("mandoc"), "-Thtml", "-O", "fragment", str(source(made, page))],
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
    ("csagent fetch --source=r", "router"),
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
        # fish offers the whole word: --source=router.
        names = {one.rstrip("/").rpartition("=")[2] for one in found}
        wanted = set(offered.replace("...", "").split())
        good = wanted <= names if "..." in offered else names == wanted
        assert good, f"{line!r}: {found}, not {offered!r}"
        heard += 1
    assert heard == len(COMPLETIONS)


BASH = r"""
source "$1"; shift
for line; do
    line=${line//:/ : }
    read -ra COMP_WORDS <<< "${line//=/ = }"
    [[ $line == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _csagent csagent
    echo "${COMPREPLY[*]}"
done
"""


def test_bash_completes(made: Path) -> None:
    """The function, called as bash calls it, offers the words; nothing is printed and csagent is not run."""
    bash = tool("bash")
    script = made / BASH_SCRIPT
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
    """bash makes three words of --source=; the values are offered. Where there is nothing, nor are files."""
    words = "COMP_WORDS=(csagent fetch --source =); COMP_CWORD=3"
    command = f"source {made / BASH_SCRIPT}; {words}; _csagent; echo ${{COMPREPLY[*]}}; complete -p csagent"
    done = subprocess.run(
        [tool("bash"), "--norc", "-c", command], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.stdout, done.stderr) == ("router drive\ncomplete -F _csagent csagent\n", "")


def test_fish_completes(made: Path, tmp_path: Path) -> None:
    """fish itself, asked for the completions of each line, offers the words."""
    fish, script = tool("fish"), made / FISH_SCRIPT
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
    setup.write_text(ZSH % (made / ZSH_SCRIPT).parent)
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
    subprocess.run([tool("zsh"), "-n", str(made / ZSH_SCRIPT)], check=True, timeout=DEADLINE)


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
                bare = str(word).lstrip("-") if script == FISH_SCRIPT else str(word)
                assert re.search(rf"(?<![\w-]){re.escape(bare)}(?![\w-])", text), f"{name}: {word}"
