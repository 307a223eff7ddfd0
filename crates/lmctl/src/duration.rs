//! Durations on the command line.

use std::time::Duration;

/// Longest duration that makes sense here.
const DAYS_MAX: f64 = 365.0;

/// `500us`, `10ms`, `2s`, `5m`, `1h`; a bare number counts seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name));
    let (number, factor) =
        unit.map_or((text, 1.0), |(name, factor)| (&text[..text.len() - name.len()], *factor));
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.parse::<f64>() {
        Ok(value) if is_number && value * factor <= DAYS_MAX * 86_400.0 => {
            Ok(Duration::from_secs_f64(value * factor))
        }
        _ => Err("a duration is written 500us, 10ms, 2s, 5m or 1h".to_owned()),
    }
}

/// As [`parse`], for periods: at least a tenth of a second.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        period if period >= Duration::from_millis(100) => Ok(period),
        _ => Err("at least 100ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(parse("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "s", "-1s", "1e9", "NaN", "inf", "1d", "1 s", "99999999h", "."] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse_period("0").is_err());
    }
}
