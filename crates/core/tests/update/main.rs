//! Updates: documents and trees against vectors of other programs; whole updates over a flash that
//! loses its power at every write.

mod documents;
mod flash;
mod forged;
mod plant;
mod power;
mod transfer;
mod vectors;
