"""From file to server: a library that the daemon runs, commands use for a dry run, and the simulation drives.

It opens files and speaks to servers only through what it is given. It knows `core`, `providers` and `system`, never
`sessions`, `daemon` or `cli`. Its rooms, the lowest first: `base`, `privacy`, `discovery`, `state`, `retention`,
`engine`, `push`, `inventory`.
"""
