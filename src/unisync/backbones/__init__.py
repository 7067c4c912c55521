"""Backbones: an autoencoder, a transformer and an audio encoder that belong together."""
