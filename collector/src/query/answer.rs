//! Answers as messages.

use lm_mesh::{Grant, Terms};
use lm_model::{Labels, Sample};
use lm_promql::{Element, Point, SeriesData, Value};
use lm_schema::query_capnp::{ResultType, answer, failure, formatted, names};

use super::context::Evaluated;
use super::cursor::{CursorServer, Rows};
use super::failed::Failed;

pub(super) fn write_answer(grant: &Grant, result: Result<Evaluated, Failed>, mut to: answer::Builder<'_>) {
    let Evaluated { answer, waited, took } = match result {
        Ok(evaluated) => evaluated,
        Err(failed) => return write_failure(&failed, to.init_failed()),
    };
    let mut opened = to.reborrow().init_ok();
    write_texts(&answer.warnings, opened.reborrow().init_warnings(answer.warnings.len() as u32));
    write_texts(&answer.infos, opened.reborrow().init_infos(answer.infos.len() as u32));
    let mut stats = opened.reborrow().init_stats();
    stats.set_queue_micros(waited.as_micros() as u64);
    stats.set_eval_micros(took.as_micros() as u64);
    stats.set_samples_read(answer.stats.samples_read as u64);
    stats.set_samples_peak(answer.stats.samples_peak as u64);
    let number =
        |labels: Labels, sample: Sample| SeriesData { labels, samples: vec![sample], histograms: Vec::new() };
    let one = |Element { labels, time, point }: Element| match point {
        Point::Number(value) => number(labels, Sample { time, value }),
        Point::Histogram(histogram) => {
            SeriesData { labels, samples: Vec::new(), histograms: vec![(time, histogram)] }
        }
    };
    let rows = |series: Vec<SeriesData>| Rows { series: series.into(), ..Rows::default() };
    let (kind, rows) = match answer.value {
        Value::Scalar(sample) => (ResultType::Scalar, rows(vec![number(Labels::empty(), sample)])),
        Value::Vector(elements) => (ResultType::Vector, rows(elements.into_iter().map(one).collect())),
        Value::Matrix(series) => (ResultType::Matrix, rows(series)),
        Value::String(time, text) => {
            // Its time travels as a sample without a meaning of its own.
            let at = number(Labels::empty(), Sample { time, value: 0.0 });
            (ResultType::String, Rows { series: [at].into(), text })
        }
    };
    opened.set_type(kind);
    opened.set_cursor(grant.derive(Terms::default(), |_| CursorServer::new(rows)));
}

fn write_texts(from: &[String], mut to: capnp::text_list::Builder<'_>) {
    for (index, text) in from.iter().enumerate() {
        to.set(index as u32, &text[..]);
    }
}

pub(super) fn write_names(result: Result<(Vec<String>, bool), Failed>, mut to: names::Builder<'_>) {
    match result {
        Ok((found, is_truncated)) => {
            to.set_is_truncated(is_truncated);
            write_texts(&found, to.init_ok(found.len() as u32));
        }
        Err(failed) => write_failure(&failed, to.init_failed()),
    }
}

pub(super) fn write_failure(failed: &Failed, mut to: failure::Builder<'_>) {
    to.set_kind(failed.kind);
    to.set_message(&failed.message[..]);
}

pub(super) fn write_text(result: Result<String, Failed>, mut to: formatted::Builder<'_>) {
    match result {
        Ok(text) => to.set_ok(&text[..]),
        Err(failed) => write_failure(&failed, to.init_failed()),
    }
}
