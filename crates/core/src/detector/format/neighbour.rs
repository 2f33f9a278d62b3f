//! The model of the nearest neighbour.
