"""A steward that notes what it is told in $JQD_STUB/steward.jsonl, and puts nothing back since nothing is held."""

from __future__ import annotations

import json
import os
from pathlib import Path

from supervisor import roles
from supervisor.channel import ChannelClosed

FOLDER = Path(os.environ["JQD_STUB"])


def main() -> int:
    start = roles.begin("jqd: steward")
    channel = start.channel
    if start.candidate and (refused := FOLDER / "refused").exists():
        return roles.fail(channel, refused.read_text())
    channel.send({"kind": "admitted" if start.candidate else "ready"})
    while not channel.closed:
        try:
            if not (FOLDER / "silent-steward").exists():
                channel.send({"kind": "alive"})
            channel.wait(0.5)
            for message, fds in channel.receive():
                with (FOLDER / "steward.jsonl").open("a") as file:
                    file.write(json.dumps({**message, "steward": os.getpid(), "generation": start.generation}) + "\n")
                for fd in fds:
                    os.close(fd)
                match message["kind"]:
                    case "serve":
                        channel.send({"kind": "ready"})
                    case "died":
                        channel.send({"kind": "recovered", "seq": message["seq"]})
                    case "last_sweep":
                        left = (FOLDER / "left").read_text() if (FOLDER / "left").exists() else "0"
                        channel.send({"kind": "swept", "left": int(left)})
                    case "stop":
                        return 0
        except ChannelClosed:
            break
    return 0


if __name__ == "__main__":
    roles.run(main)
