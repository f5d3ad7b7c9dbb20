"""What commands print: information, tables and progress."""
