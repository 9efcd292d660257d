"""What `status` tells of the daemon and what is around it."""
