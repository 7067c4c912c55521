"""Training of the embedded model: films to canvases, autoencoder, audio encoder, latents, transformer, one weights file."""
