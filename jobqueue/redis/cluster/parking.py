"""How an idle worker waits in a Cluster: as anywhere else, one parked call a queue, each on the node of its queue.

Beside `jobqueue.redis.parking`: a call is ended on the node it is parked at, and a queue whose node refuses or sends the call on is
not waited for until the trips have found it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from jobqueue.errors import ServerRefused, Unavailable
from jobqueue.redis.cluster.slots import Place
from jobqueue.redis.cluster.standing import Standing
from jobqueue.redis.cluster.wire import ClusterWire
from jobqueue.redis.keys import QueueKeys
from jobqueue.redis.parking import Parked, Parking
from jobqueue.redis.wire import Wire

SENT_ON: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})


class ClusterParking(Parking):
    """See Parking. `standing`: which queues can be waited on at all."""

    def __init__(
        self,
        wire: ClusterWire,
        keys: Mapping[str, QueueKeys],
        standing: Standing,
        turned: Callable[[], None],
        *,
        may_unblock: bool,
    ) -> None:
        # Only `_place`, `_end_parked` and `_unblock` use the one connection and the dial of the base, and they are our own.
        super().__init__(cast(Wire, wire), cast(Callable[[], Wire], wire.dial), keys, turned, may_unblock=may_unblock)
        self._wire, self._standing = wire, standing

    def wait(self, queues: Sequence[str], timeout: float, wakeup_fd: int) -> Sequence[str]:
        """See Parking. It also ends when a queue that is away should be asked again: trips do that."""
        due = self._standing.next_due()
        if due is not None:
            timeout = max(0.0, min(timeout, due - time.monotonic()))
        return super().wait([q for q in queues if q in self._standing.chain], timeout, wakeup_fd)

    def _place(self, queue: str) -> Parked:
        parked = self._parked.get(queue)
        if parked is None or not parked.wire.open:
            keys = self._keys[queue]
            parked = self._parked[queue] = Parked(self._wire.dial(keys.pending), keys, self._may_unblock)
        return parked

    def _answered(self, parked: Parked, *, again: bool) -> bool:
        try:
            moved = super()._answered(parked, again=again)
            # Ended though nobody asked for it: the node is not the master of this slot any more.
            if moved or parked.asked is not None or self._refused or not again:
                return moved
        except Unavailable as error:
            if not isinstance(error.cause, ServerRefused) or error.cause.code not in SENT_ON:
                raise
        parked.wire.close()
        # Nothing was moved. The trip that follows meets the same refusal, or finds the new node.
        queue = next(queue for queue, one in self._parked.items() if one is parked)
        del self._parked[queue]
        self._standing.lose(queue, time.monotonic())
        self._refused = True
        return False

    def _end_parked(self) -> None:
        for parked in self._parked.values():
            if parked.asked is not None and self._may_unblock:
                self._node(parked).defer(parked.unblock)

    def _unblock(self, left: Sequence[Parked]) -> None:
        if self._may_unblock:
            for parked in left:
                self._node(parked).exchange(parked.unblock)

    def _node(self, parked: Parked) -> Wire:
        """The connection for commands to the node a call is parked at."""
        where = parked.wire.endpoint
        return self._wire.line(Place(where.host, where.port))
