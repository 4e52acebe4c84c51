from __future__ import annotations

from typing import List
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from support.samples import make_key

from csagent.apply import authorized_keys
from csagent.apply.authorized_keys import BEGIN, END, has_cloud_inits, merge, with_lines, with_standing

OWN = make_key(9, "owner@laptop")
A, B, C = make_key(1, "a"), make_key(2, "b"), make_key(3, "c")


def ours(text: str) -> tuple[str, ...]:
    """The lines between the markers of a file that has just been written."""
    lines = text.split("\n")
    if BEGIN not in lines:
        assert END not in lines
        return ()
    assert lines.count(BEGIN) == lines.count(END) == 1
    return tuple(lines[lines.index(BEGIN) + 1 : lines.index(END)])


def test_first_write_keeps_the_owners_lines() -> None:
    """Our block goes behind what is there, which stays byte for byte."""
    text = f"# mine\n\n{OWN}\t\n"
    assert merge(text, [A, B]) == f"{text}{BEGIN}\n{A}\n{B}\n{END}\n"


def test_a_reset_revokes_and_stays_in_place() -> None:
    """The block is replaced where it stands; lines before and behind it stay."""
    text = f"{OWN}\n{BEGIN}\n{A}\n{B}\n{END}\n# tail\n"
    assert merge(text, [C]) == f"{OWN}\n{BEGIN}\n{C}\n{END}\n# tail\n"


def test_a_key_with_two_comments_gets_two_lines() -> None:
    """As user-data gives them; where the key stands already they take its line's place, once."""
    twice = [A, A.replace(" a", " again")]
    text = with_lines(f"{OWN}\n", twice)
    assert text == f"{OWN}\n{twice[0]}\n{twice[1]}\n"
    assert with_lines(text, twice) == text
    assert with_lines(f"no-pty {A}\n{OWN}\n", twice) == f"{twice[0]}\n{twice[1]}\n{OWN}\n"


def test_the_owners_copy_of_our_key_is_spared() -> None:
    """A key that the owner added too stays his when ours is revoked."""
    text = f"{A}\n{BEGIN}\n{A}\n{END}\n"
    assert merge(text, [B]) == f"{A}\n{BEGIN}\n{B}\n{END}\n"


def test_lines_of_the_old_scripts_are_adopted() -> None:
    """Lines with the scripts' suffix are ours from now on (field/cloudstack#edge-54)."""
    text = f"{A.rsplit(' ', 1)[0]} cloudstack@apache.org\n{OWN}\n"
    assert merge(text, [B]) == f"{OWN}\n{BEGIN}\n{B}\n{END}\n"


def test_an_owners_note_on_the_old_scripts_stays() -> None:
    """A comment that ends with their address is no line of theirs, and no key."""
    text = f"# ask cloudstack@apache.org\n{OWN}\n"
    assert merge(text, [A]) == f"{text}{BEGIN}\n{A}\n{END}\n"
    assert with_standing(text, [A]) == (A,)


def test_a_doubtful_set_is_put_beside_what_stands() -> None:
    """Lines of our block and of the old scripts stay; the owner's are not ours, and none stands twice."""
    script = f"{C.rsplit(' ', 1)[0]} cloudstack@apache.org"
    text = f"{OWN}\n{BEGIN}\n{A}\n{END}\n{script}\n"
    lines = with_standing(text, [A, B])
    assert lines == (A, script, B)
    assert merge(text, lines) == f"{OWN}\n{BEGIN}\n{A}\n{script}\n{B}\n{END}\n"
    assert with_standing(OWN, [OWN]) == (OWN,)


def test_the_owners_comment_is_no_marker() -> None:
    """A comment that only begins like ours begins nothing."""
    text = f"# csagent beginner's notes\n{OWN}\n# csagent end\n"
    merged = merge(text, [A])
    assert OWN in merged and "beginner's notes" in merged


def test_a_million_empty_lines_cost_nothing() -> None:
    """They are the owner's, and no line of them is looked at as a key."""
    looked: List[str] = []
    with mock.patch.object(
        authorized_keys, "split_key", side_effect=lambda line: looked.append(line) or ("", "", "", "")
    ):
        merged = merge("\n" * 100_000 + f"{OWN}\n", [A], [B], adopt=True)
    assert merged.startswith("\n" * 100_000) and len(looked) < 10


