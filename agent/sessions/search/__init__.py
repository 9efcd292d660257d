"""The search in files, and sessions as rows for people and scripts."""
