"""Metrics, both ends: the mapped files workers and steward count into, and the text made of these files for Prometheus.

The only module that imports prometheus_client. Not the HTTP server (`supervisor.exporter`), not the folder's making
(`supervisor.metrics_dir`), not what is counted (`supervisor.families`) and how it is tallied (`supervisor.tally`).

prometheus_client's multiprocess mode keeps one set of files per *slot* (`counter_w0.db`), not per pid: a respawned worker
goes on counting where its predecessor stopped, and a thousand crashes make no new file. A worker that is killed takes
at most the last 100 ms of its counts along; exact totals are in each queue's stats hash. Handlers may define
prometheus_client metrics of their own: they land in the slot's files and are exported too, if `adopt` ran before.
"""

from __future__ import annotations

import glob
import importlib
import importlib.util
import logging
import os
import struct
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from supervisor import families
from supervisor.families import Family, Reading
from supervisor.merge import Merged, merge
from supervisor.metrics_dir import VARIABLE
from supervisor.tally import Histogram, Recorder, TypeMetrics

__all__ = ["Exposition", "StewardMetrics", "TypeMetrics", "WorkerMetrics", "adopt", "read"]

_ROOM: Final = 16 << 10  # bytes that one more series may take in a file, generously
_TORN: Final = (OSError, ValueError, RuntimeError, struct.error)

_log = logging.getLogger("jqd.metrics")
_identity = "none"
_value_class: Any = None


class WorkerMetrics(Recorder):
    """What a worker counts. Call `flush()` now and then, and at the end."""

    def __init__(self, slot: int, pool: str, directory: str | None = None) -> None:
        self.pool = pool
        self._waits: dict[str, Histogram] = {}
        super().__init__(MappedFiles(f"w{slot}", directory))

    def wait(self, queue: str, seconds: Sequence[float]) -> None:
        """How long jobs of a batch waited: from due (or enqueued) to started."""
        found = self._waits.get(queue)  # a short way, since every batch comes along here
        if found is None:
            found = self._waits[queue] = self._histogram(families.WAIT, queue)
        found.buckets.observe(seconds)
        self._dirty.add(found)

    def lost(self, queue: str, n: int = 1) -> None:
        """`n` settlements were refused because the job was no longer this worker's."""
        self._count(families.LOST, n, queue)


class StewardMetrics(Recorder):
    """What a steward counts. Two of them overlap in a reload, so generations alternate between two sets of files."""

    def __init__(self, generation: int = 0, directory: str | None = None) -> None:
        super().__init__(MappedFiles(f"steward{generation % 2}", directory))

    def recovered(self, queue: str, cause: str, n: int = 1) -> None:
        """`n` jobs of a dead worker were put back (or buried, which `for_type(…).failed` counts too)."""
        self._count(families.RECOVERED, n, queue, cause)

    def recovery(self, seconds: float) -> None:
        """From the death of a worker to the moment its last job was back."""
        self._observe(families.RECOVERY, (seconds,))

    def lateness(self, seconds: Sequence[float]) -> None:
        """How late jobs of a batch were promoted."""
        self._observe(families.SCHEDULE, seconds)


def adopt(identifier: str, directory: str | None = None) -> Any:
    """Count as `identifier` from now on, in this process and (until they adopt another name) in those forked from it.

    Letters and digits only: with `_` the name is cut and all slots would be one. The forkserver calls this before it
    imports handlers; a worker's WorkerMetrics does after the fork. Without a folder (no master) nothing is exported.
    """
    global _identity, _value_class
    if not (identifier.isascii() and identifier.isalnum()):
        raise ValueError(f"an identifier has letters and digits only, not {identifier!r}")
    directory = directory or os.environ.get(VARIABLE)
    if not directory:
        return None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    _identity = identifier
    if _value_class is None:
        values = _light("values")
        _value_class = values.ValueClass = values.MultiProcessValue(lambda: _identity)
    return _value_class


def _light(module: str) -> Any:
    """A submodule of prometheus_client without the package around it, whose HTTP servers take 100-200 ms to import.

    Every start of a steward and of a worker would pay for them. The real package, imported later by a handler, finds
    this very submodule in place.
    """
    name = "prometheus_client"
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        return importlib.import_module(f"{name}.{module}")
    shell = types.ModuleType(name)
    shell.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = shell
    try:
        return importlib.import_module(f"{name}.{module}")
    finally:
        del sys.modules[name]


def read(path: str) -> list[tuple[str, float]] | None:
    """All (key, value) of a metric file; None if it cannot be read to its end: a kill may leave an empty or torn one."""
    try:
        return [entry[:2] for entry in _light("mmap_dict").MmapedDict.read_all_values_from_file(path)]
    except _TORN:
        return None


