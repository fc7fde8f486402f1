"""What is asked of the answers to the exercises: one file a chapter."""
