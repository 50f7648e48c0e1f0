"""A worker never begins a job that the steward may have handed back: its budget ends before the steward calls a job long."""

from __future__ import annotations

import msgspec
import pytest

from supervisor import settings, stewardship
from supervisor.settings import Pool, Settings, decode, encode


def test_the_largest_budget_is_below_what_the_steward_calls_long(tmp_path: object) -> None:
    [bound] = [meta.le for meta in Pool.__annotations__["claim_budget"].__metadata__]
    assert bound < stewardship.LONG


def test_a_larger_budget_is_refused_with_its_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("conf") / "jqd.yaml"
    path.write_text("pools: [{name: a, queues: [q], claim_budget: 200ms}]\n")
    with pytest.raises(Exception, match=r"jqd.yaml:1:\d+: pools\[0\].claim_budget: .*at most"):
        settings.load(str(path), environ={})
    with pytest.raises(msgspec.ValidationError):
        decode(encode(Settings((Pool(name="a", queues=("q",), claim_budget=0.2),))))
