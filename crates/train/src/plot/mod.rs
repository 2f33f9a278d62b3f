//! Pictures of a detector at work, as SVG and PNG.
