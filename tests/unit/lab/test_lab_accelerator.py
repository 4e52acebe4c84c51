"""Which processor a machine gets: KVM only where a whole Linux runs under it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, Optional

import pytest

from csagent.lab.vm import accelerator


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """What was found out is forgotten before and after."""
    accelerator.accelerator.cache_clear()
    yield
    accelerator.accelerator.cache_clear()


@pytest.mark.parametrize(
    ("says", "answers", "kvm"),
    [
        ("Y\n", True, True),
        ("1\n", True, True),
        ("N\n", True, False),
        (None, True, False),
        ("Y\n", False, False),
    ],
)
def test_kvm_is_used_where_the_processor_keeps_page_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: Optional[str], answers: bool, kvm: bool
) -> None:
    """Without that a BIOS starts and Linux does not: kvm_pvm has neither of the two parameters."""
    if says is not None:
        (tmp_path / "ept").write_text(says)
    monkeypatch.setattr(accelerator, "NESTED_PAGING", (str(tmp_path / "none"), str(tmp_path / "ept")))
    monkeypatch.setattr(accelerator, "_kvm_works", lambda: answers)
    monkeypatch.setattr(os, "access", lambda *_words: True)
    assert ("kvm" in accelerator.accelerator()) is kvm
