//! Groups: runs of many series whose residuals are of one size, modelled by pco together.
//!
//! A model (bins and their weights) costs some dozen bytes, which is much for the few hundred samples that a series
//! has in a block. So runs of one width and about one number of bits share a pco chunk, each run a pco page of its
//! own, which decodes without the others.

use std::cell::RefCell;

use pco::errors::PcoError;
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, FULL_BATCH_N, ModeSpec, PagingSpec};

use super::bytes::{Cursor, put_u64};
use super::values::Head;
use super::{Malformed, RUN_SAMPLES_MAX};

/// A group is closed when it holds so many numbers.
pub(crate) const GROUP_NUMBERS: usize = 1 << 15;

/// Effort of pco. Above it the model grows more than the numbers shrink.
const LEVEL: usize = 8;

/// The type that numbers of a group have for pco: the narrower, the faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Width {
    I16 = 0,
    I32 = 1,
    I64 = 2,
    F64 = 3,
}

impl Width {
    /// The narrowest for residuals of which the largest is `largest` in zigzag.
    pub fn of(largest: u64) -> Width {
        match largest.leading_zeros() {
            48.. => Width::I16,
            32.. => Width::I32,
            _ => Width::I64,
        }
    }
}

/// Runs that wait to be modelled.
#[derive(Debug)]
pub(crate) struct Builder {
    width: Width,
    ints: Vec<i64>,
    floats: Vec<f64>,
    /// Numbers of each run.
    counts: Vec<usize>,
    heads: Vec<Vec<u8>>,
}

impl Builder {
    pub fn new(width: Width) -> Self {
        Builder { width, ints: Vec::new(), floats: Vec::new(), counts: Vec::new(), heads: Vec::new() }
    }

    /// Adds a run of `residuals`, not empty, and returns its place in the group.
    pub fn push_ints(&mut self, head: &Head, residuals: &[i64]) -> usize {
        let mut bytes = Vec::with_capacity(16);
        head.put(false, &mut bytes);
        self.ints.extend_from_slice(residuals);
        self.counts.push(residuals.len());
        self.heads.push(bytes);
        self.counts.len() - 1
    }

    pub fn push_floats(&mut self, values: &[f64]) -> usize {
        self.floats.extend_from_slice(values);
        self.counts.push(values.len());
        self.heads.push(Vec::new());
        self.counts.len() - 1
    }

    pub fn is_full(&self) -> bool {
        self.ints.len() + self.floats.len() >= GROUP_NUMBERS
    }

    /// The bytes of the group, which is not empty.
    pub fn finish(self) -> Vec<u8> {
        let compressed = match self.width {
            Width::I16 => compress(&self.narrow(|int| int as i16), &self.counts),
            Width::I32 => compress(&self.narrow(|int| int as i32), &self.counts),
            Width::I64 => compress(&self.ints, &self.counts),
            Width::F64 => compress(&self.floats, &self.counts),
        };
        let (model, pages) =
            compressed.expect("writing to memory works, and the configuration is a valid one");
        let mut out =
            Vec::with_capacity(model.len() + pages.iter().map(|page| page.len() + 24).sum::<usize>());
        out.push(self.width as u8);
        put_u64(&mut out, self.counts.len() as u64);
        for ((count, head), page) in self.counts.iter().zip(&self.heads).zip(&pages) {
            put_u64(&mut out, *count as u64);
            put_u64(&mut out, page.len() as u64);
            out.extend_from_slice(head);
        }
        out.extend_from_slice(&model);
        pages.iter().for_each(|page| out.extend_from_slice(page));
        out
    }

    fn narrow<T>(&self, cast: impl Fn(i64) -> T) -> Vec<T> {
        self.ints.iter().map(|int| cast(*int)).collect()
    }
}

/// The model, and a page for each run.
fn compress<T: pco::data_types::Number>(
    numbers: &[T],
    counts: &[usize],
) -> Result<(Vec<u8>, Vec<Vec<u8>>), PcoError> {
    let is_float = std::any::TypeId::of::<T>() == std::any::TypeId::of::<f64>();
    // Residuals are differences already; of floats we know nothing.
    let (mode, delta) =
        if is_float { (ModeSpec::Auto, DeltaSpec::Auto) } else { (ModeSpec::Classic, DeltaSpec::NoOp) };
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(mode)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(counts.to_vec()));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &config)?;
    let model = chunk.write_meta(file.write_header(Vec::new())?)?;
    let pages = (0..counts.len())
        .map(|run| chunk.write_page(run, Vec::with_capacity(chunk.page_size_hint(run))))
        .collect::<Result<_, _>>()?;
    Ok((model, pages))
}

/// A group that can be read.
#[derive(Debug)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    model: Model,
}

#[derive(Debug)]
struct Run {
    head: Head,
    /// Residuals, or floats.
    count: usize,
    page: std::ops::Range<usize>,
}

