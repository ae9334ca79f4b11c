"""What only one task needs: its tables and its files."""
