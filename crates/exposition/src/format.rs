//! Which format an answer has.

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text 0.0.4 and 1.0.0.
    PrometheusText,
    /// OpenMetrics text 0.0.1 and 1.0.0.
    OpenMetricsText,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// What a `Content-Type` names; `None` when it is no format of metrics.
    /// `text/plain` of any version is Prometheus' text.
    pub fn from_content_type(value: &str) -> Option<Format> {
        let mut parts = value.split(';').map(str::trim);
        let parameters = parts.clone().skip(1);
        let is_set = |name: &str, expected: &str| {
            parameters.clone().any(|parameter| {
                parameter.split_once('=').is_some_and(|(key, value)| {
                    key.trim().eq_ignore_ascii_case(name) && value.trim().trim_matches('"') == expected
                })
            })
        };
        let essence = parts.next().unwrap_or_default();
        if essence.eq_ignore_ascii_case("text/plain") {
            Some(Format::PrometheusText)
        } else if essence.eq_ignore_ascii_case("application/openmetrics-text") {
            Some(Format::OpenMetricsText)
        } else if essence.eq_ignore_ascii_case("application/vnd.google.protobuf") {
            let is_known =
                is_set("proto", "io.prometheus.client.MetricFamily") && is_set("encoding", "delimited");
            is_known.then_some(Format::Protobuf)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("text/plain; version=0.0.4; charset=utf-8", Some(Format::PrometheusText)),
            ("text/plain", Some(Format::PrometheusText)),
            ("Text/Plain;version=1.0.0;escaping=allow-utf-8", Some(Format::PrometheusText)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(Format::OpenMetricsText)),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                Some(Format::Protobuf),
            ),
            ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text", None),
            ("application/vnd.google.protobuf", None),
            ("text/html; charset=utf-8", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Format::from_content_type(value), expected, "{value}");
        }
    }
}
