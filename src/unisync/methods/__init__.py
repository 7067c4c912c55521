"""Methods repaint windows of aligned canvases. They never open a file and never see a source frame."""
