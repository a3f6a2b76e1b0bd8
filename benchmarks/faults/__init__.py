"""Kills, freezes, late writes, wrong clocks and strangers, over many small jobs side by side.

    python -m benchmarks.faults [--kills 1000] [--seed 1] [--only s3,clock] [--keep DIRECTORY]

A job is what Airflow makes of one ``ClaudeBatchOperator``: a process that executes it, one that runs its
trigger, one that goes on after the event, and the next try after a kill. All of them are forks of a process
that has imported everything, so that a kill costs little. They are killed, or stopped for some seconds, at
random moments and at chosen ones (before, amid and after a call of the API or a change on storage).

What was paid is counted from what the server answers for each batch, for its text quotes the prompt; what
came out, from the files. The exit status is 0 for nothing wrong, 1 for a fault, 2 for no verdict.

Seconds are scaled: the grace is 2 s instead of 60, a lease is stale after 1.5 s instead of 30, a batch takes
1.5 s, and a frozen process wakes after up to 8 s. Late PUTs arrive up to 30 real seconds later.
"""
