"""Which git remotes a folder belongs to: read from git's own files, and asked of git where it is there."""

from agent.system.git.remotes import GitRemotes

__all__ = ["GitRemotes"]
