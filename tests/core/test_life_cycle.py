"""Every backend keeps its promises about the process, and `check_life_cycle` finds every planted fault."""

from __future__ import annotations

import types
from typing import Any

import pytest
from fakes import life_cycles
from fakes.life_cycles import Faultless

from ganrt.backend import backend_names
from ganrt.bundle import Bundle
from ganrt.errors import ContractError, RequestError
from ganrt.testing import check_life_cycle

FAULTS: dict[str, str] = {
    "HangsInTheChild": "In a child forked .* But it hung while computing",
    "WrongInTheChild": "In a child forked .* But 2 of 2 samples are below 60 dB",
    "HangsWhenTheChildEnds": "In a child forked .* and the child ends. But it hung while ending",
    "CrashesWhenTheChildEnds": "and the child ends. But signal 6 ended it while ending",
    "HangsWhenClosedInTheChild": "In a child forked .* But it hung while computing",
    "HoldsALock": "forked while another thread computes, nothing hangs.* But it hung while computing",
    "OpensOnceOnly": "can open its own, .* But it hung while computing",
    "LeaksThreads": "leaves no thread .* But after 8 sessions that were closed there are 8 more open threads",
    "LeaksFiles": "no open file behind. But after 8 sessions that were closed there are 8 more open files",
    "GrowsWithBatches": "does not grow with the number of batches. But 500 batches of 2 took 6. MiB",
    "WritesIntoHome": r"nothing is written outside the cache. But it wrote home/\.fake",
    "LeavesTemporaryFiles": "nothing is written outside the cache. But it wrote temporary/scratch",
    "WritesIntoTheCurrentFolder": r"nothing is written outside the cache. But it wrote current/fake\.log",
    "NeedsAHome": "opens and computes in any environment. But without a home folder, it raised Runtime",
    "AsksForAName": r"no name server is asked.* But socket.getaddrinfo\('127.0.0.1'",
    "PrintsToStandardOutput": r"nothing is printed to standard output. But it printed 'loading",
    "EndsTheProcessBadly": "ends with the exit status that it chose. But it ended with -6",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found(fault: str, bundles: dict[str, Bundle]) -> None:
    with pytest.raises(ContractError, match=FAULTS[fault]):
        check_life_cycle(f"fakes.life_cycles:{fault}", bundles["mlp"], deadline=4)


def test_memory_that_grows_with_picture_sizes_is_found(espcn: Bundle) -> None:
    with pytest.raises(ContractError, match=r"different picture sizes\. But it grew by 1\.0. MiB for each"):
        check_life_cycle("fakes.life_cycles:GrowsWithSizes", espcn, deadline=10)


def test_every_class_of_the_fakes_is_tested() -> None:
    planted = {name for name, item in vars(life_cycles).items() if _is_session(item)}
    assert planted - {"Faultless", "Inherits", "GrowsWithSizes"} == FAULTS.keys()


def _is_session(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, Faultless)


def test_a_faultless_session_passes(bundles: dict[str, Bundle]) -> None:
    check_life_cycle("fakes.life_cycles:Faultless", bundles["mlp"])


@pytest.mark.parametrize("backend", backend_names("cpu"))
def test_every_backend_passes_with_pictures_of_any_size(backend: str, espcn: Bundle) -> None:
    check_life_cycle(backend, espcn)


def test_a_backend_that_cannot_be_imported_by_name_is_rejected(bundles: dict[str, Bundle]) -> None:
    backend = types.SimpleNamespace(open=Faultless.open)
    with pytest.raises(RequestError, match="not a module, so a new process cannot import it; give its name, or"):
        check_life_cycle(backend, bundles["mlp"])


def test_a_wrong_deadline_is_rejected(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(RequestError, match="deadline is 0"):
        check_life_cycle("reference", bundles["mlp"], deadline=0)
