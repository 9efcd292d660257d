"""Transcript files as events: forwards, from the end, and as they grow."""
