"""The reference server: keeps every entry that agents append, and shows it.

`store` is the contract, `sqlite` keeps it; `app` answers HTTP over any store, `auth` decides who is asking,
`connections` bounds what may come before that is known.
"""
