"""``costs``: what was spent, from the book of costs."""

from __future__ import annotations

import argparse

from airflow_claude_batch.cli.command import DONE
from airflow_claude_batch.cli.places import existing_storage, place_at
from airflow_claude_batch.cli.printing import print_rows, say
from airflow_claude_batch.costs import costs_as_csv, format_costs, read_costs


def costs(options: argparse.Namespace) -> int:
    """Print the sums."""
    existing_storage(options)
    place = place_at(options.storage_path) if options.storage_path else None
    rows = read_costs(options.by, options.since, options.until, place)
    if options.csv:
        say(costs_as_csv(rows), end="")
    elif options.output == "table":
        say(format_costs(rows))
    else:
        print_rows(rows, options.output)
    return DONE
