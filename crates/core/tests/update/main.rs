//! Updates: documents and trees against vectors of other programs.

mod documents;
mod vectors;
