"""UniSync: a film and new speech go in, the same film comes out with the lips speaking the new speech."""

__version__ = "0.1.0"
