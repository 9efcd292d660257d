"""Does one thing at a time for the engine: sends, asks, compares, proves. It gets values and returns outcomes.

It keeps nothing between two tasks. `asking` is the one door to a server.
"""
