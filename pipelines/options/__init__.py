"""Measure the effect of every option on the shipped emoji set, and write docs/options.md."""
