"""Whatever waits has an end: a rule for the code, and what ends a test that hangs all the same."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List, Tuple

import pytest
from support.printed_lines import line_of
from support.side_by_side import AT_A_TIME, Stories

TOP = Path(__file__).parents[2]
COMMANDS = ("run", "call", "check_call", "check_output")
# A wait that nothing but the end of what is waited for is to end, and why.
MEANT = {
    (
        "csagent/user_data/machine.py",
        "child.wait()",
    ): "of a script that Ctrl-C has reached: the next one ends it",
    ("csagent/state/user_data_record.py", "fcntl.flock(descriptor, fcntl.LOCK_EX)"): "scripts have no limit",
    ("tests/fuzz/drives.py", "process.communicate()"): "./dev fuzz takes as long as it is told to",
    ("tests/bench/measure.py", "self._process.stdout.readline()"): "./dev bench is looked at; a test ends it",
    ("tests/bench/size.py", "self._line.stdout.readline()"): "the same",
    ("tests/bench/world.py", "self.process.stdout.readline()"): "the same",
    ("tests/lab/test_confined.py", "fcntl.flock(os.open(there, os.O_RDONLY), fcntl.LOCK_EX)"): "is refused",
}


def endless(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that wait as long as it takes."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, whose = node.func.attr, ast.unparse(node.func.value)
        named = {keyword.arg for keyword in node.keywords}
        if whose == "subprocess" and name in COMMANDS:
            if not named & {"timeout", None}:
                yield node
        elif name in ("wait", "join"):
            if not node.args and "timeout" not in named:
                yield node
        elif name == "communicate":
            if len(node.args) < 2 and "timeout" not in named:
                yield node
        elif (name == "flock" and "LOCK_EX" in ast.unparse(node) and "LOCK_NB" not in ast.unparse(node)) or (
            name == "readline" and whose.endswith(".stdout")
        ):
            yield node


def found_in(top: Path) -> List[Tuple[str, int, str]]:
    return [
        (str(path.relative_to(top)), call.lineno, ast.unparse(call))
        for folder in ("csagent", "tests", "packaging", "docs")
        for path in sorted((top / folder).rglob("*.py"))
        for call in endless(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_no_wait_is_without_an_end() -> None:
    """Commands, processes, threads, locks and lines of a child: each has a limit, or stands in the list."""
    found = found_in(TOP)
    assert [one for one in found if (one[0], one[2]) not in MEANT] == []
    assert {(path, text) for path, _line, text in found} == set(MEANT), "the list names what is there"


ENDLESS = """
subprocess.run(words)
subprocess.check_output(words, text=True)
process.wait()
process.communicate()
process.communicate(b"said")
thread.join()
fcntl.flock(descriptor, fcntl.LOCK_EX)
process.stdout.readline()
"""
ENDING = """
subprocess.run(words, timeout=5)
subprocess.run(words, **options)
process.wait(5)
process.wait(timeout=5)
process.communicate(timeout=5)
thread.join(5)
", ".join(words)
fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


def test_what_that_rule_finds() -> None:
    """Each kind of wait, and none of those that end."""
    lines = [ast.unparse(one) for one in ast.parse(ENDLESS).body]
    assert sorted(map(ast.unparse, endless(ast.parse(ENDLESS)))) == sorted(lines)
    assert list(endless(ast.parse(ENDING))) == []


def test_a_process_that_prints_no_line_is_killed() -> None:
    """A helper that does not come up costs its test, with its name, and nothing goes on."""
    with subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE) as process:
        with pytest.raises(AssertionError, match=r"'sleep', '600'.* has printed no line in 0\.2 s"):
            line_of(process, 0.2)
        assert process.wait(60) != 0
    with subprocess.Popen(["sh", "-c", "echo one; echo two"], stdout=subprocess.PIPE) as process:
        assert [line_of(process) for _ in range(3)] == [b"one\n", b"two\n", b""]


