//! OpenTelemetry's names as Prometheus 3 writes them by default: underscores,
//! and suffixes that say unit and type.

/// The name of a metric. `is_counter`: of a sum that only grows.
pub fn metric(name: &str, unit: &str, is_counter: bool, is_gauge: bool) -> String {
    let mut words: Vec<&str> = name
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
        .filter(|word| !word.is_empty())
        .collect();
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main.trim(), per.trim()),
        None => (unit.trim(), ""),
    };
    let main = clean(expand(main));
    let per = clean(expand_per(per));
    for (word, prefix) in [(&main, None), (&per, Some("per"))] {
        if word.is_empty() {
            continue;
        }
        let parts: Vec<&str> = word.split('_').collect();
        if !parts.iter().all(|part| words.contains(part)) {
            words.extend(prefix);
            words.extend(parts);
        }
    }
    if is_counter {
        words.retain(|word| *word != "total");
        words.push("total");
    }
    if unit == "1" && is_gauge {
        words.retain(|word| *word != "ratio");
        words.push("ratio");
    }
    let mut named = words.join("_");
    if named.starts_with(|c: char| c.is_ascii_digit()) {
        named.insert(0, '_');
    }
    named
}

/// The name of a label.
pub fn label(name: &str) -> String {
    let mut named: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if named.starts_with(|c: char| c.is_ascii_digit()) {
        named.insert_str(0, "key_");
    } else if named.starts_with('_') && !named.starts_with("__") {
        named.insert_str(0, "key");
    }
    named
}

/// A unit of UCUM in words. Annotations in braces are no units.
fn expand(unit: &str) -> &str {
    if unit.contains(['{', '}']) {
        return "";
    }
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

/// What comes after "per", in the singular.
fn expand_per(unit: &str) -> &str {
    if unit.contains(['{', '}']) {
        return "";
    }
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// Only what a name may have, in words that are joined by one underscore.
fn clean(unit: &str) -> String {
    let words = unit.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        for (name, unit, is_counter, is_gauge, expected) in [
            ("system.io", "By", true, false, "system_io_bytes_total"),
            ("system.io", "By", false, false, "system_io_bytes"),
            ("http.server.duration", "ms", false, false, "http_server_duration_milliseconds"),
            ("network.rate", "By/s", false, true, "network_rate_bytes_per_second"),
            ("memory.usage.bytes", "By", false, true, "memory_usage_bytes"),
            ("cpu.utilization", "1", false, true, "cpu_utilization_ratio"),
            ("requests.total", "{requests}", true, false, "requests_total"),
            ("active", "{requests}/s", false, true, "active_per_second"),
            ("2xx.count", "", true, false, "_2xx_count_total"),
            ("a..b--c", "", false, true, "a_b_c"),
            ("job:rate", "", false, true, "job:rate"),
            ("fuel", "%", false, true, "fuel_percent"),
        ] {
            assert_eq!(metric(name, unit, is_counter, is_gauge), expected, "{name} {unit}");
        }
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        for (name, expected) in [
            ("http.status_code", "http_status_code"),
            ("1st", "key_1st"),
            ("_x", "key_x"),
            ("__x", "__x"),
            ("grün", "gr_n"),
        ] {
            assert_eq!(label(name), expected);
        }
    }
}
