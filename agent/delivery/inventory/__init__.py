"""What lies on this machine as the private list sees it, and what would leave of it; for commands."""
