"""The index of sessions: the process that keeps it, what is read into it, what is set of sessions by hand."""
