"""One task instance's job and its durable record: ledger, lease, spool, counts, purge."""
