"""What the API does: routes, checks, limits, the life of a batch, results."""
