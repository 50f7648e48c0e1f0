"""For screenshots alone: an exporter that samples every half second, so that its plots are full soon."""

import sys

if "supervisor.roles.exporter" in sys.orig_argv:
    import supervisor.exporter.history

    supervisor.exporter.history.EVERY = 0.5
    import supervisor.exporter.live

    supervisor.exporter.live.TICK = 0.5
