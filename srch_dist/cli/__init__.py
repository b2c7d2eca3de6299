"""Code that all commands share: option parsing, help, exit codes, logs, tables, progress bars."""
