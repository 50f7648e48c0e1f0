"""redis+cluster:// for everybody: queues spread over the shards of a Cluster, each queue whole on one of them.

`slots` (pure) knows which key is where, `chart` what this process remembers of the nodes, `wire` carries commands to them and follows their
redirects. On it stand `queue` (a worker's trips, queue by queue), `parking` (its waiting) and `session` (how both come and go). Why it is
so: docs/decisions/cluster-queue-by-queue.md. Imported only where `redis.url` names a Cluster.
"""
