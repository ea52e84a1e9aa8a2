//! A static trie over bytes: a sorted set of strings whose common beginnings are stored once.
//!
//! Nodes are in breadth-first order, so the children of a node lie side by side, sorted by byte. A node
//! takes 9 bytes. Working on UTF-8 bytes, not on tokens, makes one trie serve every way of spelling a word in pieces.

use super::prefix::NONE;
use std::collections::VecDeque;
use std::ops::Range;

/// The node of the empty string.
pub(crate) const START: u32 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByteTrie {
    /// The first child of each node, and one entry more to end the last.
    first: Vec<u32>,
    /// The byte that leads to each node; the start's is unused.
    byte: Vec<u8>,
    /// The string that ends at each node, as its place in the sorted set, else [`NONE`].
    key: Vec<u32>,
}

impl ByteTrie {
    /// The trie of `keys`, which must be sorted by bytes and distinct.
    pub fn new<K: AsRef<[u8]>>(keys: &[K]) -> Self {
        let mut trie = Self {
            first: Vec::new(),
            byte: vec![0],
            key: Vec::new(),
        };
        let mut open: VecDeque<(Range<usize>, usize)> = VecDeque::from([(0..keys.len(), 0)]);
        while let Some((mut range, depth)) = open.pop_front() {
            let ends_here = keys[range.clone()]
                .first()
                .is_some_and(|key| key.as_ref().len() == depth);
            trie.key
                .push(if ends_here { range.start as u32 } else { NONE });
            trie.first.push(trie.byte.len() as u32);
            range.start += usize::from(ends_here);
            while let Some(&byte) = keys[range.clone()]
                .first()
                .and_then(|key| key.as_ref().get(depth))
            {
                let same = keys[range.clone()]
                    .partition_point(|key| key.as_ref().get(depth) == Some(&byte));
                let end = range.start + same.max(1);
                trie.byte.push(byte);
                open.push_back((range.start..end, depth + 1));
                range.start = end;
            }
        }
        trie.first.push(trie.byte.len() as u32);
        trie
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.key.len()
    }

    /// The children of a node.
    pub fn children(&self, node: u32) -> Range<u32> {
        let at = node as usize;
        self.first[at]..self.first[at + 1]
    }

    /// The byte that leads to a node.
    pub fn byte(&self, node: u32) -> u8 {
        self.byte[node as usize]
    }

    /// The string that ends at a node, as its place in the sorted set.
    pub fn key(&self, node: u32) -> Option<u32> {
        Some(self.key[node as usize]).filter(|&key| key != NONE)
    }

    /// The node one byte on.
    pub fn next(&self, node: u32, byte: u8) -> Option<u32> {
        let children = self.children(node);
        let bytes = &self.byte[children.start as usize..children.end as usize];
        let at = bytes.iter().position(|&b| b >= byte)?;
        (bytes[at] == byte).then_some(children.start + at as u32)
    }

    /// The node a string on.
    pub fn walk(&self, node: u32, text: &[u8]) -> Option<u32> {
        text.iter()
            .try_fold(node, |node, &byte| self.next(node, byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_trie_has_only_its_start() {
        let trie = ByteTrie::new::<&str>(&[]);
        assert_eq!(
            (trie.len(), trie.key(START), trie.next(START, 97)),
            (1, None, None)
        );
    }

    proptest! {
        #[test]
        fn it_holds_its_keys_and_nothing_else(
            keys in prop::collection::btree_set("[abé]{0,5}", 0..20),
            other in "[abé]{0,5}",
        ) {
            let sorted: Vec<&str> = keys.iter().map(String::as_str).collect();
            let trie = ByteTrie::new(&sorted);
            let find = |text: &str| trie.walk(START, text.as_bytes()).and_then(|node| trie.key(node));
            for (place, key) in sorted.iter().enumerate() {
                prop_assert_eq!(find(key), Some(place as u32));
            }
            prop_assert_eq!(find(&other).is_some(), keys.contains(&other));
            let beginnings: BTreeSet<&[u8]> =
                sorted.iter().flat_map(|key| (0..=key.len()).map(|n| &key.as_bytes()[..n])).collect();
            prop_assert_eq!(trie.len(), beginnings.len().max(1));
        }
    }
}
