"""Tables and files of each task, and its DataModule."""
