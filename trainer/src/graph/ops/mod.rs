//! Shape rules: one builder method an operator. Each checks its operands and adds a node.

mod conv;
mod elementwise;
mod fused;
mod matrix;
mod pool;
mod recurrent;
mod reduce;
mod shape;

pub(crate) use conv::conv_length;

/// The NumPy broadcast of two shapes, or `None` where they do not fit.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|axis| {
            let at = |s: &[usize]| {
                (axis + s.len())
                    .checked_sub(rank)
                    .map_or(1, |index| s[index])
            };
            match (at(a), at(b)) {
                (x, y) if x == y => Some(x),
                (1, y) => Some(y),
                (x, 1) => Some(x),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::broadcast;

    #[test]
    fn broadcasts_as_numpy_does() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]), Some(vec![2, 4, 3]));
        assert_eq!(broadcast(&[], &[5]), Some(vec![5]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
