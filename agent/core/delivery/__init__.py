"""The life of a stream and of a destination as tables; waiting, pressure, waking, and which projects are taken."""
