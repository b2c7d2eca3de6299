"""Load test of the server on loopback."""
