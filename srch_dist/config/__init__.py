"""Options of a run: declarations, presets, YAML files and fingerprints."""
