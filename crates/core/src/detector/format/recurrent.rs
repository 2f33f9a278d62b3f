//! The models of the recurrent networks.
