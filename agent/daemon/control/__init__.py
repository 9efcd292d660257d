"""The host process and the methods of its control socket."""
