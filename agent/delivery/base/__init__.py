"""What all of delivery stands on: the ways to the outside as it needs them, and signs of life."""
