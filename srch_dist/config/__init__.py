"""Options, presets, YAML files and fingerprints."""
