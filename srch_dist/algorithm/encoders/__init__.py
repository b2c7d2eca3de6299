"""From learned codes to final codes and encoders of new rows."""
