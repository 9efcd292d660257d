"""What the engine knows and is told, as values: tracks, tasks and their outcomes, inputs, destinations, the journal.

It opens no file but the state store. Only the engine changes what lies here.
"""
