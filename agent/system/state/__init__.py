"""What transcriptd itself remembers on disk: databases, lists, the spool, settings. Each has one writer."""