class MappedFiles:
    """The mapped values of one identifier. Never raises for want of space: says so once and adds no series from there on."""

    def __init__(self, identifier: str, directory: str | None) -> None:
        self._directory = directory or os.environ.get(VARIABLE, "")
        self._identifier = identifier
        self._stopped = not self._directory
        if not self._stopped:
            try:
                self._tidy()
                self._value = adopt(identifier, self._directory)
            except OSError as error:
                self._stop(error)

    def _tidy(self) -> None:
        """Take over from the last process here: its live gauges are void, and a file it left torn must not stop us."""
        for path in glob.glob(f"{glob.escape(self._directory)}/*_{self._identifier}.db"):
            if os.path.basename(path).startswith("gauge_live"):
                os.unlink(path)
            elif read(path) is None:
                os.replace(path, f"{path}.bad")

    def values(self, family: Family, labels: tuple[str, ...]) -> list[Any]:
        """The mapped values of one series: [counter], or a histogram's buckets and then its sum. Empty: stopped."""
        if self._stopped:
            return []
        try:
            self._reserve(family.kind)
        except OSError as error:
            self._stop(error)
            return []
        one = (family.kind, family.name)
        if family.kind == "counter":
            return [self._value(*one, f"{family.name}_total", family.labels, labels, family.help)]
        names, bucket = (*family.labels, "le"), f"{family.name}_bucket"
        bounds = [*map(repr, family.bounds), "+Inf"]
        buckets = [self._value(*one, bucket, names, (*labels, bound), family.help) for bound in bounds]
        return [*buckets, self._value(*one, f"{family.name}_sum", family.labels, labels, family.help)]

    def _reserve(self, kind: str) -> None:
        """Have the file's next pages really there: touching a page that a full tmpfs cannot give is death by SIGBUS."""
        fd = os.open(f"{self._directory}/{kind}_{self._identifier}.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            used = int.from_bytes(os.pread(fd, 4, 0), sys.byteorder)
            target = max(size, 1 << 16)
            while used + _ROOM > target:
                target *= 2
            os.posix_fallocate(fd, 0, target)
        finally:
            os.close(fd)

    def _stop(self, error: OSError) -> None:
        self._stopped = True
        cause, fields = error.strerror or str(error), {"event": "metrics_stopped", "identifier": self._identifier}
        _log.error(
            "no new series of metrics from this process: %s in %s. Jobs go on", cause, self._directory, extra=fields
        )


class Exposition:
    """The text of a scrape: what the files hold and what the exporter looked up. Reads each file once, skips bad ones."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._keys: dict[str, Any] = {}

    def warm(self) -> None:
        """Import what `render` needs, 100 ms of work, so that the first scrape is as fast as any."""
        from prometheus_client import exposition, multiprocess  # noqa: F401

    def render(
        self, readings: Iterable[Reading], alive: frozenset[int] | None = None, accept: str = ""
    ) -> tuple[bytes, str]:
        """(body, content type). `alive`: slots with a process, others' live gauges count no more; None: not known."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(_Registry(self._metrics(list(readings), alive))), content_type

    def _metrics(self, readings: list[Reading], alive: frozenset[int] | None) -> Iterator[Any]:
        contents, gauges, skipped = [], [], 0
        living = None if alive is None else {f"w{slot}" for slot in alive}
        for path in sorted(glob.glob(f"{glob.escape(self._directory)}/*.db")) if self._directory else ():
            kind, _, rest = os.path.basename(path).partition("_")
            if (content := read(path)) is None:
                skipped += 1
            elif kind != "gauge":
                contents.append((kind, content))
            elif living is None or not rest.startswith("live") or _identifier(rest) in living:
                gauges.append(path)
        merged = merge(contents, families.COUNTED, self._keys)
        looked_up = {reading.family.name for reading in readings}
        yield from (_counted(family) for family in merged if family.name not in looked_up)
        yield from map(_looked_up, [*readings, Reading(families.SKIPPED, (((), skipped),))])
        yield from (metric for metric in _own_gauges(gauges) if metric.name not in looked_up)


def _identifier(file_name: str) -> str:
    return file_name.removesuffix(".db").rpartition("_")[2]


class _Registry:
    """What prometheus_client's encoders ask of a registry."""

    def __init__(self, metrics: Iterator[Any]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        return self._metrics


def _counted(merged: Merged) -> Any:
    from prometheus_client.metrics_core import Metric

    metric = Metric(merged.name, merged.help, merged.kind)
    for name, labels, value in merged.samples:
        metric.add_sample(name, dict(labels), value)
    return metric


def _looked_up(reading: Reading) -> Any:
    from prometheus_client.metrics_core import Metric

    family = reading.family
    metric = Metric(family.name, family.help, family.kind)
    suffix = "_total" if family.kind == "counter" else ""
    for values, value in reading.samples:
        metric.add_sample(family.name + suffix, dict(zip(family.labels, values, strict=True)), value)
    return metric


def _own_gauges(paths: list[str]) -> Iterable[Any]:
    """Gauges that handlers defined, by the rules of prometheus_client (all, sum, max, live…). Files were just read."""
    from prometheus_client import multiprocess

    merge_gauges: Any = multiprocess.MultiProcessCollector.merge
    try:
        return list(merge_gauges(paths)) if paths else ()
    except _TORN:
        return ()
