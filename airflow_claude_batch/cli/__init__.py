"""``claude-batch`` and ``airflow claude-batch``: look after jobs and batches from a terminal.

Both are the same commands (``commands.py``), each a thin function over the engine in a module of its own.
They work on ``storage_path`` and the API; what else one needs, it says. Reading the command line costs
nothing: what is heavy is imported by the command that runs.

=====  =============================================================================================
code   what it means
=====  =============================================================================================
0      done
1      no: nothing was found, a check has failed, too many requests have failed, or the person said no
2      wrong arguments, or an error that has to be mended first
3      trouble that may pass, such as no network: try again; for `submit`, the command that it names
130    interrupted by Ctrl-C; what sends says how to go on, `cancel` what it has done
=====  =============================================================================================
"""

from airflow_claude_batch.cli.parser import main

__all__ = ["main"]
