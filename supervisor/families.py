"""Every metric family of jqd: its name, kind, labels and help, and the bounds of its histograms. Pure data.

Not the counting (`supervisor.tally`) and not the exposition (`supervisor.metrics`). The names are an interface: dashboards
and alerts rely on them. Names here are without `_total`, which the exposition adds to counters.
"""

from dataclasses import dataclass
from typing import Final, Literal

SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
"""Upper bounds of run times and waits, seconds: 100 µs (a tiny job in a batch) to 10 min."""

LATENESS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One family. `labels` in the order values are given; `bounds` only for histograms, seconds, without +Inf."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


# Help texts of the families that processes count are stored with every series: short on purpose.
PROCESSED: Final = Family("jobqueue_jobs_processed", "counter", "Jobs done: returned and acked.", ("queue", "type"))
FAILED: Final = Family("jobqueue_jobs_failed", "counter", "Jobs that went to the dead queue.", ("queue", "type"))
RETRIED: Final = Family("jobqueue_jobs_retried", "counter", "Attempts to be made again.", ("queue", "type"))
DURATION: Final = Family(
    "jobqueue_job_processing_duration_seconds", "histogram", "Run time of an attempt.", ("queue", "type"), SECONDS
)
WAIT: Final = Family("jobqueue_job_wait_seconds", "histogram", "From due to started.", ("queue",), SECONDS)
LOST: Final = Family("jobqueue_claims_lost", "counter", "Settlements refused: the claim was gone.", ("queue",))
RECOVERED: Final = Family("jobqueue_jobs_recovered", "counter", "Jobs put back after a death.", ("queue", "cause"))
RECOVERY: Final = Family("jobqueue_recovery_seconds", "histogram", "From a death to its jobs put back.", (), LATENESS)
SCHEDULE: Final = Family("jobqueue_schedule_lateness_seconds", "histogram", "From due to promoted.", (), LATENESS)

COUNTED: Final = (PROCESSED, FAILED, RETRIED, DURATION, WAIT, LOST, RECOVERED, RECOVERY, SCHEDULE)
"""Families that workers and steward count; the others are looked up at each scrape."""

DEPTH: Final = Family("jobqueue_queue_depth", "gauge", "Jobs in a queue, by state.", ("queue", "state"))
LATENCY: Final = Family("jobqueue_queue_latency_seconds", "gauge", "Age of the oldest claimable job.", ("queue",))
WORKERS: Final = Family("jobqueue_workers", "gauge", "Worker slots of this host, by state.", ("pool", "state"))
RESTARTS: Final = Family(
    "jobqueue_worker_restarts", "counter", "Workers of this host replaced, by cause of death.", ("pool", "cause")
)
BUSY: Final = Family(
    "jobqueue_worker_busy_ratio", "gauge", "Share of the last 15 s that workers spent in handlers.", ("pool",)
)
REDIS_UP: Final = Family("jobqueue_redis_up", "gauge", "1 if Redis answered the exporter, else 0.")
PAUSED: Final = Family("jobqueue_queue_paused", "gauge", "1 while a queue is paused, else 0.", ("queue",))
LEASE: Final = Family("jobqueue_lease_remaining_seconds", "gauge", "Of the worker whose lease ends first, on any host.")
MEMORY: Final = Family("jobqueue_redis_memory_bytes", "gauge", "Memory of Redis; kind max is its maxmemory.", ("kind",))
RELOADS: Final = Family("jobqueue_reload", "counter", "Reloads of this master, by result.", ("result",))
BUILD: Final = Family("jobqueue_build_info", "gauge", "Always 1; the labels tell what runs.", ("version", "python"))
SKIPPED: Final = Family("jobqueue_metrics_files_skipped", "gauge", "Metric files that this scrape could not read.")


@dataclass(frozen=True, slots=True)
class Reading:
    """A family as it is now: (label values in the family's order, value). No samples: only HELP and TYPE are shown."""

    family: Family
    samples: tuple[tuple[tuple[str, ...], float], ...] = ()
