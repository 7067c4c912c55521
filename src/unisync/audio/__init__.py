"""Speech as the model hears it: mel bands, the audio encoder, features at the moment of each frame, voice activity."""
