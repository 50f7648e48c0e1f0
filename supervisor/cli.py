"""The command `jqd`: options, settings and log, then the master. Supervises nothing itself.

Also the place where a start that cannot succeed ends, with every reason on standard error and exit code 78.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from supervisor import options as command_line
from supervisor.options import Options, UsageError

EXIT_BUG: Final = 70
EXIT_UNUSABLE: Final = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `jqd` and return its exit code, see `options.HELP`."""
    _leave_when_asked()
    try:
        options = command_line.parse(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        return _refuse(str(error))
    if options.help:
        return _print(command_line.HELP)
    if options.version:
        return _print(f"jqd {_version()}\n")
    if (clash := name_clash()) is not None:
        return _refuse(clash)
    searched = command_line.candidates(options, os.environ)
    path = next((candidate for candidate in searched if os.path.exists(candidate)), None)
    if path is None:
        return _refuse(f"there is no configuration file: looked for {' and '.join(searched)}; name one with -c FILE")
    return _check(path, options) if options.check else _supervise(path, options, dict(os.environ))


def name_clash() -> str | None:
    """What to do about PyPI's package `supervisor`, whose modules overwrite ours when both are in one environment."""
    home = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.dirname(home)
    mixed = os.path.exists(os.path.join(home, "supervisord.py"))
    for folder in {beside, *sys.path}:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        installed = any(name.startswith("supervisor-") and name.endswith((".dist-info", ".egg-info")) for name in names)
        # One in another folder, further down the path (Debian's, say), is never imported and does no harm.
        if installed and (mixed or os.path.abspath(folder) == beside or _comes_first(folder, beside)):
            return _clash(folder)
    return _clash(beside) if mixed else None


def _comes_first(folder: str, other: str) -> bool:
    path = [os.path.abspath(entry) for entry in sys.path]
    return other not in path or path.index(os.path.abspath(folder)) < path.index(other)


def _clash(folder: str) -> str:
    return (
        f"PyPI's package `supervisor` is installed in {os.path.abspath(folder)}, and jqd has a package of that name: "
        "in one environment they overwrite each other. Install jqd in a virtual environment of its own "
        "(python3 -m venv .venv && .venv/bin/pip install jqd), or remove the other "
        "(pip uninstall supervisor, then pip install --force-reinstall jqd)"
    )


def _supervise(path: str, options: Options, environ: Mapping[str, str]) -> int:
    from jobqueue.yamlfile import ConfigError
    from supervisor import logs, master
    from supervisor import settings as read
    from supervisor.notify import Notifier
    from supervisor.settings import Settings

    def load() -> Settings:
        return read.load(path, environ=environ, options=options.overrides())

    log = logs.get_logger("master")
    try:
        settings = load()
        logs.configure("master", settings.log, secrets=read.secrets(settings))
        notifier = Notifier.from_environ(os.environ)
        return master.run(settings, load=load, config_path=path, notifier=notifier, log=log)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNUSABLE
    except Exception:  # noqa: BLE001 - the last one to know
        import traceback

        log.error("bug", error=traceback.format_exc())
        return EXIT_BUG


def _check(path: str, options: Options) -> int:
    """In a process of its own, for handlers are imported there. Options travel by pipe: `--addr` may hold a password."""
    import json
    import subprocess

    command = [sys.executable, "-m", "supervisor.roles.check", path]
    given = json.dumps(options.overrides()).encode()
    code = subprocess.run(command, input=given, check=False).returncode
    return code if code >= 0 else EXIT_UNUSABLE


def _leave_when_asked() -> None:
    """Until the master listens to signals nothing has been started, so leaving is all there is to do. As process 1 of a
    container a signal without a handler would be dropped."""

    def leave(_number: int, _frame: object) -> NoReturn:
        os._exit(0)

    def hang_up(_number: int, _frame: object) -> None:
        if seen and seen[0].judge_hangup() is Hangup.DRAIN:
            os._exit(0)
        # A reload: the file is about to be read, or was this very moment. It must not end a jqd that was just started.

    seen: list[Terminal] = []
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, hang_up)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    from supervisor.terminal import Hangup, Terminal

    seen.append(Terminal.at_start())


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("jqd")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _refuse(problem: str) -> int:
    sys.stderr.write(f"jqd: {problem}\n")
    return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
