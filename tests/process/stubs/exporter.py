"""An exporter that serves $JQD_STUB/status.json: the last state the master sent. `port-taken` there: it cannot start."""

from __future__ import annotations

import json
import os
from pathlib import Path

from supervisor import roles
from supervisor.channel import ChannelClosed

FOLDER = Path(os.environ["JQD_STUB"])


def main() -> int:
    start = roles.begin("jqd: exporter")
    channel = start.channel
    if (FOLDER / "port-taken").exists():
        return roles.fail(channel, "port 2112 is taken")
    channel.send({"kind": "ready"})
    while not channel.closed:
        try:
            channel.send({"kind": "alive"})
        except ChannelClosed:
            break
        channel.wait(0.5)
        for message, _ in channel.receive():
            if message["kind"] == "stop":
                return 0
            if message["kind"] == "status":
                (FOLDER / "status.new").write_text(json.dumps({**message, "exporter": os.getpid()}))
                (FOLDER / "status.new").rename(FOLDER / "status.json")
    return 0


if __name__ == "__main__":
    roles.run(main)
