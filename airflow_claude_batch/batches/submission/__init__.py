"""Bringing each part of a job to exactly one paid batch, and what is checked before."""
