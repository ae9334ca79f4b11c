"""What volunteers of different campaigns were asked, and which of their answers mean the same."""
