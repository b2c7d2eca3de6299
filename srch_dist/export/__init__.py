"""Export codes to the formats of other tools."""
