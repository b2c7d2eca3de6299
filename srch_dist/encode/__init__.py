"""Encode rows with a trained model."""
