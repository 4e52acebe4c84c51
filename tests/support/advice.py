"""All of csagent's advice that tests/system/test_advice_real.py runs: rounds of cases, from four tables.

The cases of a round break the machine together, and are mended together: a round costs two looks of doctor's.
"""

from __future__ import annotations

from typing import Dict, Tuple

from support import advice_of_accounts, advice_of_networks, advice_of_others, advice_of_services
from support.advice_case import Case

ROUNDS: Dict[str, Tuple[Case, ...]] = {
    **advice_of_accounts.ROUNDS,
    **advice_of_services.ROUNDS,
    **advice_of_networks.ROUNDS,
    **advice_of_others.ROUNDS,
}
CASES = tuple(case for cases in ROUNDS.values() for case in cases)
