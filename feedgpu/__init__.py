"""The course's instruments: datasets, measurements, pictures, exercises. They build on my_classes.py."""

import warnings

# Chapters say how many CPUs there are, and try too many workers on purpose.
warnings.filterwarnings("ignore", "This DataLoader will create")
