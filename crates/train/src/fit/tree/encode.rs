//! From trees to the words of the detector file (see the core's `detector::format::trees`).

use std::collections::HashMap;

use stonechat_core::detector::format::trees::{
    LEFT_IS_LEAF, MARK_BITS, RIGHT_IS_LEAF, ROOT_IS_LEAF, TreesHeader, order_key,
};

use super::{Node, Tree};
use crate::compile::{append, number};

/// Appends trees that were checked. `quantise` appends the record of a leaf's value.
pub(in crate::fit) fn append_trees(
    bytes: &mut Vec<u8>,
    trees: &[Tree],
    vector_len: usize,
    value_len: usize,
    quantise: impl Fn(&[f64], &mut Vec<u32>),
) -> TreesHeader {
    let thresholds = Thresholds::collect(trees, vector_len);
    let leaves = Leaves::collect(trees, value_len, quantise);
    let mut roots = Vec::with_capacity(trees.len());
    let mut nodes = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        if tree.nodes[0].is_leaf() {
            roots.push(ROOT_IS_LEAF | leaves.one(index, &tree.nodes[0]));
        } else {
            roots.push(number(nodes.len()));
            lay_out(tree, index, &thresholds, &leaves, &mut nodes);
        }
    }
    let (rank_bits, feature_bits) = (thresholds.rank_bits(), bits(vector_len - 1));
    let widest = nodes.iter().map(|node| node.reference).max().unwrap_or(0);
    let shift = feature_bits + rank_bits;
    let narrow = shift + bits(widest as usize) + MARK_BITS <= u32::BITS;
    let mut words = Vec::with_capacity(nodes.len() * 2);
    for node in &nodes {
        let word = node.marks | node.rank << feature_bits | node.feature;
        if narrow {
            words.push(word | node.reference.unbounded_shl(shift));
        } else {
            words.extend([word, node.reference]);
        }
    }
    TreesHeader {
        tree_count: number(trees.len()),
        node_count: number(nodes.len()),
        threshold_count: number(thresholds.keys.len()),
        leaf_count: number(leaves.count),
        roots: append(bytes, &roots).offset,
        starts: append(bytes, &thresholds.starts).offset,
        thresholds: append(bytes, &thresholds.keys).offset,
        nodes: append(bytes, &words).offset,
        leaves: append(bytes, &leaves.records).offset,
        // Both are at most 32.
        rank_bits: rank_bits as u8,
        feature_bits: feature_bits as u8,
        node_words: if narrow { 1 } else { 2 },
        reserved: 0,
    }
}

/// Copies a model to where words start, as the core reads it in place; its length is a multiple of four.
pub(in crate::fit) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// The bits that hold a number up to `most`.
fn bits(most: usize) -> u32 {
    usize::BITS - most.leading_zeros()
}

/// A node before its fields are put together.
struct Laid {
    feature: u32,
    rank: u32,
    marks: u32,
    reference: u32,
}

/// Appends the nodes of a tree in preorder, without its leaves.
fn lay_out(
    tree: &Tree,
    index: usize,
    thresholds: &Thresholds,
    leaves: &Leaves,
    nodes: &mut Vec<Laid>,
) {
    // A node to lay out, and the one whose reference tells how far it is.
    let mut stack: Vec<(u32, Option<usize>)> = vec![(0, None)];
    while let Some((at, parent)) = stack.pop() {
        let node = tree.nodes[at as usize];
        let (left, right) = (tree.nodes[node.left as usize], tree.nodes[node.right as usize]);
        let place = nodes.len();
        if let Some(parent) = parent {
            nodes[parent].reference = number(place - parent - 2);
        }
        let (mut marks, mut reference) = (0, 0);
        match (left.is_leaf(), right.is_leaf()) {
            (true, true) => {
                marks = LEFT_IS_LEAF | RIGHT_IS_LEAF;
                reference = leaves.two(index, &left, &right);
            }
            (true, false) => {
                marks = LEFT_IS_LEAF;
                reference = leaves.one(index, &left);
                stack.push((node.right, None));
            }
            (false, true) => {
                marks = RIGHT_IS_LEAF;
                reference = leaves.one(index, &right);
                stack.push((node.left, None));
            }
            (false, false) => stack.extend([(node.right, Some(place)), (node.left, None)]),
        }
        let rank = thresholds.rank(&node);
        nodes.push(Laid { feature: node.feature, rank, marks, reference });
    }
}

