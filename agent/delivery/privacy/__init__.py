"""What may leave, asked right before it does: the private list and its rules, permits, the redactor of this machine.

Doubt keeps things here. Nobody else decides; whoever sends asks here.
"""
