"""The sessions of this machine: a library for the daemon and for commands that list, show, search or change them.

It knows `delivery` and what lies below, never `daemon` or `cli`. Its rooms, the lowest first: `read`, `search`,
`index`, `live`, `transfer`.
"""
