"""Fault injection: files arm faults, real workers and clients trigger them at named moments."""
