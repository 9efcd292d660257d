"""The process: what it begins and ends, what its control socket answers, what it tells of itself.

It is wiring. What happens to a transcript is decided in `delivery`, what is known of sessions in `sessions`. Its
rooms, the lowest first: `status`, `process`, `control`.
"""
