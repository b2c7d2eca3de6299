"""What the commands share: parsing, help, printed tables, progress displays."""
