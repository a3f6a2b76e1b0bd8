"""The Message Batches API: its calls, which failures pass, and the lines of a results file."""
