//! The series of one target, from scrape to scrape: which there are, what
//! they are called after relabeling, and which have ended.
//!
//! Plain logic over the bytes of an answer. A scrape is taken whole or not at
//! all: a mistake or a passed limit anywhere in it yields no sample, and ends
//! all series.

use std::collections::HashMap;

use lm_exposition::{Entry, Format, Label, Limits, Reader};
use lm_model::{Labels, METRIC_NAME, Timestamp, stale_nan};

use super::job::{Job, JobLimits};
use super::relabel::{LabelMap, relabel};

/// Names in an answer before relabeling; the limits of the job hold after it.
const RAW_LABELS_MAX: usize = 256;
/// Samples in an answer for each that may be kept: relabeling may drop many.
const RAW_SAMPLES_PER_KEPT: usize = 10;

/// One value of a finished scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapedSample {
    pub labels: Labels,
    pub time: Timestamp,
    pub value: f64,
}

/// What an answer had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub scraped: u32,
    /// After relabeling.
    pub kept: u32,
    /// Series that the answer before did not have.
    pub added: u32,
    /// Exponential histograms, of which only the classic form was taken.
    pub native_histograms: u32,
}

/// What is known of a target's series.
#[derive(Default)]
pub struct TargetSeries {
    /// By name and labels as the target writes them.
    known: HashMap<Box<[u8]>, Known>,
    round: u64,
    /// The last round whose samples were handed out.
    told: u64,
    /// The key of the sample at hand.
    key: Vec<u8>,
}

struct Known {
    /// `None` when relabeling drops it.
    labels: Option<Labels>,
    /// The first round that had it, and the last.
    since: u64,
    seen: u64,
    /// Whether its end has to be told: not when the target says times itself.
    is_tracked: bool,
}

impl TargetSeries {
    /// Reads an answer of the scrape at `time` and appends its samples, and
    /// an end for each series that is gone, to `out`. `counts` is also filled
    /// as far as an answer that fails was read.
    ///
    /// # Errors
    ///
    /// Why nothing of the answer was taken, for people: `out` is as it was.
    /// Call [`end`](Self::end) then.
    pub fn read(
        &mut self,
        job: &Job,
        target_labels: &LabelMap,
        (format, body): (Format, &[u8]),
        time: Timestamp,
        counts: &mut Counts,
        out: &mut Vec<ScrapedSample>,
    ) -> Result<(), String> {
        let before = out.len();
        self.round += 1;
        let read = self.read_samples(job, target_labels, (format, body), time, counts, out);
        if read.is_err() {
            out.truncate(before);
            return read;
        }
        let round = self.round;
        self.told = round;
        self.known.retain(|_, known| {
            if known.seen == round {
                return true;
            }
            out.extend(known.end(time));
            false
        });
        Ok(())
    }

    /// Appends an end for every series: the target has failed, or is gone.
    pub fn end(&mut self, time: Timestamp, out: &mut Vec<ScrapedSample>) {
        // What a failed answer brought first was never told.
        let told = self.told;
        let ended = self.known.drain().filter(|(_, known)| known.since <= told);
        out.extend(ended.filter_map(|(_, known)| known.end(time)));
    }

