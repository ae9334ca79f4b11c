"""What follows the net: tables to metrics, files and figures."""
