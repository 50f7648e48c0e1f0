"""Writes config/grafana/dashboard.json, whose panels are alike but for a title, a unit and queries.

python docs/grafana.py > config/grafana/dashboard.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

Q = '{queue=~"$queue"}'
PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Latency: age of the oldest job", "s", ((f"max by (queue) (jobqueue_queue_latency_seconds{Q})", "{{queue}}"),)),
    ("Jobs by state", "short", ((f"sum by (state) (max by (queue, state) (jobqueue_queue_depth{Q}))", "{{state}}"),)),
    (
        "Done a second",
        "ops",
        ((f"sum by (queue) (rate(jobqueue_jobs_processed_total{Q}[$__rate_interval]))", "{{queue}}"),),
    ),
    (
        "Retried and dead a second",
        "ops",
        (
            (f"sum by (type) (rate(jobqueue_jobs_retried_total{Q}[$__rate_interval]))", "{{type}} retried"),
            (f"sum by (type) (rate(jobqueue_jobs_failed_total{Q}[$__rate_interval]))", "{{type}} dead"),
        ),
    ),
    (
        "Run time",
        "s",
        tuple(
            (
                f"histogram_quantile({q}, sum by (le) (rate(jobqueue_job_processing_duration_seconds_bucket{Q}[$__rate_interval])))",
                f"p{n}",
            )
            for n, q in ((50, 0.5), (99, 0.99))
        ),
    ),
    (
        "Wait, from due to started",
        "s",
        tuple(
            (
                f"histogram_quantile({q}, sum by (le) (rate(jobqueue_job_wait_seconds_bucket{Q}[$__rate_interval])))",
                f"p{n}",
            )
            for n, q in ((50, 0.5), (99, 0.99))
        ),
    ),
    ("Workers", "short", (("sum by (pool, state) (jobqueue_workers)", "{{pool}} {{state}}"),)),
    ("Workers busy", "percentunit", (("avg by (pool) (jobqueue_worker_busy_ratio)", "{{pool}}"),)),
    (
        "Workers replaced, by cause",
        "short",
        (("sum by (pool, cause) (increase(jobqueue_worker_restarts_total[$__rate_interval]))", "{{pool}} {{cause}}"),),
    ),
    (
        "Jobs put back, and how fast (p99)",
        "s",
        (
            (
                "histogram_quantile(0.99, sum by (le) (rate(jobqueue_recovery_seconds_bucket[$__rate_interval])))",
                "seconds",
            ),
            (f"sum by (cause) (increase(jobqueue_jobs_recovered_total{Q}[$__rate_interval]))", "{{cause}}"),
        ),
    ),
    (
        "Lateness of scheduled jobs (p99), claims lost",
        "s",
        (
            (
                "histogram_quantile(0.99, sum by (le) (rate(jobqueue_schedule_lateness_seconds_bucket[$__rate_interval])))",
                "lateness",
            ),
            (f"sum(increase(jobqueue_claims_lost_total{Q}[$__rate_interval]))", "claims lost"),
        ),
    ),
    ("Memory of Redis", "bytes", (("max by (kind) (jobqueue_redis_memory_bytes)", "{{kind}}"),)),
    (
        "Redis up, shortest lease",
        "short",
        (("min(jobqueue_redis_up)", "up"), ("min(jobqueue_lease_remaining_seconds)", "lease")),
    ),
    (
        "Reloads, paused queues",
        "short",
        (
            ("sum by (result) (increase(jobqueue_reload_total[$__rate_interval]))", "reload {{result}}"),
            (f"max by (queue) (jobqueue_queue_paused{Q})", "{{queue}} paused"),
        ),
    ),
)


def panel(number: int, title: str, unit: str, queries: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(65 + i), "datasource": source, "expr": expression, "legendFormat": legend}
            for i, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    queue = {
        "name": "queue", "label": "Queue", "type": "query", "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": "label_values(jobqueue_queue_depth, queue)", "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    return {
        "uid": "jqd", "title": "jqd", "tags": ["jobs"], "timezone": "browser", "schemaVersion": 38, "editable": True,
        "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}, queue]},
        "panels": [panel(i, *row) for i, row in enumerate(PANELS)],
    }  # fmt: skip


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")
