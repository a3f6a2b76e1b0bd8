"""Requests that are answered by single calls, at the standard price: what is small, late or a trial."""
