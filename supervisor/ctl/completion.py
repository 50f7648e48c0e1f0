"""`jqctl completion`: the script that makes a shell complete commands, options and queue names."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from supervisor.ctl.target import Target

HOWTO = {
    "bash": 'eval "$(jqctl completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(jqctl completion zsh)"    # in ~/.zshrc, after compinit',
    "fish": "jqctl completion fish > ~/.config/fish/completions/jqctl.fish",
}


@click.command(epilog="\b\n" + "\n".join(HOWTO.values()))
@click.argument("shell", type=click.Choice(list(HOWTO)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(made(context.find_root().command, {}, "jqctl", "_JQCTL_COMPLETE").source())


def queue_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Queues as Redis and the config file know them; none if they cannot be asked (a completion must not complain)."""
    try:
        names = context.ensure_object(Target).inspector.queues()
    except Exception:  # noqa: BLE001
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
