//! Decision trees over ranks: checked once, then walked without recursion.

use super::format::trees::{
    LEFT_IS_LEAF, MARK_BITS, RIGHT_IS_LEAF, ROOT_IS_LEAF, TreesHeader, order_key,
};
use super::{LoadError, Work, array};
use crate::limits::TREES_MAX;

/// Chips of 32 bits have short pipelines and guess no branches; larger ones lose more by a wrong guess
/// than by some more instructions.
const FEW_INSTRUCTIONS: bool = cfg!(target_pointer_width = "32");

/// The trees of a forest; see [`super::format::trees`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Trees<'d> {
    roots: &'d [u32],
    starts: &'d [u32],
    thresholds: &'d [i32],
    nodes: Nodes<'d>,
    leaves: &'d [u32],
    record_len: usize,
    fields: Fields,
}

#[derive(Clone, Copy, Debug)]
enum Nodes<'d> {
    Narrow(&'d [[u32; 1]]),
    Wide(&'d [[u32; 2]]),
}

/// Where the fields of a node's first word stand.
#[derive(Clone, Copy, Debug)]
struct Fields {
    feature_mask: u32,
    feature_bits: u32,
    /// The feature, too, which makes no difference where a rank is compared.
    rank_mask: u32,
    reference_shift: u32,
    reference_mask: u32,
}

impl<'d> Trees<'d> {
    /// Reads trees whose leaf records have `record_len` numbers, and checks that no walk leaves them.
    pub(super) fn load(
        model: &'d [u8],
        header: &TreesHeader,
        vector_len: usize,
        record_len: usize,
    ) -> Result<Self, LoadError> {
        let count = |count: u32| count as usize;
        let leaf_words = count(header.leaf_count).checked_mul(record_len).ok_or(LoadError::Part)?;
        let nodes = match header.node_words {
            1 => Nodes::Narrow(array(model, header.nodes, count(header.node_count))?),
            2 => Nodes::Wide(array(model, header.nodes, count(header.node_count))?),
            _ => return Err(LoadError::Model),
        };
        let trees = Self {
            roots: array(model, header.roots, count(header.tree_count))?,
            starts: array(model, header.starts, vector_len + 1)?,
            thresholds: array(model, header.thresholds, count(header.threshold_count))?,
            nodes,
            leaves: array(model, header.leaves, leaf_words)?,
            record_len,
            fields: Fields::new(header)?,
        };
        let legal = (1..=TREES_MAX).contains(&trees.roots.len())
            && trees.thresholds_are_legal()
            && match trees.nodes {
                Nodes::Narrow(nodes) => trees.nodes_are_legal(nodes),
                Nodes::Wide(nodes) => trees.nodes_are_legal(nodes),
            };
        if legal { Ok(trees) } else { Err(LoadError::Model) }
    }

    fn record_count(&self) -> usize {
        self.leaves.len() / self.record_len.max(1)
    }

    /// The thresholds of each feature ascend, and each feature's follow the last one's.
    fn thresholds_are_legal(&self) -> bool {
        let begins = self.starts.first() == Some(&0);
        let ends = self.starts.last().is_some_and(|end| *end as usize == self.thresholds.len());
        begins
            && ends
            && self.starts.windows(2).all(|bounds| {
                self.thresholds
                    .get(bounds[0] as usize..bounds[1] as usize)
                    .is_some_and(|thresholds| thresholds.is_sorted_by(|a, b| a < b))
            })
    }

    /// Every node names a threshold that exists, and leads to a leaf or a later node: a walk ends.
    fn nodes_are_legal<const WORDS: usize>(&self, nodes: &[[u32; WORDS]]) -> bool {
        let records = self.record_count();
        let nodes_are_legal = nodes.iter().enumerate().all(|(index, node)| {
            let word = node[0];
            let feature = (word & self.fields.feature_mask) as usize;
            let rank = ((word & self.fields.rank_mask) >> self.fields.feature_bits) as usize;
            let thresholds = self
                .starts
                .get(feature..)
                .and_then(|starts| starts.first_chunk())
                .map_or(0, |[start, end]| (end - start) as usize);
            let reference = self.fields.reference(node) as usize;
            let next = index + 1;
            let (left, right) = (word & LEFT_IS_LEAF != 0, word & RIGHT_IS_LEAF != 0);
            let children = match (left, right) {
                (true, true) => reference + 1 < records,
                (true, false) | (false, true) => reference < records && next < nodes.len(),
                (false, false) => next.saturating_add(reference).saturating_add(1) < nodes.len(),
            };
            rank < thresholds && children
        });
        nodes_are_legal
            && self.roots.iter().all(|root| {
                let index = (root & !ROOT_IS_LEAF) as usize;
                index < if root & ROOT_IS_LEAF == 0 { nodes.len() } else { records }
            })
    }

    pub(super) fn tree_count(&self) -> usize {
        self.roots.len()
    }

    /// Every leaf record.
    pub(super) fn records(&self) -> impl Iterator<Item = &'d [u32]> {
        self.leaves.chunks_exact(self.record_len.max(1))
    }

    /// Numbers of a vector, and so words of its ranks.
    pub(super) fn vector_len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Counts the steps of a run: the search in each feature's thresholds, and in each tree the walk
    /// that always follows the child with more nodes, which most rows do.
    pub(super) fn work(&self) -> Work {
        let searches = self.starts.windows(2).map(|bounds| {
            let count = bounds[1].saturating_sub(bounds[0]);
            1 + u64::from(u32::BITS - count.leading_zeros())
        });
        let walks = match self.nodes {
            Nodes::Narrow(nodes) => self.levels(nodes),
            Nodes::Wide(nodes) => self.levels(nodes),
        };
        let records = self.roots.len() * self.record_len;
        let integer_steps = searches.sum::<u64>() + walks + records as u64;
        Work { integer_steps, ..Work::default() }
    }

    fn levels<const WORDS: usize>(&self, nodes: &[[u32; WORDS]]) -> u64 {
        let mut levels = 0;
        for (tree, root) in self.roots.iter().enumerate() {
            if root & ROOT_IS_LEAF != 0 {
                continue;
            }
            let mut index = *root as usize;
            let next_root = self.roots.get(tree + 1).map(|root| *root as usize);
            let mut end = next_root.unwrap_or(nodes.len()).min(nodes.len());
            // The index grows: this ends.
            while let Some(node) = nodes.get(index) {
                levels += 1;
                index += 1;
                match node[0] & (LEFT_IS_LEAF | RIGHT_IS_LEAF) {
                    0 => {
                        let right = index + 1 + self.fields.reference(node) as usize;
                        if right - index >= end.saturating_sub(right) {
                            end = right;
                        } else {
                            index = right;
                        }
                    }
                    LEFT_IS_LEAF | RIGHT_IS_LEAF => {}
                    _ => break,
                }
            }
        }
        levels
    }

    /// Quantises a vector. A rank stands where a node has it, above the feature.
    pub(super) fn rank(&self, vector: &[f32], ranks: &mut [u32]) {
        let mut start = 0;
        let ends = self.starts.iter().skip(1);
        for ((x, rank), end) in vector.iter().zip(ranks).zip(ends) {
            let end = *end as usize;
            let key = order_key(*x);
            // Checked when the detector was loaded.
            let thresholds = self.thresholds.get(start..end).unwrap_or(&[]);
            let below = thresholds.partition_point(|threshold| *threshold < key);
            *rank = (below as u32) << self.fields.feature_bits;
            start = end;
        }
    }

    /// Hands the record of each tree's leaf to `add`, in the order of the trees.
    #[inline(always)]
    pub(super) fn each_leaf(&self, ranks: &[u32], add: impl FnMut(&[u32])) {
        match self.nodes {
            Nodes::Narrow(nodes) => self.walk_all(nodes, ranks, add),
            Nodes::Wide(nodes) => self.walk_all(nodes, ranks, add),
        }
    }

    #[inline(always)]
    fn walk_all<const WORDS: usize>(
        &self,
        nodes: &[[u32; WORDS]],
        ranks: &[u32],
        mut add: impl FnMut(&[u32]),
    ) {
        for root in self.roots {
            let index = (root & !ROOT_IS_LEAF) as usize;
            let record = if root & ROOT_IS_LEAF == 0 {
                self.fields.walk::<WORDS, FEW_INSTRUCTIONS>(nodes, ranks, index)
            } else {
                index
            };
            // Checked when the detector was loaded.
            if self.record_len == 1 {
                if let Some(number) = self.leaves.get(record) {
                    add(core::slice::from_ref(number));
                }
            } else {
                let start = record * self.record_len;
                if let Some(record) = self.leaves.get(start..start + self.record_len) {
                    add(record);
                }
            }
        }
    }
}

