//! The models of the convolutional autoencoders.
