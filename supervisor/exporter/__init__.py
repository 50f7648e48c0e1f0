"""The exporter's rooms: the one HTTP server of this host. Imported by `supervisor.roles.exporter` alone.

hosts     which Host headers are answered            fleet     what master and scoreboard say: workers, health
probe     what Redis says, asked off the event loop  readings  both of them as metric families
app       routes                                     page      the page at /
serve     listening, limits, uvicorn
"""
