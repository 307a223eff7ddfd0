//! Answers as messages.

use lm_mesh::{Grant, Terms};
use lm_model::{Labels, Sample};
use lm_promql::{Element, Point, Value};
use lm_schema::query_capnp::{ResultType, answer, failure, names};

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
    let one = |(labels, sample): (Labels, Sample)| (labels, vec![sample]);
    let (kind, rows) = match answer.value {
        Value::Scalar(sample) => {
            (ResultType::Scalar, Rows { series: [one((Labels::empty(), sample))].into(), ..Rows::default() })
        }
        Value::Vector(elements) => {
            // Nothing stores native histograms yet.
            let number = |element: Element| match element.point {
                Point::Number(value) => Some(one((element.labels, Sample { time: element.time, value }))),
                Point::Histogram(_) => None,
            };
            let series = elements.into_iter().filter_map(number).collect();
            (ResultType::Vector, Rows { series, ..Rows::default() })
        }
        Value::Matrix(series) => {
            let series = series.into_iter().map(|series| (series.labels, series.samples)).collect();
            (ResultType::Matrix, Rows { series, ..Rows::default() })
        }
        Value::String(time, text) => {
            // Its time travels as a sample without a meaning of its own.
            let at = (Labels::empty(), Sample { time, value: 0.0 });
            (ResultType::String, Rows { series: [one(at)].into(), text })
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
