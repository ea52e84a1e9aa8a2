//! A TrueType font made in memory, so that tests need none installed: every character is a pattern of squares.

use std::ops::RangeInclusive;

/// Units of the em.
const EM: u16 = 1000;

fn big(numbers: &[i32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|&n| (n as i16).to_be_bytes())
        .collect()
}

/// Three columns and five rows of squares, taken from the bits of a hash; never none.
fn glyph(character: char) -> Vec<u8> {
    let bits = (u32::from(character).wrapping_mul(0x9e37_79b1) >> 16) | 1;
    let squares: Vec<[i32; 2]> = (0..15)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| [50 + 150 * (bit % 3), 140 * (bit / 3)])
        .collect();
    let count = squares.len() as i32;
    let mut out = big(&[count, 50, 0, 470, 680]);
    out.extend(big(&(0..count).map(|i| 4 * i + 3).collect::<Vec<_>>()));
    out.extend(big(&[0]));
    // All points lie on the outline; all coordinates are 16-bit differences.
    out.extend(vec![1; 4 * squares.len()]);
    for axis in [0, 1] {
        let mut before = 0;
        for square in &squares {
            let corners = match axis {
                0 => [0, 0, 120, 120],
                _ => [0, 120, 120, 0],
            };
            for corner in corners {
                let at = square[axis] + corner;
                out.extend(big(&[at - before]));
                before = at;
            }
        }
    }
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A font that draws the characters of an ASCII range; a space is empty.
pub(super) fn font(characters: RangeInclusive<char>) -> Vec<u8> {
    let first = u32::from(*characters.start()) as i32;
    let (mut glyf, mut loca) = (Vec::new(), vec![0u32, 0]);
    for character in characters {
        if character != ' ' {
            glyf.extend(glyph(character));
        }
        loca.push(glyf.len() as u32);
    }
    let count = loca.len() as i32 - 1;
    let mut head = vec![
        0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x5f, 0x0f, 0x3c, 0xf5, 0, 0,
    ];
    head.extend(EM.to_be_bytes());
    head.extend([0; 16]);
    head.extend(big(&[0, 0, EM.into(), EM.into(), 0, 8, 2, 1, 0]));
    let mut hhea = vec![0, 1, 0, 0];
    hhea.extend(big(&[
        800, -200, 0, 560, 0, 0, 560, 1, 0, 0, 0, 0, 0, 0, 0, count,
    ]));
    let mut maxp = vec![0, 1, 0, 0];
    maxp.extend(big(&[count, 60, 15, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]));
    let hmtx = (0..count).flat_map(|_| big(&[560, 50])).collect();
    // One table of format 6: a range of characters, one glyph each from glyph 1 on.
    let mut cmap = big(&[
        0,
        1,
        3,
        1,
        0,
        12,
        6,
        10 + 2 * (count - 1),
        0,
        first,
        count - 1,
    ]);
    cmap.extend((1..count).flat_map(|id| big(&[id])));
    let loca = loca
        .iter()
        .flat_map(|offset| offset.to_be_bytes())
        .collect();
    let tables: [(&[u8; 4], Vec<u8>); 7] = [
        (b"cmap", cmap),
        (b"glyf", glyf),
        (b"head", head),
        (b"hhea", hhea),
        (b"hmtx", hmtx),
        (b"loca", loca),
        (b"maxp", maxp),
    ];
    let mut font = vec![0, 1, 0, 0, 0, 7, 0, 64, 0, 2, 0, 48];
    let mut body = Vec::new();
    for (name, data) in &tables {
        let offset = (12 + 16 * tables.len() + body.len()) as u32;
        font.extend_from_slice(*name);
        font.extend([0; 4]);
        font.extend(offset.to_be_bytes());
        font.extend((data.len() as u32).to_be_bytes());
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    font.extend(body);
    font
}
