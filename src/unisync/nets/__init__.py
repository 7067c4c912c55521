"""Networks and their weights files: mathematics only, no film, no face, no sound file."""
