"""Training: films to datasets (`prepare`), and datasets to weights by recipes (`run`)."""
