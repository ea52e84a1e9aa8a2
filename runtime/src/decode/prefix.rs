//! The prefix tree: every token sequence a beam search looks at is one node, named by one number.
//!
//! A node is its parent's sequence and one token more. The pair (parent, token) leads to at most one node, so two
//! alignments of the same sequence always meet in the same node and their masses add up. Almost every node that is
//! asked for a child has none yet or few, so children are linked lists: nothing to hash, nothing to rebuild.

/// "No node", "no slot", "no token".
pub(crate) const NONE: u32 = u32::MAX;

/// The node of the sequence that everything alive continues.
pub(crate) const ROOT: u32 = 0;

/// One token sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub parent: u32,
    /// The sequence's last token, [`NONE`] for the empty sequence.
    pub token: u32,
    /// Where the sequence stands in the beam, [`NONE`] while it does not.
    pub slot: u32,
    /// Tokens since the root.
    pub depth: u32,
    /// The child made last.
    child: u32,
    /// The child of the same parent made before.
    sibling: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct PrefixTree {
    nodes: Vec<Node>,
}

impl PrefixTree {
    /// The tree of the empty sequence, which stands in slot 0, in the memory of `nodes` and with room for `capacity` nodes.
    pub fn within(mut nodes: Vec<Node>, capacity: usize) -> Self {
        nodes.clear();
        nodes.reserve(capacity);
        nodes.push(Node {
            parent: NONE,
            token: NONE,
            slot: 0,
            depth: 0,
            child: NONE,
            sibling: NONE,
        });
        Self { nodes }
    }

    /// The tree's memory; it is no tree any more.
    pub fn take_memory(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub fn set_slot(&mut self, node: u32, slot: u32) {
        self.nodes[node as usize].slot = slot;
    }

    /// The sequence `node` followed by `token`, if it has been met.
    pub fn child(&self, node: u32, token: u32) -> Option<u32> {
        let mut child = self.node(node).child;
        while child != NONE {
            let found = self.node(child);
            if found.token == token {
                return Some(child);
            }
            child = found.sibling;
        }
        None
    }

    /// The sequence `node` followed by `token`, and whether it is new.
    pub fn child_or_new(&mut self, node: u32, token: u32) -> (u32, bool) {
        if let Some(child) = self.child(node, token) {
            return (child, false);
        }
        // Compaction keeps the tree far below 2^32 nodes.
        let child = self.nodes.len() as u32;
        let parent = &mut self.nodes[node as usize];
        let sibling = std::mem::replace(&mut parent.child, child);
        let depth = parent.depth + 1;
        self.nodes.push(Node {
            parent: node,
            token,
            slot: NONE,
            depth,
            child: NONE,
            sibling,
        });
        (child, true)
    }

    /// The tokens from below `ancestor` down to `node`.
    pub fn tokens(&self, ancestor: u32, mut node: u32) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(self.node(node).depth as usize);
        while node != ancestor && node != ROOT {
            tokens.push(self.node(node).token);
            node = self.node(node).parent;
        }
        tokens.reverse();
        tokens
    }

    /// The ancestor of `node` that is at most `depth` tokens from the root.
    pub fn ancestor(&self, mut node: u32, depth: u32) -> u32 {
        while self.node(node).depth > depth {
            node = self.node(node).parent;
        }
        node
    }

    /// The longest sequence that all `nodes` begin with.
    pub fn common(&self, nodes: impl IntoIterator<Item = u32>) -> u32 {
        let mut nodes = nodes.into_iter();
        let first = nodes.next().unwrap_or(ROOT);
        nodes.fold(first, |common, node| {
            let depth = self.node(common).depth.min(self.node(node).depth);
            let (mut a, mut b) = (self.ancestor(common, depth), self.ancestor(node, depth));
            while a != b {
                (a, b) = (self.node(a).parent, self.node(b).parent);
            }
            a
        })
    }

    /// Makes `root` the root and drops every node that is no ancestor of a node of `alive`.
    ///
    /// All of `alive` must continue `root`. Returns where each old node went, [`NONE`] for the dropped.
    pub fn compact(&mut self, root: u32, alive: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut moved = vec![NONE; self.nodes.len()];
        moved[root as usize] = ROOT;
        for mut node in alive {
            while moved[node as usize] == NONE {
                moved[node as usize] = ROOT;
                node = self.node(node).parent;
            }
        }
        let base = self.node(root).depth;
        let mut kept = 0;
        for (old, place) in (0..).zip(&mut moved) {
            if *place == NONE {
                continue;
            }
            *place = kept;
            let mut node = self.nodes[old];
            node.depth -= base;
            self.nodes[kept as usize] = node;
            kept += 1;
        }
        self.nodes.truncate(kept as usize);
        for node in &mut self.nodes {
            node.parent = moved.get(node.parent as usize).copied().unwrap_or(NONE);
            node.child = NONE;
        }
        self.nodes[ROOT as usize].parent = NONE;
        for child in 1..kept {
            let parent = self.node(child).parent as usize;
            let sibling = std::mem::replace(&mut self.nodes[parent].child, child);
            self.nodes[child as usize].sibling = sibling;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_has_one_node() {
        let mut tree = PrefixTree::within(Vec::new(), 0);
        let a = tree.child_or_new(ROOT, 1).0;
        let ab = tree.child_or_new(a, 2).0;
        let b = tree.child_or_new(ROOT, 2).0;
        assert_eq!(tree.child(ROOT, 1), Some(a));
        assert_eq!(tree.child(a, 2), Some(ab));
        assert_eq!(tree.child_or_new(a, 2), (ab, false));
        assert_eq!(tree.child(b, 2), None);
        assert_eq!(tree.tokens(ROOT, ab), [1, 2]);
        assert_eq!(tree.common([ab, a]), a);
        assert_eq!(tree.common([ab, b]), ROOT);
        assert_eq!(tree.ancestor(ab, 1), a);
    }

    #[test]
    fn compaction_keeps_the_living_and_their_ancestors() {
        let mut tree = PrefixTree::within(Vec::new(), 0);
        let a = tree.child_or_new(ROOT, 1).0;
        let dead = tree.child_or_new(ROOT, 2).0;
        let ab = tree.child_or_new(a, 2).0;
        let abc = tree.child_or_new(ab, 3).0;
        let abd = tree.child_or_new(ab, 4).0;
        let moved = tree.compact(a, [abc, abd]);
        assert_eq!(moved[dead as usize], NONE);
        assert_eq!(moved[a as usize], ROOT);
        assert_eq!(tree.len(), 4);
        let (ab, abd) = (moved[ab as usize], moved[abd as usize]);
        assert_eq!(tree.node(abd).depth, 2);
        assert_eq!(tree.tokens(ROOT, abd), [2, 4]);
        assert_eq!(tree.child(ROOT, 2), Some(ab));
        assert_eq!(tree.node(ROOT).token, 1);
    }
}
