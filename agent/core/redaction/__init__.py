"""Secrets: their rules and shapes, the contexts they stand in, what text reads as behind escapes, what replaces them.

A new rule is a row of a table in `secret_rules`, and its example one in `tests/core`.
"""
