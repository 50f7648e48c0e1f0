"""What a worker makes of a server's word after a lost reply. All orders of things: tests/interleave."""

from __future__ import annotations

import pytest

from jobqueue.account import Account, Confused
from jobqueue.port import PLAIN, Claim, Reconciled


def told(applied: int, *held: bytes) -> Reconciled:
    return Reconciled({"q": applied}, {"q": held})


@pytest.fixture
def account() -> Account:
    """Two jobs claimed by trip 3, one of them done; trip 4 has left and nobody knows what became of it."""
    made = Account("q", number=2, applied=2)
    made.depart()
    made.arrive(Claim(0, "q", [b"a", b"b"], 0, frozenset(), False, 1))
    made.begin()
    made.done.append(PLAIN)
    made.depart()
    return made


def test_a_trip_that_was_carried_out_has_settled_what_was_done(account: Account) -> None:
    assert account.reconcile(told(4, b"c")) == 0
    assert (account.done, list(account.held), account.applied) == ([], [b"c"], 4)


def test_a_trip_that_never_came_leaves_it_to_be_settled_again(account: Account) -> None:
    assert account.reconcile(told(3, b"a", b"b")) == 0
    assert (account.done, list(account.held)) == ([PLAIN], [b"b"])


def test_a_server_that_lost_writes_is_believed(account: Account) -> None:
    assert account.reconcile(told(2)) == 1
    assert (account.done, list(account.held), account.applied) == ([], [], 2)


def test_a_trip_that_was_declared_dead_and_came_all_the_same_is_not_counted_on(account: Account) -> None:
    """What was done may be settled or not: whoever goes on by count acknowledges what never ran."""
    account.bar()
    account.reconcile(told(3, b"a", b"b"))  # trip 4 is barred
    account.depart()
    with pytest.raises(Confused, match="trip 4 was carried out"):
        account.reconcile(told(4, b"b"))