#[derive(Debug)]
enum Model {
    I16(ChunkDecompressor<i16>),
    I32(ChunkDecompressor<i32>),
    I64(ChunkDecompressor<i64>),
    F64(ChunkDecompressor<f64>),
}

/// Memory that decoding needs each time.
#[derive(Default)]
struct Scratch {
    pco: DecompressorScratch,
    i16s: Vec<i16>,
    i32s: Vec<i32>,
    i64s: Vec<i64>,
    f64s: Vec<f64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Group {
    pub fn parse(bytes: Vec<u8>) -> Result<Group, Malformed> {
        let mut cursor = Cursor::new(&bytes);
        let width = cursor.u8()?;
        let count = cursor.at_most(cursor.rest().len() / 2)?;
        let mut lens = Vec::with_capacity(count);
        let mut runs = Vec::with_capacity(count);
        for _ in 0..count {
            let count = cursor.at_most(RUN_SAMPLES_MAX)?;
            if count == 0 {
                return Err(Malformed("an empty run"));
            }
            lens.push(cursor.count()?);
            let head =
                if width == Width::F64 as u8 { Head::default() } else { Head::take_grouped(&mut cursor)? };
            runs.push(Run { head, count, page: 0..0 });
        }
        let (model, rest) = match width {
            0 => open(cursor.rest()).map(|(model, rest)| (Model::I16(model), rest)),
            1 => open(cursor.rest()).map(|(model, rest)| (Model::I32(model), rest)),
            2 => open(cursor.rest()).map(|(model, rest)| (Model::I64(model), rest)),
            3 => open(cursor.rest()).map(|(model, rest)| (Model::F64(model), rest)),
            _ => return Err(Malformed("an unknown width")),
        }
        .map_err(|_| Malformed("pco refuses the model"))?;
        let mut begin = bytes.len() - rest;
        for (run, len) in runs.iter_mut().zip(lens) {
            let end = begin.checked_add(len).filter(|end| *end <= bytes.len()).ok_or(ENDS)?;
            run.page = begin..end;
            begin = end;
        }
        Ok(Group { runs, model, bytes })
    }

    /// Appends the first values of a run, at least `limit` of its `count` (as its series says).
    pub fn decode(
        &self,
        run: usize,
        count: usize,
        limit: usize,
        out: &mut Vec<f64>,
    ) -> Result<(), Malformed> {
        let run = self.runs.get(run).ok_or(Malformed("a run that the group does not have"))?;
        let is_float = matches!(self.model, Model::F64(_));
        if run.count + usize::from(!is_float) != count {
            return Err(Malformed("a run of another length"));
        }
        let page = &self.bytes[run.page.clone()];
        // pco gives whole batches, or all.
        let wanted = limit.min(run.count).next_multiple_of(FULL_BATCH_N).min(run.count);
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { pco, i16s, i32s, i64s, f64s } = scratch;
            match &self.model {
                Model::I16(model) => {
                    read(model, page, run.count, wanted, pco, i16s)?;
                    run.head.restore(i16s, out);
                }
                Model::I32(model) => {
                    read(model, page, run.count, wanted, pco, i32s)?;
                    run.head.restore(i32s, out);
                }
                Model::I64(model) => {
                    read(model, page, run.count, wanted, pco, i64s)?;
                    run.head.restore(i64s, out);
                }
                Model::F64(model) => {
                    read(model, page, run.count, wanted, pco, f64s)?;
                    out.extend_from_slice(f64s);
                }
            }
            Ok(())
        })
    }

    /// Estimated memory.
    pub fn bytes(&self) -> usize {
        // The tables of a model: at most 2^12 entries of about 8 bytes, usually 2^10.
        self.bytes.len() + self.runs.len() * size_of::<Run>() + (8 << 10)
    }
}

const ENDS: Malformed = Malformed("the bytes end too early");

fn open<T: pco::data_types::Number>(bytes: &[u8]) -> Result<(ChunkDecompressor<T>, usize), PcoError> {
    let (file, rest) = FileDecompressor::new(bytes)?;
    let (chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
    Ok((chunk, rest.len()))
}

fn read<T: pco::data_types::Number>(
    model: &ChunkDecompressor<T>,
    page: &[u8],
    count: usize,
    wanted: usize,
    scratch: &mut DecompressorScratch,
    into: &mut Vec<T>,
) -> Result<(), Malformed> {
    into.clear();
    into.resize(wanted, T::default());
    let refused = |_| Malformed("pco refuses the run");
    let mut page = model.page_decompressor_with_scratch(page, count, scratch).map_err(refused)?;
    let progress = page.read(into).map_err(refused)?;
    if progress.n_processed == wanted { Ok(()) } else { Err(ENDS) }
}
