//! The models that rest on the covariance of normal data.
