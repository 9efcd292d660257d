"""What sessions say, whichever coding agent wrote them: events, summaries, lineage, runs, and questions to them."""
