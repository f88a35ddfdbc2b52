//! Text as Python's `str` handles it: the kits' scores depend on its white space, digits and numbers.

/// The first digits, 0, of Unicode's sets of decimal digits (category Nd).
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The value of a decimal digit of any script.
pub fn digit(c: char) -> Option<u8> {
    let zero = ZEROS.partition_point(|&zero| zero <= u32::from(c)).checked_sub(1).map(|i| ZEROS[i])?;
    u8::try_from(u32::from(c) - zero).ok().filter(|value| *value < 10)
}

/// `str.isspace`, of one character.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `float(text)`: digits of any script, underscores between digits, `inf` and `nan`. Its white space is Unicode's, without
/// the separators U+001C to U+001F that `str.strip` removes.
pub fn float(text: &str) -> Option<f64> {
    let chars: Vec<char> = text.trim().chars().map(|c| digit(c).map_or(c, |value| char::from(b'0' + value))).collect();
    let is_digit = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(char::is_ascii_digit);
    let apart = |i: usize| is_digit(i.checked_sub(1)) && is_digit(Some(i + 1));
    let fits = chars.iter().enumerate().all(|(i, &c)| c != '_' || apart(i));
    fits.then(|| chars.into_iter().filter(|c| *c != '_').collect::<String>().parse().ok())?
}

/// `text.replace(what, by)` for the first `most` places that `is` names: is(text, i) of the characters around place i.
pub fn without(text: &str, most: usize, is: impl Fn(&[char], usize) -> bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut left = most;
    let stays = |&i: &usize| {
        let goes = left > 0 && is(&chars, i);
        left -= usize::from(goes);
        !goes
    };
    (0..chars.len()).filter(stays).map(|i| chars[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_python_reads_them() {
        for (text, value) in [(" 1_000.5\n", 1000.5), ("１２", 12.0), ("+.5", 0.5), ("1e3", 1000.0), ("-٣", -3.0)] {
            assert_eq!(float(text), Some(value), "{text}");
        }
        for text in ["", "1__0", "_1", "1_", "1,000", "0x10", "1 2", "²", "1_.5", "1 \u{1c}"] {
            assert_eq!(float(text), None, "{text}");
        }
        assert!(float("NaN").is_some_and(f64::is_nan) && float("-Infinity") == Some(f64::NEG_INFINITY));
    }
}
