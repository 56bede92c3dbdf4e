"""Training: one resumable loop for the image model and the latent model."""
