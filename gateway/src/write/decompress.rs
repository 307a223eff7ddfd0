//! Bodies as they come over the network, with a bound on what they become.

use std::io::Read as _;

use crate::backend::{Failure, FailureKind};

/// A body after decompression.
const RAW_BYTES_MAX: usize = 32 << 20;
/// What is kept for the next request.
const RAW_BYTES_KEPT: usize = 4 << 20;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    None,
    /// One block, as remote write has it.
    Snappy,
    Gzip,
    Zstd,
}

/// Decompresses one body after the other, in the same memory.
#[derive(Default)]
pub struct Decompressor {
    snappy: snap::raw::Decoder,
    raw: Vec<u8>,
}

impl Decompressor {
    /// The body as it was before it was compressed.
    ///
    /// # Errors
    ///
    /// [`FailureKind::TooLarge`] for more than 32 MiB, before memory of that
    /// size exists; [`FailureKind::BadData`] when it is not compressed so.
    pub fn decompress<'b>(&'b mut self, coding: Coding, body: &'b [u8]) -> Result<&'b [u8], Failure> {
        if self.raw.capacity() > RAW_BYTES_KEPT {
            self.raw = Vec::new();
        }
        match coding {
            Coding::None => {
                check(body.len())?;
                return Ok(body);
            }
            Coding::Snappy => {
                let length = snap::raw::decompress_len(body).map_err(bad)?;
                check(length)?;
                self.raw.resize(length, 0);
                self.snappy.decompress(body, &mut self.raw).map_err(bad)?;
            }
            Coding::Gzip => self.read(flate2::read::MultiGzDecoder::new(body))?,
            Coding::Zstd => self.read(zstd::stream::read::Decoder::with_buffer(body).map_err(bad)?)?,
        }
        Ok(&self.raw)
    }

    fn read(&mut self, from: impl std::io::Read) -> Result<(), Failure> {
        self.raw.clear();
        from.take(RAW_BYTES_MAX as u64 + 1).read_to_end(&mut self.raw).map_err(bad)?;
        check(self.raw.len())
    }
}

fn check(length: usize) -> Result<(), Failure> {
    if length <= RAW_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the body is over {RAW_BYTES_MAX} bytes decompressed");
    Err(Failure::new(FailureKind::TooLarge, message))
}

fn bad(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::BadData, format!("the body cannot be decompressed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_coding_gives_the_body_back_and_no_bomb_goes_off() {
        let mut decompressor = Decompressor::default();
        let gzip = |bytes: &[u8]| {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let snappy = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
        let bomb = vec![0; RAW_BYTES_MAX + 1];
        for (coding, good, large) in [
            (Coding::None, b"text".to_vec(), bomb.clone()),
            (Coding::Gzip, gzip(b"text"), gzip(&bomb)),
            (Coding::Zstd, zstd(b"text"), zstd(&bomb)),
            (Coding::Snappy, snappy(b"text"), snappy(&bomb)),
        ] {
            assert_eq!(decompressor.decompress(coding, &good), Ok(&b"text"[..]), "{coding:?}");
            let failure = decompressor.decompress(coding, &large).unwrap_err();
            assert_eq!(failure.kind, FailureKind::TooLarge, "{coding:?}");
            assert_eq!(decompressor.decompress(coding, &good), Ok(&b"text"[..]), "{coding:?} again");
            if coding != Coding::None {
                let failure = decompressor.decompress(coding, b"\xff\xfftext").unwrap_err();
                assert_eq!(failure.kind, FailureKind::BadData, "{coding:?}");
            }
        }
    }
}
