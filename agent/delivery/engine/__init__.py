"""What should happen: one thread obeys the tables of `core` and owns the state of every stream.

Events come in, tasks go out. Nothing here reads a transcript or speaks to a server.
"""
