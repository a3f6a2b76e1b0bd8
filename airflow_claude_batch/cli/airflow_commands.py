"""The same commands as ``airflow claude-batch …``.

Airflow loads them from 3.2 on, by the key ``cli`` of the provider's description. 3.1 passes it over; there
``claude-batch`` is the way.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.cli.command import Argument, Command
from airflow_claude_batch.cli.commands import COMMANDS
from airflow_claude_batch.cli.parser import EXIT_CODES, PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.cli.cli_config import CLICommand


def get_commands() -> list[CLICommand]:
    """What Airflow's parser adds to its own commands."""
    from airflow.cli.cli_config import ActionCommand, GroupCommand

    actions = [
        ActionCommand(
            name=command.name,
            help=command.help,
            description=f"{command.help}. {command.more}".strip(),
            func=_action(command),
            args=tuple(_arg(argument) for argument in command.arguments),
        )
        for command in COMMANDS
    ]
    return [
        GroupCommand(
            name=PROGRAM,
            help="Look after jobs and batches of Claude",
            subcommands=tuple(actions),
            epilog=EXIT_CODES,
        )
    ]


def _arg(argument: Argument) -> Any:
    from airflow.cli.cli_config import Arg

    return Arg(flags=argument.flags, **argument.options)


def _action(command: Command) -> Callable[[argparse.Namespace], None]:
    def act(options: argparse.Namespace) -> None:
        # Airflow takes no notice of what a command returns.
        sys.exit(run(command, options))

    return act
