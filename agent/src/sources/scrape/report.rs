//! The series about a scrape itself, under Prometheus' names.

use std::time::Duration;

use lm_model::{Labels, METRIC_NAME, Timestamp, stale_nan};

use super::job::Job;
use super::relabel::LabelMap;
use super::series::{Counts, ScrapedSample};

/// The report series of one target.
pub struct Report {
    up: Labels,
    duration: Labels,
    scraped: Labels,
    kept: Labels,
    added: Labels,
    /// Timeout, sample limit and body size, where they are wanted.
    extra: Option<[Labels; 3]>,
}

/// How a scrape went.
pub struct Facts {
    pub is_up: bool,
    pub duration: Duration,
    pub counts: Counts,
    /// `None` when there is no whole answer.
    pub body_bytes: Option<usize>,
}

impl Report {
    pub fn new(job: &Job, target_labels: &LabelMap) -> Self {
        let named = |name: &str| {
            let pairs = target_labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            Labels::from_pairs(pairs.chain([(METRIC_NAME, name)]))
        };
        let extra = job
            .extra_metrics
            .then(|| ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"].map(named));
        Report {
            up: named("up"),
            duration: named("scrape_duration_seconds"),
            scraped: named("scrape_samples_scraped"),
            kept: named("scrape_samples_post_metric_relabeling"),
            added: named("scrape_series_added"),
            extra,
        }
    }

    /// Appends what is to be said of a scrape at `time`.
    pub fn write(&self, job: &Job, facts: &Facts, time: Timestamp, out: &mut Vec<ScrapedSample>) {
        let counts = &facts.counts;
        let mut push =
            |labels: &Labels, value| out.push(ScrapedSample { labels: labels.clone(), time, value });
        push(&self.up, f64::from(u8::from(facts.is_up)));
        push(&self.duration, facts.duration.as_secs_f64());
        push(&self.scraped, f64::from(counts.scraped));
        push(&self.kept, f64::from(counts.kept));
        push(&self.added, f64::from(counts.added));
        if let Some([timeout, sample_limit, body_size]) = &self.extra {
            push(timeout, job.timeout.as_secs_f64());
            push(sample_limit, f64::from(job.limits.samples_max));
            push(body_size, facts.body_bytes.map_or(-1.0, |bytes| bytes as f64));
        }
    }

    /// Appends an end for each: the target is gone.
    pub fn end(&self, time: Timestamp, out: &mut Vec<ScrapedSample>) {
        let always = [&self.up, &self.duration, &self.scraped, &self.kept, &self.added];
        let all = always.into_iter().chain(self.extra.iter().flatten());
        out.extend(all.map(|labels| ScrapedSample { labels: labels.clone(), time, value: stale_nan() }));
    }
}
