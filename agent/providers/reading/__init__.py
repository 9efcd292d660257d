"""How the lines of each coding agent read as normalised events: a module each, tables of line types, and what they
share in `lines`."""
