"""How fast, how small, how quiet: `make bench`, or `python -m tests.bench`.

Figures are ratios wherever they can be, measured side by side in one run against simple yardsticks, so that they say
something on any machine. What must hold stands beside each figure.

    corpus        transcripts to measure with, the same for the same seed
    receiver.c    a server that costs next to nothing: what is measured against it is the client
    servers       that one and our own, as processes
    agents        the daemon, as a process: one pass, or staying, or the command `transcriptd run`
    yardsticks    simple clients to compare with
    machine       what the kernel says of processes and of this machine
    figures       a figure, what it should be, and the table of them
    backlog, latency, idle, memory, commands, intake    what is measured
"""
