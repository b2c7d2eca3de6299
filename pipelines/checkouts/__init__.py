"""Prove that two checkouts of the project behave alike, to the bit."""
