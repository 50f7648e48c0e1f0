"""What is explored: who takes part, which jobs there are, and how much trouble one schedule may hold. Data only."""

from __future__ import annotations

from typing import NamedTuple

from tests.interleave.world import Bounds


class Scenario(NamedTuple):
    """`jobs`: see `world.plan`. `server`: small enough to be walked on a real server in every test run."""

    name: str
    jobs: tuple[str, ...]
    bounds: Bounds
    workers: int = 2
    stewards: int = 1


QUICK = (
    Scenario("a reply is lost or a command is late", ("ack", "fail:u"), Bounds(cuts=1)),
    Scenario("a worker is killed, one or two stewards recover it", ("ack", "fail:u"), Bounds(kills=1), stewards=2),
    Scenario("a worker is killed with a command under way", ("ack", "ack:u"), Bounds(kills=1, cuts=1)),
    Scenario("a living worker is taken for dead", ("ack", "ack:u"), Bounds(lies=1), stewards=2),
    Scenario("what is held is handed back, early or late", ("ack", "ack", "ack:u"), Bounds(hands=1)),
    Scenario("a parked call fires and nobody claims", ("ack", "ack:u"), Bounds(wakes=1, kills=1)),
    Scenario("a steward is lost between fence and recover", ("ack:u",), Bounds(kills=1, lost_stewards=1), stewards=2),
    Scenario("a unique key is taken, freed and taken again", ("ack:u", "bury:u", "fail:u"), Bounds()),
)
"""In every test run."""

LARGE = (
    Scenario("two replies are lost", ("ack", "fail:u"), Bounds(cuts=2)),
    Scenario("two workers are killed", ("ack", "fail:u"), Bounds(kills=2), stewards=2),
    Scenario(
        "a worker is killed with a command under way, two stewards",
        ("ack", "fail:u"),
        Bounds(kills=1, cuts=1),
        stewards=2,
    ),
    Scenario(
        "a worker is taken for dead while its command is late", ("ack", "ack:u"), Bounds(lies=1, cuts=1), stewards=2
    ),
    Scenario("a worker is taken for dead and another is killed", ("ack", "ack:u"), Bounds(lies=1, kills=1), stewards=2),
    Scenario("held jobs are handed back while a reply is lost", ("ack", "ack", "ack:u"), Bounds(hands=1, cuts=1)),
    Scenario("held jobs are handed back while a worker is killed", ("ack", "ack", "ack:u"), Bounds(hands=1, kills=1)),
    Scenario("parked calls fire while a worker is killed", ("ack", "fail:u", "ack"), Bounds(wakes=2, kills=1)),
    Scenario("stewards are lost again and again", ("ack", "fail:u"), Bounds(kills=1, lost_stewards=2), stewards=2),
    Scenario("three workers, three jobs, one death", ("ack", "fail:u", "bury:u"), Bounds(kills=1), workers=3),
)
"""On request: minutes."""
