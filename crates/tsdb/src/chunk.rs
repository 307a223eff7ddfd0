//! A short run of one series' samples, compressed.
//!
//! ```text
//! sample  = time value
//! time    = varint(zigzag(delta of delta))      the first: delta to 0, then to 0
//! value   = control bytes                       xor with the value before; the first: with 0
//! control = 0x00                                the same bits as before
//!         | (skipped low bytes << 4 | n)        then n = 1..=8 bytes, least first
//! ```
//!
//! A regular scrape of a slowly moving value takes three to five bytes.
//! Arithmetic wraps, so every time and every bit pattern survives. These bytes
//! never leave memory: the format may change with any version.

use lm_model::{Sample, Timestamp};

/// A chunk is full at this many samples.
pub(crate) const SAMPLES_MAX: usize = 120;

/// At least one sample, in ascending time, no time twice.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub start: Timestamp,
    /// Time of the last sample, inclusive.
    pub last: Timestamp,
    pub len: usize,
    last_delta: i64,
    last_bits: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    pub fn new(first: Sample) -> Self {
        let mut chunk = Chunk {
            start: first.time,
            last: Timestamp::from_millis(0),
            len: 0,
            last_delta: 0,
            last_bits: 0,
            bytes: Vec::new(),
        };
        chunk.encode(first);
        chunk
    }

    /// # Panics
    ///
    /// If `samples` is empty.
    pub fn from_samples(samples: &[Sample]) -> Self {
        let (first, rest) = samples.split_first().expect("a chunk holds at least one sample");
        let mut chunk = Chunk::new(*first);
        for sample in rest {
            chunk.push(*sample);
        }
        chunk.bytes.shrink_to_fit();
        chunk
    }

    /// Appends a sample that is newer than all others.
    pub fn push(&mut self, sample: Sample) {
        assert!(sample.time > self.last, "push keeps time ascending");
        self.encode(sample);
        if self.is_full() {
            self.bytes.shrink_to_fit();
        }
    }

    pub fn is_full(&self) -> bool {
        self.len >= SAMPLES_MAX
    }

    pub fn last_bits(&self) -> u64 {
        self.last_bits
    }

    /// Memory of this chunk, its struct included.
    pub fn bytes(&self) -> usize {
        size_of::<Chunk>() + self.bytes.capacity()
    }

    pub fn iter(&self) -> impl Iterator<Item = Sample> + '_ {
        let mut input = Reader { bytes: &self.bytes };
        let (mut time, mut delta, mut bits) = (0i64, 0i64, 0u64);
        (0..self.len).map(move |_| {
            delta = delta.wrapping_add(unzigzag(input.varint()));
            time = time.wrapping_add(delta);
            bits ^= input.xor();
            Sample { time: Timestamp::from_millis(time), value: f64::from_bits(bits) }
        })
    }

    fn encode(&mut self, sample: Sample) {
        let delta = sample.time.as_millis().wrapping_sub(self.last.as_millis());
        put_varint(&mut self.bytes, zigzag(delta.wrapping_sub(self.last_delta)));
        let bits = sample.value.to_bits();
        put_xor(&mut self.bytes, bits ^ self.last_bits);
        self.last = sample.time;
        self.last_delta = delta;
        self.last_bits = bits;
        self.len += 1;
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_xor(out: &mut Vec<u8>, xor: u64) {
    if xor == 0 {
        out.push(0);
        return;
    }
    let skipped = (xor.trailing_zeros() / 8) as usize;
    let len = 8 - skipped - (xor.leading_zeros() / 8) as usize;
    out.push((skipped << 4 | len) as u8);
    out.extend_from_slice(&xor.to_le_bytes()[skipped..skipped + len]);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().expect("a chunk holds the bytes of all its samples");
        self.bytes = rest;
        *first
    }

    fn varint(&mut self) -> u64 {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    fn xor(&mut self) -> u64 {
        let control = self.byte();
        let (skipped, len) = (control >> 4, control & 0x0f);
        (skipped..skipped + len).fold(0, |xor, at| xor | u64::from(self.byte()) << (8 * at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(time: i64, value: f64) -> Sample {
        Sample { time: Timestamp::from_millis(time), value }
    }

    fn round_trip(samples: &[Sample]) {
        let chunk = Chunk::from_samples(samples);
        let decoded: Vec<_> = chunk.iter().map(|s| (s.time, s.value.to_bits())).collect();
        let expected: Vec<_> = samples.iter().map(|s| (s.time, s.value.to_bits())).collect();
        assert_eq!(decoded, expected);
        assert_eq!((chunk.start, chunk.last), (samples[0].time, samples[samples.len() - 1].time));
    }

    #[test]
    fn extremes_survive() {
        round_trip(&[
            sample(i64::MIN, f64::NAN),
            sample(-1, -0.0),
            sample(0, 0.0),
            sample(i64::MAX, f64::INFINITY),
        ]);
        round_trip(&[sample(5, lm_model::stale_nan())]);
    }

    #[test]
    fn a_regular_counter_is_small() {
        let samples: Vec<_> =
            (0..120).map(|i| sample(1_700_000_000_000 + i * 15_000, (i * 7) as f64)).collect();
        let chunk = Chunk::from_samples(&samples);
        assert!(chunk.bytes.len() < 120 * 5, "{} bytes", chunk.bytes.len());
    }

    proptest! {
        #[test]
        fn any_samples_survive(points in prop::collection::btree_map(any::<i64>(), any::<u64>(), 1..200)) {
            let samples: Vec<_> = points.into_iter().map(|(t, bits)| sample(t, f64::from_bits(bits))).collect();
            round_trip(&samples);
        }
    }
}
