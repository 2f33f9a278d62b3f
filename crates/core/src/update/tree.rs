//! The hash tree of RFC 9162 (section 2.1) over the chunks of an image: a chunk and its proof show
//! that it belongs where it says, before the rest of the image is there.
//!
//! A leaf is SHA-256(0x00, chunk), a node SHA-256(0x01, left, right); a tree of n leaves has the
//! greatest power of two below n on its left.

use super::{Hash, sha256};
use crate::limits::{RELEASE_CHUNK_LEN, RELEASE_PROOF_LEN_MAX};

/// Hashes a chunk.
#[must_use]
pub fn leaf(chunk: &[u8]) -> Hash {
    sha256(&[&[0], chunk])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// Returns the number of chunks of an image.
#[must_use]
pub fn chunk_count(image_len: u32) -> u32 {
    image_len.div_ceil(RELEASE_CHUNK_LEN as u32)
}

/// Returns the length of one chunk of an image: all but the last have [`RELEASE_CHUNK_LEN`] bytes.
#[must_use]
pub fn chunk_len(image_len: u32, index: u32) -> usize {
    let start = u64::from(index) * RELEASE_CHUNK_LEN as u64;
    let rest = u64::from(image_len).saturating_sub(start);
    rest.min(RELEASE_CHUNK_LEN as u64) as usize
}

/// Computes a root from leaves that come one after the other, in memory that grows with the
/// logarithm of their number.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// Roots of full trees, the largest first: one for each bit of `count`.
    full: [Hash; RELEASE_PROOF_LEN_MAX + 1],
    count: u32,
}

impl Root {
    /// Adds the hash of the next chunk. Returns false, and adds nothing, after
    /// 2^[`RELEASE_PROOF_LEN_MAX`] of them.
    #[must_use]
    pub fn push(&mut self, leaf: Hash) -> bool {
        if self.count >> RELEASE_PROOF_LEN_MAX != 0 {
            return false;
        }
        let mut len = self.count.count_ones() as usize;
        let mut hash = leaf;
        for _ in 0..self.count.trailing_ones() {
            len -= 1;
            hash = node(&self.full[len], &hash);
        }
        self.full[len] = hash;
        self.count += 1;
        true
    }

    /// Returns the root; of no leaves, the hash of nothing.
    #[must_use]
    pub fn finish(&self) -> Hash {
        let full = &self.full[..self.count.count_ones() as usize];
        let joined = full.iter().rev().copied().reduce(|right, left| node(&left, &right));
        joined.unwrap_or_else(|| sha256(&[]))
    }
}

/// Writes the proof of a leaf, from the leaf upwards. Returns its length.
///
/// Returns `None` if there is no such leaf or no room; [`RELEASE_PROOF_LEN_MAX`] hashes are enough
/// for every image.
#[must_use]
pub fn prove(leaves: &[Hash], index: usize, proof: &mut [Hash]) -> Option<usize> {
    if index >= leaves.len() {
        return None;
    }
    // From the root downwards: what is beside the way.
    let (mut at, mut part, mut len) = (index, leaves, 0);
    while part.len() > 1 {
        let (left, right) = part.split_at(part.len().next_power_of_two() / 2);
        let beside = if at < left.len() {
            part = left;
            right
        } else {
            at -= left.len();
            part = right;
            left
        };
        let mut root = Root::default();
        if !beside.iter().all(|leaf| root.push(*leaf)) {
            return None;
        }
        *proof.get_mut(len)? = root.finish();
        len += 1;
    }
    proof[..len].reverse();
    Some(len)
}

/// Tells whether a leaf stands at its place in the tree (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify(root: &Hash, count: u32, index: u32, leaf: Hash, proof: &[Hash]) -> bool {
    if index >= count {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, count - 1, leaf);
    for beside in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            // The right edge of the tree skips the levels on which it has no sibling.
            let skipped = at.trailing_zeros();
            (at, last) = (at >> skipped, last >> skipped);
        } else {
            hash = node(&hash, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}
