//! Connected components of a binary image: their boxes and pixels.

/// A group of set pixels that touch, corners included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    /// Left, top, right and bottom; right and bottom are outside.
    pub bounds: [usize; 4],
    /// Its pixels, as indices of the image.
    pub pixels: Vec<u32>,
}

impl Component {
    pub fn width(&self) -> usize {
        self.bounds[2] - self.bounds[0]
    }

    pub fn height(&self) -> usize {
        self.bounds[3] - self.bounds[1]
    }
}

/// The components of `set`, an image `width` pixels wide, from top to bottom by their first pixel.
pub(super) fn components(set: &[bool], width: usize) -> Vec<Component> {
    let mut seen = vec![false; set.len()];
    let height = set.len().checked_div(width).unwrap_or(0);
    let mut found = Vec::new();
    let mut open = Vec::new();
    for first in 0..set.len() {
        if !set[first] || seen[first] {
            continue;
        }
        seen[first] = true;
        open.push(first);
        let mut component = Component {
            bounds: [width, height, 0, 0],
            pixels: Vec::new(),
        };
        while let Some(at) = open.pop() {
            let (x, y) = (at % width, at / width);
            let [left, top, right, bottom] = component.bounds;
            component.bounds = [left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)];
            component.pixels.push(at as u32);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let next = row * width + column;
                    if set[next] && !seen[next] {
                        seen[next] = true;
                        open.push(next);
                    }
                }
            }
        }
        found.push(component);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn corners_connect_and_gaps_part() {
        let picture = ["##..#", "..#.#", ".....", "#...#"];
        let set: Vec<bool> = picture.concat().chars().map(|c| c == '#').collect();
        let found = components(&set, 5);
        let bounds: Vec<_> = found.iter().map(|c| (c.bounds, c.pixels.len())).collect();
        assert_eq!(
            bounds,
            [
                ([0, 0, 3, 2], 3),
                ([4, 0, 5, 2], 2),
                ([0, 3, 1, 4], 1),
                ([4, 3, 5, 4], 1)
            ]
        );
    }

    proptest! {
        #[test]
        fn every_set_pixel_is_in_one_component(set in proptest::collection::vec(any::<bool>(), 60)) {
            let mut all: Vec<u32> = components(&set, 10).into_iter().flat_map(|c| c.pixels).collect();
            all.sort_unstable();
            let expected: Vec<u32> = (0..60).filter(|&i| set[i as usize]).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
