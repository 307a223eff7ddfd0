//! Numbers as the formats write them.

use std::borrow::Cow;

/// A value. What Go's parser takes and Rust's does not (hexadecimal, digits
/// with underscores) is refused by upstream too.
pub fn parse(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    Some(plain(text.parse().ok()?))
}

/// Every NaN as the ordinary one.
pub fn plain(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// The number that a label says, as OpenMetrics writes it; what is no number
/// stays. Upstream reads `le` and `quantile` so.
pub fn canonical(text: Cow<'_, str>) -> Cow<'_, str> {
    match parse(text.as_bytes()) {
        Some(value) => {
            let written = write(value);
            if written == text { text } else { Cow::Owned(written) }
        }
        None => text,
    }
}

/// `1.0`, `0.25`, `1e+06`, `+Inf`: Go's `%g` with the fewest digits, and a
/// point in any case.
pub fn write(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a whole exponent");
    // Where Go's shortest form turns to an exponent.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let mut plain = format!("{value}");
    if !plain.contains('.') {
        plain.push_str(".0");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_numbers() {
        for (text, expected) in [
            ("1", "1.0"),
            ("0", "0.0"),
            ("-0", "0.0"),
            ("-1", "-1.0"),
            ("0.25", "0.25"),
            ("1e3", "1000.0"),
            ("100000", "100000.0"),
            ("1000000", "1e+06"),
            ("1234567", "1.234567e+06"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e-100", "1e-100"),
            ("+Inf", "+Inf"),
            ("inf", "+Inf"),
            ("-Inf", "-Inf"),
            ("nan", "NaN"),
            ("", ""),
            ("c", "c"),
        ] {
            assert_eq!(canonical(Cow::Borrowed(text)), expected, "{text}");
        }
    }

    #[test]
    fn values() {
        for bad in ["", "1_2", "0x1p-3", "0x1P-3", "true", "1z", "--1", "1 ", "e"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"+Inf"), Some(f64::INFINITY));
        assert_eq!(parse(b"-1.5e3"), Some(-1500.0));
        assert_eq!(parse(b"NaN").map(f64::to_bits), Some(f64::NAN.to_bits()));
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        assert_eq!(plain(stale).to_bits(), f64::NAN.to_bits());
    }
}
