"""Counting in plain Python ints: what workers and steward do per job, at a tenth of the cost of a mapped value. Pure.

Not shared with anybody and not exported: a few times a second `flush` adds what was tallied to the values a `Sink`
gives out. So a job costs a bisect and some additions. `supervisor.metrics` supplies the sink.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Protocol

from supervisor import families
from supervisor.families import Family

MOST_TYPES: Final = 500
LONGEST_NAME: Final = 128
FLUSH_EVERY: Final = 0.1
"""Seconds between two flushes of a busy process: what a killed worker may take along."""


class Value(Protocol):
    """A number that outlives the process."""

    def inc(self, amount: float) -> None: ...


class Sink(Protocol):
    """Where numbers are kept."""

    def values(self, family: Family, labels: tuple[str, ...]) -> list[Value]:
        """The values of one series: [counter], or a histogram's buckets and then its sum. Empty: not counted."""


class Buckets:
    """A histogram's counts since the last `take`."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Count values, seconds. A negative one (two hosts' clocks) counts as 0."""
        bounds, counts = self.bounds, self.counts
        total = 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            if value > 0.0:
                total += value
        self.sum += total

    def take(self) -> tuple[list[tuple[int, int]], float]:
        """What came in since the last call: (bucket number, count) of the buckets touched, and the sum. Forgets it."""
        touched = [(number, count) for number, count in enumerate(self.counts) if count]
        total = self.sum
        for number, _ in touched:
            self.counts[number] = 0
        self.sum = 0.0
        return touched, total


class Names:
    """Caps how many distinct names become label values: the first `most`, then all others are `other`."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def admit(self, name: str) -> str:
        """`name`, made encodable and not too long, or `other` when there are too many already."""
        name = name[:LONGEST_NAME].encode("utf-8", "replace").decode()
        if name not in self._known:
            if len(self._known) >= self._most:
                return "other"
            self._known.add(name)
        return name


class Counter:
    """A counter series: tallied in `count`, added to its value at a flush, which also makes it visible as 0."""

    __slots__ = ("_key", "_sink", "_values", "count")

    def __init__(self, sink: Sink, family: Family, labels: tuple[str, ...]) -> None:
        self._sink, self._key = sink, (family, labels)
        self._values: list[Value] | None = None
        self.count = 0

    def flush(self) -> None:
        if self._values is None:
            self._values = self._sink.values(*self._key)
        if self.count:
            if self._values:
                self._values[0].inc(self.count)
            self.count = 0


class Histogram:
    """A histogram series: tallied in `buckets`."""

    __slots__ = ("_key", "_sink", "_values", "buckets")

    def __init__(self, sink: Sink, family: Family, labels: tuple[str, ...]) -> None:
        self._sink, self._key = sink, (family, labels)
        self._values: list[Value] | None = None
        self.buckets = Buckets(family.bounds)

    def flush(self) -> None:
        if self._values is None:
            self._values = self._sink.values(*self._key)
        touched, total = self.buckets.take()
        if touched and self._values:
            for number, count in touched:
                self._values[number].inc(count)
            self._values[-1].inc(total)


class Recorder:
    """Series by their labels, and which of them have something to flush."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._types: dict[tuple[str, str], TypeMetrics] = {}
        self._type_names, self._queue_names = Names(MOST_TYPES), Names(MOST_TYPES)
        self._series: dict[tuple[str, tuple[str, ...]], Counter | Histogram] = {}
        self._dirty: set[Counter | Histogram] = set()
        self._flushed = 0.0

    @property
    def pending(self) -> bool:
        """True while something is counted and not yet visible: who idles now should wake within 100 ms."""
        return bool(self._dirty)

    def for_type(self, queue: str, type_: str) -> TypeMetrics:
        """The counters of one (queue, type). Cached; beyond 500 types a new one counts as `other`."""
        found = self._types.get((queue, type_))
        if found is None:
            key = (self._queue_names.admit(queue), self._type_names.admit(type_))
            found = self._types.get(key) or TypeMetrics(self._sink, self._dirty, *key)
            self._types[key] = found
        return found

    def flush(self) -> None:
        """Make everything counted so far visible. For the end of a process, and before it idles for long."""
        for series in self._dirty:
            series.flush()
        self._dirty.clear()

    def flush_if_due(self, now: float) -> None:
        """Flush when the last one is 100 ms ago; `now` is any monotonic clock, seconds. Called after each batch."""
        if now - self._flushed >= FLUSH_EVERY:
            self._flushed = now
            self.flush()

    def _count(self, family: Family, n: int, *labels: str) -> None:
        found = self._series.get((family.name, labels))
        if not isinstance(found, Counter):
            found = self._series[family.name, labels] = Counter(self._sink, family, labels)
        found.count += n
        self._dirty.add(found)

    def _histogram(self, family: Family, *labels: str) -> Histogram:
        found = self._series.get((family.name, labels))
        if not isinstance(found, Histogram):
            found = self._series[family.name, labels] = Histogram(self._sink, family, labels)
        return found

    def _observe(self, family: Family, values: Sequence[float], *labels: str) -> None:
        found = self._histogram(family, *labels)
        found.buckets.observe(values)
        self._dirty.add(found)


class TypeMetrics:
    """What is counted of one (queue, type). One call per batch and outcome, with the run times of its attempts."""

    __slots__ = ("_dirty", "_durations", "_failed", "_parts", "_processed", "_retried")

    def __init__(self, sink: Sink, dirty: set[Counter | Histogram], queue: str, type_: str) -> None:
        labels = (queue, type_)
        self._processed = Counter(sink, families.PROCESSED, labels)
        self._failed = Counter(sink, families.FAILED, labels)
        self._retried = Counter(sink, families.RETRIED, labels)
        self._durations = Histogram(sink, families.DURATION, labels)
        self._dirty = dirty
        # All four become visible with the first count: an alert on a rate needs the 0 before the first failure.
        dirty.update((self._processed, self._failed, self._retried, self._durations))

    def processed(self, n: int, durations: Sequence[float] = ()) -> None:
        """`n` jobs returned and were acked; seconds each."""
        self._count(self._processed, n, durations)

    def failed(self, n: int, durations: Sequence[float] = ()) -> None:
        """`n` jobs went to the dead queue."""
        self._count(self._failed, n, durations)

    def retried(self, n: int, durations: Sequence[float] = ()) -> None:
        """`n` attempts failed and will be made again."""
        self._count(self._retried, n, durations)

    def _count(self, counter: Counter, n: int, durations: Sequence[float]) -> None:
        counter.count += n
        self._dirty.add(counter)
        if durations:
            self._durations.buckets.observe(durations)
            self._dirty.add(self._durations)
