"""How the daemon begins and ends: threads, queues, ticks, power, notifications."""
