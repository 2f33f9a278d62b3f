//! The stream of the port, cut into requests and ciphertexts however TCP split or joined it.

use super::{CIPHERTEXT_LEN, KEY_REQUEST};

/// What a sender said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// It asks for the public key.
    KeyRequest,
    /// It sends a ciphertext.
    Ciphertext(Box<[u8; CIPHERTEXT_LEN]>),
}

/// Cuts a stream. A ciphertext that begins with the 18 bytes of the request, which is the only thing
/// that could be mistaken, comes once in 2^144.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Less than one item.
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes bytes in and returns what is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.rest.extend_from_slice(bytes);
        let mut items = Vec::new();
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            if rest.starts_with(KEY_REQUEST) {
                items.push(Item::KeyRequest);
                at += KEY_REQUEST.len();
            } else if let Some(ciphertext) = rest.first_chunk::<CIPHERTEXT_LEN>() {
                items.push(Item::Ciphertext(Box::new(*ciphertext)));
                at += CIPHERTEXT_LEN;
            } else {
                self.rest.drain(..at);
                return items;
            }
        }
    }

    /// Tells whether the stream may end here.
    #[must_use]
    pub fn is_between_items(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ciphertext(seed: u8) -> [u8; CIPHERTEXT_LEN] {
        std::array::from_fn(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
    }

    fn stream(kinds: &[Option<u8>]) -> (Vec<u8>, Vec<Item>) {
        let (mut bytes, mut items) = (Vec::new(), Vec::new());
        for kind in kinds {
            match kind {
                None => {
                    bytes.extend(KEY_REQUEST);
                    items.push(Item::KeyRequest);
                }
                Some(seed) => {
                    bytes.extend(ciphertext(*seed));
                    items.push(Item::Ciphertext(Box::new(ciphertext(*seed))));
                }
            }
        }
        (bytes, items)
    }

    #[test]
    fn a_request_that_is_cut_is_none() {
        for len in 0..KEY_REQUEST.len() {
            let mut splitter = Splitter::default();
            assert!(splitter.push(&KEY_REQUEST[..len]).is_empty());
            assert_eq!(splitter.is_between_items(), len == 0);
        }
    }

    #[test]
    fn a_ciphertext_may_begin_like_a_request() {
        let mut bytes = ciphertext(3);
        bytes[..17].copy_from_slice(&KEY_REQUEST[..17]);
        let mut splitter = Splitter::default();
        assert!(splitter.push(&bytes[..255]).is_empty());
        assert_eq!(splitter.push(&bytes[255..]), [Item::Ciphertext(Box::new(bytes))]);
    }

    proptest! {
        #[test]
        fn items_come_out_however_they_are_split(
            kinds in prop::collection::vec(prop::option::weighted(0.7, any::<u8>()), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let (bytes, expected) = stream(&kinds);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut splitter, mut items, mut start) = (Splitter::default(), Vec::new(), 0);
            for cut in cuts {
                items.extend(splitter.push(&bytes[start..cut]));
                start = cut;
            }
            prop_assert_eq!(items, expected);
            prop_assert!(splitter.is_between_items());
        }

        #[test]
        fn no_more_than_one_item_is_held(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut splitter = Splitter::default();
            splitter.push(&bytes);
            prop_assert!(splitter.rest.len() < CIPHERTEXT_LEN);
        }
    }
}
