"""From a results file to succeeded and errored records, and what is sent again."""