impl Fields {
    fn new(header: &TreesHeader) -> Result<Self, LoadError> {
        let feature_bits = u32::from(header.feature_bits);
        let reference_shift = feature_bits + u32::from(header.rank_bits);
        if reference_shift > u32::BITS - MARK_BITS {
            return Err(LoadError::Model);
        }
        let reference_bits = u32::BITS - MARK_BITS - reference_shift;
        Ok(Self {
            feature_mask: (1 << feature_bits) - 1,
            feature_bits,
            rank_mask: (1 << reference_shift) - 1,
            reference_shift,
            reference_mask: (1 << reference_bits) - 1,
        })
    }

    #[inline(always)]
    fn reference<const WORDS: usize>(&self, node: &[u32; WORDS]) -> u32 {
        if WORDS == 1 {
            (node[0] >> self.reference_shift) & self.reference_mask
        } else {
            node[WORDS - 1]
        }
    }

    /// Walks from a node to a leaf and returns the leaf's record: with a branch for either child,
    /// which takes the fewest instructions, or without, where a wrong guess costs more.
    #[inline(always)]
    fn walk<const WORDS: usize, const BRANCHES: bool>(
        &self,
        nodes: &[[u32; WORDS]],
        ranks: &[u32],
        root: usize,
    ) -> usize {
        let Some(rest) = nodes.get(root..) else { return 0 };
        let mut rest = rest.iter();
        // The lookups succeed, and nodes are left until a leaf is found: checked when the detector
        // was loaded.
        while let Some(node) = rest.next() {
            let word = node[0];
            let Some(rank) = ranks.get((word & self.feature_mask) as usize) else { break };
            let goes_right = *rank > word & self.rank_mask;
            if BRANCHES {
                if !goes_right {
                    if word & LEFT_IS_LEAF != 0 {
                        return self.reference(node) as usize;
                    }
                } else if word & RIGHT_IS_LEAF != 0 {
                    return (self.reference(node) + word / LEFT_IS_LEAF) as usize;
                } else if word & LEFT_IS_LEAF == 0 {
                    // Takes one node more than this number.
                    rest.nth(self.reference(node) as usize);
                }
            } else {
                let (left_is_leaf, right) = (word / LEFT_IS_LEAF, u32::from(goes_right));
                if (word << right) & LEFT_IS_LEAF != 0 {
                    return (self.reference(node) + (right & left_is_leaf)) as usize;
                }
                let skipped = (self.reference(node) + 1) & (right & !left_is_leaf).wrapping_neg();
                rest = rest.as_slice().get(skipped as usize..).unwrap_or(&[]).iter();
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields = Fields {
        feature_mask: 0xf,
        feature_bits: 4,
        rank_mask: 0xff,
        reference_shift: 8,
        reference_mask: 0x3f_ffff,
    };

    #[test]
    fn both_ways_to_walk_reach_the_leaf_that_a_hand_finds() {
        let node = |feature: u32, rank: u32, marks: u32, reference: u32| {
            [feature | (rank << 4) | (reference << 8) | marks]
        };
        // Both children are nodes; the right one is two nodes behind the left one.
        let nodes = [
            node(0, 3, 0, 1),
            node(1, 1, LEFT_IS_LEAF, 5),
            node(2, 0, LEFT_IS_LEAF | RIGHT_IS_LEAF, 10),
            node(1, 2, RIGHT_IS_LEAF, 7),
            node(2, 4, LEFT_IS_LEAF | RIGHT_IS_LEAF, 20),
        ];
        for (ranks, record) in [
            ([3, 1, 9], 5),
            ([3, 2, 0], 10),
            ([0, 2, 1], 11),
            ([4, 3, 0], 7),
            ([4, 2, 4], 20),
            ([9, 0, 5], 21),
        ] {
            let ranks: [u32; 3] = ranks.map(|rank: u32| rank << 4);
            assert_eq!(FIELDS.walk::<1, true>(&nodes, &ranks, 0), record, "{ranks:?}");
            assert_eq!(FIELDS.walk::<1, false>(&nodes, &ranks, 0), record, "{ranks:?}");
        }
    }

    #[test]
    fn keys_have_the_order_of_their_numbers() {
        let numbers = [-f32::MAX, -2.5, -1e-40, 0.0, 1e-40, 1.0, 2.5, f32::MAX];
        assert!(numbers.map(order_key).is_sorted_by(|a, b| a < b));
        assert!(order_key(-0.0) < order_key(0.0) && order_key(-0.0) > order_key(-1e-45));
    }
}
