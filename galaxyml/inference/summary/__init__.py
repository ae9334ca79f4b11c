"""What is in a folder of predictions, however many they are: counts, distributions, the sky, examples."""
