"""Which roles there should be, of which generation and with which settings. Pure.

Not how they are started and kept, that is `supervisor.rolekeeping`. Called by the master every turn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from supervisor import shutdown
from supervisor.desired import Desired
from supervisor.generation import Generations
from supervisor.rolekeeping import Role, RoleState
from supervisor.shutdown import Stage

Wanted = dict[tuple[str, int], bytes]  # (name, generation) → settings


@dataclass(frozen=True, slots=True)
class Facts:
    """`exporter_due`: it is heavy to import, so at the first start it waits for the first workers, but not for long. The steward
    starts beside the embedded server, not after it: both take a while, and it waits for Redis by itself."""

    stage: Stage
    desired: Desired
    embedded: bool
    exporter_due: bool


def wanted_roles(facts: Facts, generations: Generations, roles: Collection[Role]) -> Wanted:
    """Exactly the roles that should have a process now, or should get one."""
    wanted: Wanted = {}
    if facts.embedded and shutdown.belongs("redis", facts.stage):
        wanted["redis", 1] = generations[1].data
    if shutdown.belongs("forkserver", facts.stage):
        previous = facts.desired.previous
        for number in (facts.desired.generation, previous.generation if previous else None, generations.candidate):
            if number is not None:
                wanted["forkserver", number] = generations[number].data
    if shutdown.belongs("steward", facts.stage):
        wanted |= _stewards(facts, generations, roles)
    exporter = generations[generations.exporter]
    if exporter.settings.http.listen is not None and _exporter_may_run(facts, generations, roles):
        wanted["exporter", exporter.number] = exporter.data
    return wanted


def _stewards(facts: Facts, generations: Generations, roles: Collection[Role]) -> Wanted:
    """The current one, and until that is ready whichever was ready before: at no time there is none. And the candidate's, which
    asks Redis whether the new settings will do."""
    current = facts.desired.generation
    wanted: Wanted = {("steward", current): generations[current].data}
    if generations.candidate is not None:
        wanted["steward", generations.candidate] = generations[generations.candidate].data
    stewards = [role for role in roles if role.name == "steward"]
    if not any(role.ready and role.generation == current for role in stewards):
        wanted |= {("steward", role.generation): role.settings for role in stewards if role.ready}
    return wanted


def _exporter_may_run(facts: Facts, generations: Generations, roles: Collection[Role]) -> bool:
    exporters = [role for role in roles if role.name == "exporter"]
    if any(role.generation != generations.exporter and role.state is not RoleState.EMPTY for role in exporters):
        return False  # the port is still the old one's
    if not shutdown.belongs("exporter", facts.stage):
        return False
    return facts.exporter_due and (facts.stage is Stage.RUNNING or bool(exporters))
