"""Runs, and what is told of sessions while they happen."""
