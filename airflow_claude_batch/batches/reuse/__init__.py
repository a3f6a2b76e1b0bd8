"""Reuse: answers that earlier jobs paid for, kept by what was asked, delivered instead of asking again."""
