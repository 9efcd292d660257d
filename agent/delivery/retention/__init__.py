"""Files held against deletion while they are not sent: what is held, and how."""
