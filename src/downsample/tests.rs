//! Models of what is downsampled.