def stories_of(tmp_path: Path, *told: Any, longest: float = 300.0) -> Stories:
    """Each of one kind."""
    items: List[Any] = []
    for story in told:
        function = SimpleNamespace(story=story)
        items.append(SimpleNamespace(function=function, callspec=SimpleNamespace(params={"kind": "a"})))
    return Stories(items, lambda story, _kind, _directory: story(), lambda: tmp_path, longest)


def test_a_story_that_hangs_is_named_and_left_behind(tmp_path: Path) -> None:
    """Whoever wants its result is told, the others have theirs, and the session does not wait for it."""
    hold, ended = threading.Event(), threading.Event()

    def hangs() -> None:
        hold.wait(300)
        ended.set()

    def fails() -> None:
        raise ValueError("the story's own")

    def passes() -> None:
        pass

    stories = stories_of(tmp_path, hangs, fails, passes, longest=0.2)
    with pytest.raises(AssertionError, match=r"no end after 0\.2 s; under way: hangs\[a\]"):
        stories.result(hangs, "a")
    stories._longest = 300.0
    stories.result(passes, "a")
    with pytest.raises(ValueError, match="the story's own"):
        stories.result(fails, "a")
    with pytest.raises(RuntimeError, match=r"no end after 0\.2 s: hangs\[a\]"):
        stories.close(0.2)
    hold.set()
    assert ended.wait(300)
    stories.close()


def test_stories_that_nobody_waits_for_any_more_do_not_begin(tmp_path: Path) -> None:
    """At the session's end those under way are waited for, and the rest is left."""
    under_way, rest = threading.Semaphore(0), []
    hold = threading.Event()

    def holds() -> None:
        under_way.release()
        assert hold.wait(300)

    first = [lambda: holds() for _ in range(AT_A_TIME)]
    stories = stories_of(tmp_path, *first, lambda: rest.append("begun"), longest=0.0)
    with pytest.raises(AssertionError):
        stories.result(first[0], "a")
    assert all(under_way.acquire(timeout=300) for _ in first)
    with pytest.raises(RuntimeError):
        stories.close(0.0)
    hold.set()
    stories.close()
    assert rest == []


PROJECT = {
    "conftest.py": "from support.hangs import Hangs\n"
    "def pytest_configure(config): config.pluginmanager.register(Hangs(config, beyond=1.0))\n",
    "cleanup": "import threading\n"
    "def test_it():\n"
    "    try:\n"
    "        threading.Event().wait(600)\n"
    "    finally:\n"
    "        clean_up_for_ever()\n"
    "def clean_up_for_ever():\n"
    "    threading.Event().wait(600)\n",
    "end": "import threading\n"
    "def test_it(): threading.Thread(target=never_over).start()\n"
    "def never_over(): threading.Event().wait(600)\n",
}


def test_who_wants_no_limit_has_none(tmp_path: Path) -> None:
    """`--timeout=0`, as `./dev crash` has it: what takes longer than the setting goes on."""
    (tmp_path / "conftest.py").write_text(PROJECT["conftest.py"])
    lines = ["import pathlib, threading", "def test_it():", "    threading.Event().wait(3)"]
    lines += [f"    pathlib.Path({str(tmp_path / 'over')!r}).touch()", ""]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    hangs_under(tmp_path, "--timeout=0")
    assert (tmp_path / "over").exists()


def hangs_under(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    (project / "pytest.ini").write_text("[pytest]\ntimeout = 1\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(project)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(TOP / "tests")},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(("kind", "at"), [("cleanup", "clean_up_for_ever"), ("end", "never_over")])
def test_what_hangs_beyond_a_tests_limit_ends_the_process(tmp_path: Path, kind: str, at: str) -> None:
    """In the cleaning up of a test that was ended, or at the interpreter's end; the stack is told."""
    (tmp_path / "conftest.py").write_text(PROJECT["conftest.py"])
    (tmp_path / "test_it.py").write_text(PROJECT[kind])
    done = hangs_under(tmp_path)
    assert done.returncode != 0 and "Timeout (0:00:0" in done.stderr and at in done.stderr, done
