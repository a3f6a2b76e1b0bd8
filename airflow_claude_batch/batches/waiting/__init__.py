"""Waiting for batches: when to look, when to stop, and one shared poller a connection."""
