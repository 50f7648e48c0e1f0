"""The cause of a death, and that every death is told until it is acknowledged."""

from __future__ import annotations

import signal

import pytest

from supervisor.deaths import KEPT, Deaths, cause_of, detail_of
from supervisor.slot import Slot, State
from supervisor.spawn import Death

READY = Slot(0, "default", 0, State.READY, birth=1, pid=7, greeted=1.0)
HARD = Slot(0, "default", 0, State.KILLED, birth=1, pid=7, greeted=1.0, cause="hard_limit")
BOOTING = Slot(0, "default", 0, State.STARTING, birth=1, pid=7)


@pytest.mark.parametrize(
    ("slot", "death", "running", "oom", "cause"),
    [
        (READY, Death(7, 0, None), False, False, "exited"),
        (READY, Death(7, 0, None), True, False, "crashed"),
        (READY, Death(7, 3, None), False, False, "crashed"),
        (READY, Death(7, None, signal.SIGSEGV), False, False, "crashed"),
        (READY, Death(7, None, signal.SIGKILL), True, False, "crashed"),
        (READY, Death(7, None, signal.SIGKILL), True, True, "oom"),
        (READY, Death(7, None, signal.SIGSEGV), True, True, "crashed"),
        (HARD, Death(7, None, signal.SIGKILL), True, False, "hard_limit"),
        (HARD, Death(7, 0, None), False, False, "exited"),
        (BOOTING, Death(7, 1, None), False, False, "boot"),
    ],
)
def test_cause(slot: Slot, death: Death, running: bool, oom: bool, cause: str) -> None:
    assert cause_of(slot, death, running=running, oom=oom) == cause


def test_detail() -> None:
    assert detail_of(Death(1, 3, None)) == "exit code 3"
    assert detail_of(Death(1, None, 11)) == "signal SIGSEGV"
    assert detail_of(Death(1, None, 35)) == "signal 35"


def test_a_death_is_told_to_everybody_until_it_is_acknowledged() -> None:
    deaths = Deaths()
    deaths.add("w1", "crashed", "signal SIGKILL", None)
    deaths.add("w2", "boot", "signal SIGKILL", None)
    assert [message["worker"] for _, message in deaths.after(0)] == ["w1", "w2"]
    assert [message["cause"] for _, message in deaths.after(0)] == ["crashed", "exited"]
    deaths.acknowledged(1)
    assert [seq for seq, _ in deaths.after(0)] == [2]
    assert deaths.after(2) == []


def test_the_list_is_bounded() -> None:
    deaths = Deaths()
    for number in range(KEPT + 10):
        deaths.add(f"w{number}", "crashed", "", None)
    assert len(deaths.after(0)) == KEPT
    assert deaths.after(0)[0][0] == 11
