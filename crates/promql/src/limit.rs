//! `limitk` and `limit_ratio`: some series of each group, whatever their values.

use lm_model::Labels;

use crate::annotations::Note;
use crate::ast::Span;
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::rows::{ABSENT, Row};

/// Keeps the first `counts[step]` series of each group that have something.
pub(crate) fn first(
    evaluator: &mut Evaluator<'_>,
    groups: impl Iterator<Item = Vec<Row>>,
    counts: &[usize],
) -> Result<Vec<Row>, Error> {
    let mut kept = Vec::new();
    for mut rows in groups {
        let mut left = counts.to_vec();
        for row in &mut rows {
            evaluator.count_work(counts.len())?;
            retain(row, |step| {
                let is_kept = left[step] > 0;
                left[step] = left[step].saturating_sub(1);
                is_kept
            });
        }
        kept.extend(rows.into_iter().filter(|row| !row.is_empty()));
    }
    Ok(kept)
}

/// Keeps a share of all series, the same for the same labels; a negative ratio
/// keeps those that its complement leaves out.
pub(crate) fn share(
    evaluator: &mut Evaluator<'_>,
    mut rows: Vec<Row>,
    ratios: &[f64],
    span: Span,
) -> Result<Vec<Row>, Error> {
    let mut capped = Vec::with_capacity(ratios.len());
    for ratio in ratios {
        if ratio.is_nan() {
            return Err(Error::Execution("Ratio value is NaN".into()));
        }
        let within = ratio.clamp(-1.0, 1.0);
        if within != *ratio {
            evaluator.annotations.add(Note::InvalidRatio { found: *ratio, capped: within }, "", span);
        }
        capped.push(within);
    }
    for row in &mut rows {
        evaluator.count_work(ratios.len())?;
        let place = place(&row.labels);
        retain(row, |step| {
            let ratio = capped[step];
            if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
        });
    }
    rows.retain(|row| !row.is_empty());
    Ok(rows)
}

/// Empties the steps that have something and are not kept.
fn retain(row: &mut Row, mut keeps: impl FnMut(usize) -> bool) {
    let mut dropped = Vec::new();
    row.for_each_present(|step| {
        if !keeps(step) {
            dropped.push(step);
        }
    });
    for step in &dropped {
        row.values[*step] = ABSENT;
    }
    if !row.histograms.is_empty() {
        row.histograms.retain(|(step, _)| !dropped.contains(&(*step as usize)));
    }
}

/// Where in `[0, 1)` labels stand: their FNV-1a hash, mixed so that the upper
/// bits depend on all of them.
fn place(labels: &Labels) -> f64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, value) in labels.iter() {
        for byte in name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
