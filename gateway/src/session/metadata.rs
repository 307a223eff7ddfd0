//! Metadata, targets and counts as the Prometheus API shows them.

use std::io::Write as _;

use capnp::struct_list;
use lm_schema::query_capnp::target::Health;
use lm_schema::query_capnp::{metric_metadata, named_count, store_status, target};

use super::ask::read_labels;
use super::unix_nano;
use crate::backend::TargetFilter;
use crate::json::{push_labels, push_string};

const SUCCESS: &[u8] = br#"{"status":"success","data":"#;

/// By metric, each with one description.
pub(super) fn descriptions(
    list: struct_list::Reader<'_, metric_metadata::Owned>,
) -> Result<Vec<u8>, capnp::Error> {
    let mut to = SUCCESS.to_vec();
    to.push(b'{');
    for (index, of) in list.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        push_string(&mut to, of.get_metric()?.to_str()?);
        to.extend_from_slice(br#":[{"type":"#);
        push_string(&mut to, of.get_type()?.to_str()?);
        to.extend_from_slice(br#","help":"#);
        push_string(&mut to, of.get_help()?.to_str()?);
        to.extend_from_slice(br#","unit":"#);
        push_string(&mut to, of.get_unit()?.to_str()?);
        to.extend_from_slice(b"}]");
    }
    to.extend_from_slice(b"}}");
    Ok(to)
}

/// Hosts and scraped targets.
pub(super) fn targets(
    list: struct_list::Reader<'_, target::Owned>,
    filter: &TargetFilter,
) -> Result<Vec<u8>, capnp::Error> {
    let mut to = SUCCESS.to_vec();
    to.extend_from_slice(br#"{"activeTargets":["#);
    let mut labels = Vec::new();
    let mut is_first = true;
    for of in list.iter().filter(|_| filter.is_active) {
        labels.clear();
        read_labels(of.get_labels()?, &mut labels)?;
        let label = |name| labels.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
        let (job, instance) = (label("job"), label("instance"));
        if !filter.pool.is_empty() && filter.pool != job {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            to.push(b',');
        }
        to.extend_from_slice(br#"{"discoveredLabels":"#);
        push_labels(&mut to, [("__address__", instance), ("job", job)].into_iter());
        to.extend_from_slice(br#","labels":"#);
        push_labels(&mut to, labels.iter().copied());
        to.extend_from_slice(br#","scrapePool":"#);
        push_string(&mut to, job);
        // An agent reads its host; nobody calls it there. Of a target that it
        // scrapes it says more than samples do.
        let (said_url, said_error) = (of.get_scrape_url()?.to_str()?, of.get_last_error()?.to_str()?);
        let (url, trouble) = match (of.get_is_host(), said_error) {
            (true, _) => (format!("agent://{instance}/"), "the agent has no session with the collector"),
            (false, "") => (format!("http://{instance}/metrics"), "the scrape failed"),
            (false, error) => (String::new(), error),
        };
        let url = if said_url.is_empty() { url } else { said_url.to_owned() };
        for key in ["scrapeUrl", "globalUrl"] {
            let _ = write!(to, r#","{key}":"#);
            push_string(&mut to, &url);
        }
        let (health, error) = match of.get_health()? {
            Health::Up => ("up", ""),
            Health::Down => ("down", trouble),
            Health::Unknown => ("unknown", ""),
        };
        to.extend_from_slice(br#","lastError":"#);
        push_string(&mut to, error);
        let _ = write!(to, r#","lastScrape":"{}""#, rfc3339(of.get_last_sample_unix_ms()));
        let _ = write!(to, r#","lastScrapeDuration":{}"#, of.get_duration_micros() as f64 / 1e6);
        let or = |said: u64, seen: u64| duration(if said > 0 { said } else { seen });
        let interval = or(of.get_scrape_interval_ms(), of.get_interval_ms());
        let timeout = or(of.get_scrape_timeout_ms(), of.get_interval_ms());
        let _ =
            write!(to, r#","health":"{health}","scrapeInterval":"{interval}","scrapeTimeout":"{timeout}"}}"#);
    }
    to.extend_from_slice(br#"],"droppedTargets":[],"droppedTargetCounts":{}}}"#);
    Ok(to)
}

/// Cardinality, as of `status/tsdb`.
pub(super) fn tsdb(status: store_status::Reader<'_>) -> Result<Vec<u8>, capnp::Error> {
    let mut to = SUCCESS.to_vec();
    let _ = write!(
        to,
        r#"{{"headStats":{{"numSeries":{},"numLabelPairs":{},"chunkCount":{},"minTime":{},"maxTime":{}}}"#,
        status.get_series(),
        status.get_label_pairs(),
        status.get_chunks(),
        status.get_oldest_unix_ms(),
        status.get_newest_unix_ms(),
    );
    push_counts(&mut to, "seriesCountByMetricName", status.get_series_by_metric()?)?;
    push_counts(&mut to, "labelValueCountByLabelName", status.get_values_by_label()?)?;
    push_counts(&mut to, "memoryInBytesByLabelName", status.get_bytes_by_label()?)?;
    push_counts(&mut to, "seriesCountByLabelValuePair", status.get_series_by_pair()?)?;
    to.extend_from_slice(b"}}");
    Ok(to)
}

fn push_counts(
    to: &mut Vec<u8>,
    key: &str,
    counts: struct_list::Reader<'_, named_count::Owned>,
) -> Result<(), capnp::Error> {
    let _ = write!(to, r#","{key}":["#);
    for (index, of) in counts.iter().enumerate() {
        to.extend_from_slice(if index > 0 { br#",{"name":"# } else { br#"{"name":"# });
        push_string(to, of.get_name()?.to_str()?);
        let _ = write!(to, r#","value":{}}}"#, of.get_count());
    }
    to.push(b']');
    Ok(())
}

/// As of `status/runtimeinfo`. What is Go's is 0 or empty.
pub(super) fn runtime(status: store_status::Reader<'_>) -> Vec<u8> {
    let mut to = SUCCESS.to_vec();
    let started = rfc3339(status.get_start_unix_ms());
    let now = rfc3339(unix_nano() / 1_000_000);
    let retention = duration(status.get_retention_ms());
    let _ = write!(
        to,
        r#"{{"startTime":"{started}","CWD":"","hostname":"","serverTime":"{now}","reloadConfigSuccess":true,"lastConfigTime":"{started}","corruptionCount":0,"goroutineCount":0,"GOMAXPROCS":0,"GOMEMLIMIT":0,"GOGC":"","GODEBUG":"","storageRetention":"{retention}"}}}}"#
    );
    to
}

/// The zero time of Go when it cannot be said.
fn rfc3339(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => "0001-01-01T00:00:00Z".to_owned(),
    }
}

/// `1h30m`, as Prometheus writes durations.
fn duration(mut millis: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in UNITS {
        // Days only when they are whole, as there.
        if millis >= size && (unit != "d" || millis.is_multiple_of(size)) {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        for (millis, expected) in [
            (0, "0s"),
            (15_000, "15s"),
            (90_000, "1m30s"),
            (1_500, "1s500ms"),
            (86_400_000, "1d"),
            (90_000_000, "25h"),
        ] {
            assert_eq!(duration(millis), expected);
        }
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(i64::MAX), "0001-01-01T00:00:00Z");
    }
}
