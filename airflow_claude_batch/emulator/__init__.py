"""A local Claude Message Batches API over HTTP, for demos, for this package's tests and for users' own."""
