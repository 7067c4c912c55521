"""Metrics judge finished faces window by window. They never open a file and never see a whole frame."""
