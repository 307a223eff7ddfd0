//! Numbers as bcache and bcachefs print them for people: `427.5k`, `1.1M/sec`.

/// The power of two that a letter stands for.
fn unit(letter: u8) -> Option<i32> {
    Some(
        10 * match letter {
            b'k' => 1,
            b'M' => 2,
            b'G' => 3,
            b'T' => 4,
            b'P' => 5,
            b'E' => 6,
            b'Z' => 7,
            b'Y' => 8,
            _ => return None,
        },
    )
}

/// A decimal number and maybe a unit, cut to a whole one: `2.05G`.
pub fn parse(text: &str) -> Option<f64> {
    let (digits, factor) = split_unit(text)?;
    Some((finite(digits)? * factor).trunc())
}

/// As [`parse`], where the digits after the point are hundredths of 1,024, so
/// that `.9` comes before `.10`: bcache's `bch_hprint`.
pub fn parse_bcache(text: &str) -> Option<f64> {
    let (digits, factor) = split_unit(text)?;
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    Some((sign * (finite(whole)? + finite(fraction)? / 10.24) * factor).trunc())
}

fn split_unit(text: &str) -> Option<(&str, f64)> {
    let text = text.strip_suffix("/sec").unwrap_or(text);
    match unit(*text.as_bytes().last()?) {
        Some(power) => Some((&text[..text.len() - 1], 2f64.powi(power))),
        None => Some((text, 1.0)),
    }
}

fn finite(digits: &str) -> Option<f64> {
    digits.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers() {
        assert_eq!(parse("2.05G"), Some(2_201_170_739.0));
        assert_eq!(parse("720"), Some(720.0));
        assert_eq!(parse("21.5P"), Some(24_206_847_997_116_416.0));
        for text in ["", "k", "x", "1.2.3", "infk", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_bcache() {
        assert_eq!(parse_bcache("1.1M/sec"), Some(1_150_976.0));
        assert_eq!(parse_bcache("-321.5k/sec"), Some(-329_204.0));
        assert_eq!(parse_bcache("0"), Some(0.0));
        for text in ["", "M", "/sec", "1.x"] {
            assert_eq!(parse_bcache(text), None, "{text}");
        }
    }
}
