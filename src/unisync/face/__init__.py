"""Faces: where they are, how the canvas lies on them, and how a finished canvas gets back into the frame."""