def test_no_keys_remove_the_block() -> None:
    """An empty set leaves only the owner's lines."""
    assert merge(f"{OWN}\n{BEGIN}\n{A}\n{END}\n", []) == f"{OWN}\n"


def test_a_lost_end_marker_loses_no_line() -> None:
    """Behind a begin marker without its end only lines that we wrote are ours."""
    text = f"{BEGIN}\n{A}\n{OWN}\n"
    assert merge(text, [B], previous=[A]) == f"{BEGIN}\n{B}\n{END}\n{OWN}\n"


def test_a_lost_begin_marker() -> None:
    """An end marker alone is taken away, and what we remember writing is revoked without any marker."""
    for text in (f"{OWN}\n{A}\n{END}\n", f"{A}\n{OWN}\n"):
        assert merge(text, [B], previous=[A]) == f"{OWN}\n{BEGIN}\n{B}\n{END}\n"


def test_a_lost_end_before_a_whole_block_loses_no_line() -> None:
    """A begin is ended by the next marker only; our lines behind it go, the owner's do not."""
    text = f"{BEGIN}\n{A}\n{OWN}\n{BEGIN}\n{B}\n{END}\n"
    assert merge(text, [C], previous=[A, B]) == f"{BEGIN}\n{C}\n{END}\n{OWN}\n"
    assert merge(text, [], previous=[A, B]) == f"{OWN}\n"


def test_without_markers_only_the_line_that_we_wrote_is_ours() -> None:
    """The key with the owner's options, or in a comment, is the owner's; ours with our options is not."""
    limited = f'from="10.0.0.1" {A}'
    assert merge(f"{limited}\n# {A}\n#{A}\n{A}\n", [], previous=[A]) == f"{limited}\n# {A}\n#{A}\n"
    assert merge(f"{limited}\n{A}\n", [], previous=[limited]) == f"{A}\n"


def test_cloud_inits_line_behind_a_lost_end_is_seen() -> None:
    """It is outside of our block, and has to go, although a begin marker stands before it."""
    text = f"{BEGIN}\n{A}\n{BEGIN}\n{B}\n{END}\n"
    assert has_cloud_inits(text, [A]) and not has_cloud_inits(text, [B])
    assert merge(text, [B], previous=[A], adopt=True) == f"{BEGIN}\n{B}\n{END}\n"


def test_two_blocks_become_one() -> None:
    """A file that was joined from two has one block afterwards."""
    text = f"{BEGIN}\n{A}\n{END}\n{OWN}\n{BEGIN}\n{B}\n{END}\n"
    assert merge(text, [C]) == f"{BEGIN}\n{C}\n{END}\n{OWN}\n"


def test_no_final_newline() -> None:
    """A last line without its line end does not swallow our marker."""
    assert merge(OWN, [A]) == f"{OWN}\n{BEGIN}\n{A}\n{END}\n"


LINES = st.lists(
    st.sampled_from([OWN, A, B, C, BEGIN, END, "", "# note", "garbage", f"{C} cloudstack@apache.org"]),
    max_size=12,
)


@given(LINES, st.lists(st.sampled_from([A, B, C]), max_size=3, unique=True))
def test_merge_is_idempotent_and_ours_is_exact(lines: list[str], keys: list[str]) -> None:
    """Whatever the file, afterwards our lines are exactly the keys, and merging again changes nothing."""
    text = "\n".join(lines)
    once = merge(text, keys)
    assert ours(once) == tuple(keys)
    assert merge(once, keys) == once


@given(LINES, st.lists(st.sampled_from([A, B]), min_size=1, max_size=2, unique=True))
def test_owners_lines_outside_markers_always_stay(lines: list[str], keys: list[str]) -> None:
    """The owner's key before any marker of ours is there afterwards, however damaged the rest is."""
    assert merge("\n".join([OWN, *lines]), keys).startswith(OWN + "\n")
