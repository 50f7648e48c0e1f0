"""What a soak will do, drawn from its seed before it begins: the same seed is the same load and the same faults at the same moments.

Pure. Carried out by `tests.fault.soak`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.fault.faults import ERRORS

CONNECTION: Final = ("cut", "half-open", "stall", "swallow", *ERRORS)
AT_A_COMMAND: Final = (*CONNECTION, "kill-self", "kill-late", "kill-both", "freeze-self")
# How often each kind comes, relative to the others.
WEIGHTS: Final = {
    "kill worker": 10, "kill steward": 5, "kill exporter": 2, "kill forkserver": 3, "kill master": 3, "kill host": 1,
    "HUP": 3, "TERM": 3, "QUIT": 1, "freeze worker": 3, "freeze worker past the lease": 1, "freeze steward": 2, "freeze master": 1,
    "freeze host past the lease": 1, "restart server": 3, "freeze server": 1, "cut everything": 2, "clock": 2,
    **{f"at a command: {name}": 2 for name in AT_A_COMMAND},
}  # fmt: skip
BETWEEN: Final = (0.3, 3.0)  # seconds between two faults
STEPS: Final = (-30.0, -5.0, 5.0, 30.0, 3600.0)  # seconds by which the server's clock jumps


@dataclass(frozen=True, slots=True)
class Stroke:
    """One fault: `at` seconds after the start; `host`: the number of the jqd it strikes; `draw`: what else chance decides, 0 to 1."""

    at: float
    what: str
    host: int
    draw: float


@dataclass(frozen=True, slots=True)
class Load:
    """One enqueue. `equal`: how many with the very same payload."""

    at: float
    type: str
    queue: str
    payload: dict[str, Any]
    options: dict[str, Any]
    equal: int = 1


def strokes(seed: int, seconds: float, hosts: int, *, clock: bool) -> list[Stroke]:
    """All faults of a soak, in order; the last tenth is left in peace."""
    rng = random.Random(f"strokes {seed}")
    names = [name for name in WEIGHTS if (clock or name != "clock") and (hosts > 1 or "host" not in name)]
    weights = [WEIGHTS[name] for name in names]
    found, at = [], 2.0
    while (at := at + rng.uniform(*BETWEEN)) < seconds * 0.9:
        [what] = rng.choices(names, weights)
        host = rng.randrange(hosts)
        found.append(Stroke(at, what, hosts - 1 if "host" in what else host, rng.random()))
    return found


def load(seed: int, seconds: float, per_second: float) -> Iterator[Load]:
    """All jobs of a soak, in order."""
    rng = random.Random(f"load {seed}")
    at, n = 0.0, 0
    while (at := at + rng.expovariate(per_second)) < seconds:
        n += 1
        yield _one(rng, at, n)


def _one(rng: random.Random, at: float, n: int) -> Load:
    queue = rng.choice(("default", "default", "second"))
    options: dict[str, Any] = {"id": f"j{n}"} if rng.random() < 0.7 else {}
    if rng.random() < 0.15:
        options["delay"] = rng.uniform(0.05, 3)
    if rng.random() < 0.1:
        options["unique"] = f"u{n}"
    x = rng.random()
    match x:
        case _ if x < 0.55:
            return Load(at, "fault:quick", queue, {}, options)
        case _ if x < 0.60:
            return Load(at, "fault:quick", queue, {}, {}, equal=rng.randint(2, 12))
        case _ if x < 0.75:
            return Load(at, "fault:work", queue, {"ms": rng.uniform(1, 40)}, options)
        case _ if x < 0.80:
            return Load(at, "fault:work", queue, {"ms": rng.uniform(200, 1500)}, options)
        case _ if x < 0.90:
            return Load(at, "fault:work", queue, {"fail": rng.randint(1, 3)}, options)
        case _ if x < 0.94:
            return Load(at, "fault:work", queue, {"crash": 1, "ms": rng.uniform(0, 20)}, options)
        case _ if x < 0.98:
            return Load(at, "fault:work", queue, {"bury": True}, options)
        case _:
            return Load(at, "fault:limited", queue, {"ms": 3000}, options)