/// The distinct thresholds of every feature.
struct Thresholds {
    starts: Vec<u32>,
    keys: Vec<i32>,
}

impl Thresholds {
    fn collect(trees: &[Tree], vector_len: usize) -> Self {
        let mut of_feature = vec![Vec::new(); vector_len];
        for node in trees.iter().flat_map(|tree| &tree.nodes).filter(|node| !node.is_leaf()) {
            of_feature[node.feature as usize].push(threshold_key(node));
        }
        let (mut starts, mut keys) = (vec![0], Vec::new());
        for mut of_feature in of_feature {
            of_feature.sort_unstable();
            of_feature.dedup();
            keys.append(&mut of_feature);
            starts.push(number(keys.len()));
        }
        Self { starts, keys }
    }

    fn of(&self, feature: u32) -> &[i32] {
        let bounds = &self.starts[feature as usize..][..2];
        &self.keys[bounds[0] as usize..bounds[1] as usize]
    }

    fn rank(&self, node: &Node) -> u32 {
        let key = threshold_key(node);
        number(self.of(node.feature).partition_point(|other| *other < key))
    }

    fn rank_bits(&self) -> u32 {
        let most = self.starts.windows(2).map(|bounds| bounds[1] - bounds[0]).max().unwrap_or(0);
        bits((most as usize).saturating_sub(1))
    }
}

/// -0 becomes +0, which it equals in a comparison of floating point.
fn threshold_key(node: &Node) -> i32 {
    order_key(node.threshold + 0.0)
}

/// The records of the leaves, each and each pair of them once.
struct Leaves {
    /// For each tree, the distinct record of each of its values.
    distinct: Vec<Vec<u32>>,
    /// Where a distinct record stands.
    singles: Vec<u32>,
    /// Where two distinct records stand side by side.
    pairs: HashMap<(u32, u32), u32>,
    records: Vec<u32>,
    count: usize,
}

impl Leaves {
    fn collect(trees: &[Tree], value_len: usize, quantise: impl Fn(&[f64], &mut Vec<u32>)) -> Self {
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut list: Vec<Vec<u32>> = Vec::new();
        let mut record = Vec::new();
        let mut distinct = Vec::with_capacity(trees.len());
        for tree in trees {
            let of_tree = tree.values.chunks_exact(value_len).map(|value| {
                record.clear();
                quantise(value, &mut record);
                known.get(&record).copied().unwrap_or_else(|| {
                    let index = number(list.len());
                    known.insert(record.clone(), index);
                    list.push(record.clone());
                    index
                })
            });
            distinct.push(of_tree.collect::<Vec<_>>());
        }
        let mut leaves = Self {
            distinct,
            singles: vec![u32::MAX; list.len()],
            pairs: HashMap::new(),
            records: Vec::new(),
            count: 0,
        };
        leaves.place(trees, &list);
        leaves
    }

    /// Pairs first: they hold most of the records that stand alone elsewhere.
    fn place(&mut self, trees: &[Tree], list: &[Vec<u32>]) {
        for (index, tree) in trees.iter().enumerate() {
            for node in tree.nodes.iter().filter(|node| !node.is_leaf()) {
                let children = [node.left, node.right].map(|child| tree.nodes[child as usize]);
                if !children.iter().all(Node::is_leaf) {
                    continue;
                }
                let pair = children.map(|child| self.distinct[index][child.left as usize]);
                if !self.pairs.contains_key(&(pair[0], pair[1])) {
                    let place = pair.map(|record| self.append(record, list))[0];
                    self.pairs.insert((pair[0], pair[1]), place);
                }
            }
        }
        for record in 0..list.len() {
            if self.singles[record] == u32::MAX {
                self.append(number(record), list);
            }
        }
    }

    fn append(&mut self, record: u32, list: &[Vec<u32>]) -> u32 {
        let place = number(self.count);
        self.records.extend(&list[record as usize]);
        self.count += 1;
        let single = &mut self.singles[record as usize];
        *single = place.min(*single);
        place
    }

    fn one(&self, tree: usize, leaf: &Node) -> u32 {
        self.singles[self.distinct[tree][leaf.left as usize] as usize]
    }

    fn two(&self, tree: usize, left: &Node, right: &Node) -> u32 {
        let [left, right] = [left, right].map(|leaf| self.distinct[tree][leaf.left as usize]);
        self.pairs[&(left, right)]
    }
}
