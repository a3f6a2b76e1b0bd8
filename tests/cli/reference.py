"""Writes ``docs/cli.md`` from the parser: ``python -m tests.cli.reference``."""

from __future__ import annotations

import argparse
from pathlib import Path

from airflow_claude_batch import cli
from airflow_claude_batch.cli.commands import COMMANDS
from airflow_claude_batch.cli.parser import build_parser
from airflow_claude_batch.cli.view import STATES

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# Command line

<!-- Made by `python -m tests.cli.reference` from the parser; a test compares. -->

`claude-batch COMMAND` and, from Airflow 3.2 on, `airflow claude-batch COMMAND` are the same commands.

They work on `storage_path` and on the API, over Airflow's connection (`--conn-id`), wherever both can be
reached: on a worker, or on your own machine. None needs Airflow's database, but for a connection that is
defined there, and for the triggerer that `doctor` looks for.

Tables are for people; `-o json`, `yaml` and `plain` are for programs: output goes to standard output, all
else to standard error. A table of 1,000 rows or more is printed plain. What deletes, cancels or sends again
asks first; `--yes` answers. `JOB` is what `list` prints (`DAG/RUN/TASK/job-1`), a job's URL, its task's
folder, or one of its batches.

`list` and `purge` make one call for 1,000 files of `storage_path`, and one for each job, or three, sixteen
at the same time; how long that takes is [measured](why/measured.md). Ctrl-C is harmless: after
an interrupted purge the same command goes on with what is left. A purge leaves alone what is sent and not
delivered, unless it is told `--undelivered`.

Completion in the shell is argcomplete's, as Airflow has it:
`eval "$(register-python-argcomplete claude-batch)"`. `claude-batch --version` says which one it is.

```
claude-batch list --since 7d --state partial
claude-batch show nightly_report/scheduled__2026-11-28T02:00:00+00:00/submit/job-1
claude-batch retry JOB --only errored expired
claude-batch fetch msgbatch_01AbCdEfGh --output ./rescued
claude-batch submit tickets.csv --prompt 'Which team? {{ body }}' --custom-id id \\
    --model claude-haiku-4-5 --max-tokens 50 --wait --output ./answers
```

"""
STATES_HEAD = """| state | what it means |
|---|---|
"""
COLUMNS = """| amount | what it is |
|---|---|
| `cost_usd` | paid for the answers that were fetched |
| `saved_usd` | what the same had cost more outside a batch |
| `open_usd` | the estimate of what is sent and not delivered yet |
| `estimate_usd` | the estimate of the whole job (`show`) |

`-o json` and `yaml` have more columns than a table: URL, DAG, run, task, map index, connection and tags.
"""


def page() -> str:
    """The whole page."""
    commands = next(
        action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    table = "\n".join(f"| [`{command.name}`](#{command.name}) | {command.help} |" for command in COMMANDS)
    sections = [_section(command.name, commands.choices[command.name]) for command in COMMANDS]
    sections[0] += f"\n{STATES_HEAD}{_states()}\n\n{COLUMNS}"
    return f"{HEAD}| command | does |\n|---|---|\n{table}\n\n{_exit_codes()}\n" + "\n".join(sections)


def _states() -> str:
    return "\n".join(f"| `{state}` | {words} |" for state, words in STATES.items())


def _exit_codes() -> str:
    lines = (cli.__doc__ or "").split("=====  ")[2].partition("\n")[2].splitlines()
    rows = [line.partition(" ") for line in lines if line[:1].isdigit()]
    table = "\n".join(f"| {code} | {words.strip()} |" for code, _, words in rows)
    return f"## Exit codes\n\n| code | what it means |\n|---|---|\n{table}\n"


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = []
    for action in parser._actions:
        if action.dest == "help":
            continue
        said = ", ".join(f"`{flag}`" for flag in action.option_strings)
        value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
        if action.option_strings and action.nargs != 0:
            said += f" `{value}`"
        rows.append(f"| {said or f'`{value}`'} | {_cell(action.help)} |")
    usage = usage.replace(" [-h]", "")
    table = "\n".join(["| argument | what it is |", "|---|---|", *rows])
    return f"## {name}\n\n{_cell(parser.description)}\n\n```\n{usage}\n```\n\n{table}\n"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("%%", "%")


if __name__ == "__main__":
    PAGE.write_text(page())
