"""What a transcript is: its lines and their ids, the chain over them, the cursor, packed files, cuts and forks.

Used by both ends, so that both agree.
"""