    fn read_samples(
        &mut self,
        job: &Job,
        target_labels: &LabelMap,
        (format, body): (Format, &[u8]),
        time: Timestamp,
        counts: &mut Counts,
        out: &mut Vec<ScrapedSample>,
    ) -> Result<(), String> {
        let limits = Limits {
            labels_max: RAW_LABELS_MAX,
            samples_max: (job.limits.samples_max as usize).saturating_mul(RAW_SAMPLES_PER_KEPT),
            ..Limits::default()
        };
        let mut reader = Reader::new(format, body, limits);
        while let Some(entry) = reader.next().map_err(|error| error.to_string())? {
            let sample = match entry {
                Entry::Sample(sample) => sample,
                Entry::NativeHistogram(_) => {
                    counts.native_histograms += 1;
                    continue;
                }
                // The wire has no place for types and help yet.
                Entry::Metadata(_) => continue,
            };
            counts.scraped += 1;
            let explicit = sample.time_unix_ms.filter(|_| job.honor_timestamps);
            write_key(&mut self.key, sample.name, sample.labels);
            let known = match self.known.get_mut(&self.key[..]) {
                Some(known) => known,
                None => {
                    let labels = final_labels(job, target_labels, sample.name, sample.labels)?;
                    counts.added += u32::from(labels.is_some());
                    self.known.entry(self.key.clone().into()).or_insert(Known {
                        labels,
                        since: self.round,
                        seen: 0,
                        is_tracked: true,
                    })
                }
            };
            // Said twice: the first counts.
            let is_repeated = known.seen == self.round && explicit.is_none();
            known.seen = self.round;
            known.is_tracked = explicit.is_none();
            let Some(labels) = &known.labels else { continue };
            if is_repeated {
                continue;
            }
            counts.kept += 1;
            if counts.kept > job.limits.samples_max {
                return Err(format!("more than {} samples (sample_limit)", job.limits.samples_max));
            }
            let time = explicit.map_or(time, Timestamp::from_millis);
            out.push(ScrapedSample { labels: labels.clone(), time, value: sample.value });
        }
        Ok(())
    }
}

impl Known {
    fn end(&self, time: Timestamp) -> Option<ScrapedSample> {
        let labels = self.labels.clone().filter(|_| self.is_tracked)?;
        Some(ScrapedSample { labels, time, value: stale_nan() })
    }
}

fn write_key(key: &mut Vec<u8>, name: &str, labels: &[Label<'_>]) {
    // No text in UTF-8 has this byte.
    const END: u8 = 0xff;
    key.clear();
    key.extend_from_slice(name.as_bytes());
    for label in labels {
        key.push(END);
        key.extend_from_slice(label.name.as_bytes());
        key.push(END);
        key.extend_from_slice(label.value.as_bytes());
    }
}

/// What a series is called; `None` when relabeling drops it.
fn final_labels(
    job: &Job,
    target_labels: &LabelMap,
    name: &str,
    own: &[Label<'_>],
) -> Result<Option<Labels>, String> {
    let mut labels: LabelMap =
        own.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
    labels.insert(METRIC_NAME.to_owned(), name.to_owned());
    for (label, value) in target_labels {
        if job.honor_labels {
            // A target says with an empty value that it wants none.
            labels.entry(label.clone()).or_insert_with(|| value.clone());
        } else if let Some(exposed) = labels.insert(label.clone(), value.clone())
            && !exposed.is_empty()
        {
            let mut exported = format!("exported_{label}");
            while labels.contains_key(&exported) || target_labels.contains_key(&exported) {
                exported.insert_str(0, "exported_");
            }
            labels.insert(exported, exposed);
        }
    }
    labels.retain(|_, value| !value.is_empty());
    if !relabel(&job.metric_relabel, &mut labels) {
        return Ok(None);
    }
    if !labels.contains_key(METRIC_NAME) {
        return Err(format!("metric_relabel_configs leaves {name} without a name"));
    }
    check(&labels, name, &job.limits)?;
    Ok(Some(Labels::from_pairs(labels)))
}

fn check(labels: &LabelMap, metric: &str, limits: &JobLimits) -> Result<(), String> {
    if labels.len() > limits.labels_max as usize {
        let (count, max) = (labels.len(), limits.labels_max);
        return Err(format!("{metric} has {count} labels (label_limit is {max})"));
    }
    for (name, value) in labels {
        if name.len() > limits.label_name_bytes_max as usize {
            let (bytes, max) = (name.len(), limits.label_name_bytes_max);
            return Err(format!(
                "{metric} has a label name of {bytes} bytes (label_name_length_limit is {max})"
            ));
        }
        if value.len() > limits.label_value_bytes_max as usize {
            let (bytes, max) = (value.len(), limits.label_value_bytes_max);
            return Err(format!(
                "{metric} has {bytes} bytes in label {name} (label_value_length_limit is {max})"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
