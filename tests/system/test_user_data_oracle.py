"""Generated user-data, read by real cloud-init's parser and by csagent's: parts, and what they merge to.

A slice of what `./dev differential` does.
"""

from __future__ import annotations

from typing import Iterator

import pytest
from support.cloud_init_oracle import Oracle
from support.requirements import require
from support.user_data_oracle_cases import DOCUMENTS, compare
from support.user_data_tree import TOOLS, tree

pytestmark = [pytest.mark.root]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    """cloud-init's parser, of the package in the Debian 12 tree."""
    require(TOOLS, "makes a Debian tree")
    made = Oracle(tree())
    yield made
    made.close()


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_generated_documents_are_read_alike(oracle: Oracle, kind: str) -> None:
    """The same parts by the same names, and the same keys after merging."""
    assert compare(oracle, kind, 250) > 200
