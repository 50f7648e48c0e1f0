"""The exporter's rooms: the one HTTP server of this host. Imported by `supervisor.roles.exporter` alone.

hosts     which Host headers are answered            fleet     what master and scoreboard say: workers, health
probe     what Redis says, asked off the event loop  readings  both of them as metric families
app       routes                                     serve     listening, limits, uvicorn
page      the page at /, made of `dashboard/`        live      what it shows, once a second, for all who watch
stream    one watcher's connection                   overview  workers and master as it shows them
history   the last quarter of an hour, for its plots
api       who may see and change jobs, and the log   desk      the thread in which that is done
jobs      pages of jobs, one job                     actions   retry, drop, edit, pause, resume, cancel, promote
"""
