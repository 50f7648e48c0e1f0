"""The command group of jqctl, and what becomes of errors: one line each, an exit code, no traceback for what can happen."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from jobqueue import __version__
from jobqueue.errors import InvalidJob, InvalidQueueName, JobQueueError, ServerRefused, Unavailable, UnsafeServer
from supervisor.ctl import act, completion, crontab, doctor, letters, look, produce, top, waiting
from supervisor.ctl.output import safe
from supervisor.ctl.target import Target, targeted

UNREACHABLE = 69


class Unread(Exception):
    """Whoever read our output has seen enough: no error."""


class Group(click.Group):
    """click makes exit code 1 of a broken pipe; here it never sees one."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Unread from None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@targeted
@click.version_option(__version__, prog_name="jqctl")
@click.pass_context
def jqctl(context: click.Context) -> None:
    """Enqueue jobs, look into queues, and set things right.

    Exit codes: 0 done, 1 not found or refused or timed out, 2 usage, 69 Redis not reachable, 70 a bug.
    """
    context.ensure_object(Target)


for command in (
    produce.enqueue, look.stats, look.workers, look.ls, look.show, letters.dead, crontab.cron, waiting.wait,
    act.pause, act.resume, act.cancel, act.purge, act.promote, doctor.doctor, top.top, completion.completion,
):  # fmt: skip
    jqctl.add_command(command)


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = jqctl.main(arguments, prog_name="jqctl", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except (Unread, BrokenPipeError):
        # The interpreter must not find out again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except JobQueueError as error:
        accepted = getattr(error, "accepted", None)
        click.echo(
            f"jqctl: {_lines(str(error))}" + (f" ({accepted} jobs before it are in)" if accepted else ""), err=True
        )
        return _code(error)
    except Exception:  # noqa: BLE001  the last resort: a bug gets its traceback and its own exit code
        traceback.print_exc()
        return 70


def _lines(text: str) -> str:
    """Each line made safe; a config file's faults are several lines."""
    return "\n".join(safe(line) for line in text.splitlines())


def _code(error: JobQueueError) -> int:
    match error:
        case Unavailable() | ServerRefused() | UnsafeServer():
            return UNREACHABLE
        case InvalidJob() | InvalidQueueName():
            return 2
        case _:
            return 2 if type(error).__name__ in ("ConfigError", "BadFilter") else 1
