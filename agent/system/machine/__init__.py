"""The machine and this process: clocks, power, network, locks, priority, what systemd is told."""
